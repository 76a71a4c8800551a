from __future__ import annotations

from pathlib import Path

import pytest
from shortlist_server.config import ServerConfig, load_config
from shortlist_server.errors import ConfigError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "server.toml"
    path.write_text(
        'bundle = "from-file"\nlisten = "127.0.0.1:1"\ncompute_threads = 3\nwaiting_max = 7\n'
    )
    return path


def test_flags_win_over_environment_over_file_over_defaults(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHORTLIST_SERVER_LISTEN", "127.0.0.1:2")
    monkeypatch.setenv("SHORTLIST_SERVER_COMPUTE_THREADS", "4")
    config = load_config(file, {"listen": "127.0.0.1:3"})
    assert config.listen == "127.0.0.1:3"
    assert config.compute_threads == 4
    assert config.waiting_max == 7
    assert config.default_timeout_ms == 1_000


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (
            {"compute_threads": "-1"},
            ["compute_threads", "flag --compute-threads", "greater than or equal to 0"],
        ),
        ({"compute_threads": "many"}, ["compute_threads", "valid integer"]),
        ({"listen": "127.0.0.1:99999"}, ["listen", "0 to 65535", "99999"]),
        ({"listen": "127.0.0.1"}, ["listen", "HOST:PORT"]),
        ({"listen": "unix:/tmp/x"}, ["listen", "HOST:PORT"]),
        ({"log_level": "loud"}, ["log_level", "'debug'"]),
    ],
)
def test_wrong_value_is_refused_by_name_and_origin(
    file: Path, flags: dict[str, str], words: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(file, flags)
    for word in words:
        assert word in str(caught.value)


def test_wrong_value_of_the_environment_names_the_variable(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHORTLIST_SERVER_WAITING_MAX", "-1")
    with pytest.raises(ConfigError, match="environment variable SHORTLIST_SERVER_WAITING_MAX"):
        load_config(file, {})


def test_unknown_field_of_the_file_is_refused(file: Path) -> None:
    file.write_text(file.read_text() + "lisen = 'typo'\n")
    with pytest.raises(ConfigError, match=r"lisen .*server\.toml"):
        load_config(file, {})


def test_missing_bundle_says_how_to_set_it() -> None:
    with pytest.raises(ConfigError, match=r"bundle .*--bundle, SHORTLIST_SERVER_BUNDLE"):
        load_config(None, {})


def test_file_that_is_missing_or_no_toml_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere.toml: cannot be read"):
        load_config(tmp_path / "nowhere.toml", {})
    (tmp_path / "bad.toml").write_text("bundle = ")
    with pytest.raises(ConfigError, match=r"bad.toml: expected TOML"):
        load_config(tmp_path / "bad.toml", {})


def test_every_field_is_documented() -> None:
    for name, field in ServerConfig.model_fields.items():
        assert field.description, name


def test_folding_changes_in_needs_a_store_and_a_folder(tmp_path: Path) -> None:
    base = {"bundle": str(tmp_path), "compact_at": "10"}
    with pytest.raises(ConfigError, match=r"compact_at .*: expected catalog_store beside it"):
        load_config(None, base)
    with pytest.raises(ConfigError, match=r"compact_at .*: expected state_dir beside it"):
        load_config(None, base | {"catalog_store": "c.sqlite"})
    both = {"bundle": str(tmp_path), "catalog_store": "c.sqlite", "state_dir": str(tmp_path)}
    assert load_config(None, both | {"compact_at": "10"}).compaction_rows == 10
    assert load_config(None, both).compaction_rows == 50_000
    assert load_config(None, both | {"compact_at": "0"}).compaction_rows == 0
    assert load_config(None, base | {"compact_at": "0"}).compaction_rows == 0
    del both["state_dir"]
    assert load_config(None, both).compaction_rows == 0
