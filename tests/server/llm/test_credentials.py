"""Keys come from a variable or a file, and show themselves nowhere."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest
from shortlist_server.errors import ConfigError
from shortlist_server.llm.credentials import ApiKey, read_key

KEY = "sk-secret-3141592653589793"


def test_a_key_is_read_from_either_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    (tmp_path / "key").write_text(f"{KEY}\n")
    for places in (
        {"variable": "MY_KEY", "file": None},
        {"variable": None, "file": tmp_path / "key"},
    ):
        key = read_key("llm.key", **places)
        assert key is not None
        assert key.reveal() == KEY
        assert KEY not in f"{key} {key!r} {[key]}"
    assert read_key("llm.key", variable=None, file=None) is None
    assert ApiKey(KEY) == ApiKey(KEY)


@pytest.mark.parametrize("content", ["", "  ", f"{KEY} {KEY}", f"{KEY}é", f"{KEY}\nx", "k" * 5_000])
def test_what_is_no_key_is_refused_without_being_shown(
    content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "key"
    file.write_text(content)
    monkeypatch.setenv("MY_KEY", content)
    for places, name in (
        ({"variable": "MY_KEY", "file": None}, "llm.key_env: environment variable MY_KEY"),
        ({"variable": None, "file": file}, f"llm.key_file: {file}"),
    ):
        with pytest.raises(ConfigError, match=name) as caught:
            read_key("llm.key", **places)
        assert KEY not in "".join(traceback.format_exception(caught.value))
        assert "kkkk" not in str(caught.value)


def test_a_missing_place_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MY_KEY", raising=False)
    with pytest.raises(ConfigError, match="variable MY_KEY: expected a key"):
        read_key("llm.key", variable="MY_KEY", file=None)
    with pytest.raises(ConfigError, match=r"llm\.key_file: .*none: cannot be read: No such file"):
        read_key("llm.key", variable=None, file=tmp_path / "none")
    with pytest.raises(ConfigError, match=r"either this or llm\.key_file, got both"):
        read_key("llm.key", variable="MY_KEY", file=tmp_path / "none")
