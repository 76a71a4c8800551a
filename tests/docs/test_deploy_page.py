"""docs/deploy.md names settings, arguments, files and flags that there are, and its Python runs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml
from shortlist_client import Client
from shortlist_server import health
from shortlist_server.config import ENV_PREFIX, ServerConfig

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/deploy.md").read_text(encoding="utf-8")
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


def test_python_runs_as_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    """No client connects before its first call."""
    made: list[Client] = []
    begin = Client.__init__

    def remember(self: Client, *args: object, **kwargs: object) -> None:
        made.append(self)
        begin(self, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(Client, "__init__", remember)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(code, "docs/deploy.md", "exec"), {})
    assert len(made) == 2
    for client in made:
        client.close()


def test_settings_are_those_of_the_server() -> None:
    fields = {f"{ENV_PREFIX}{name.upper()}" for name in ServerConfig.model_fields}
    named = set(re.findall(rf"{ENV_PREFIX}[A-Z_]+(?![A-Z_.])", PAGE))
    assert len(named) >= 4
    assert named <= fields
    assert set(re.findall(rf"{ENV_PREFIX}[A-Z_]+", DOCKERFILE)) <= fields


def test_build_arguments_are_those_of_the_dockerfile() -> None:
    named = set(re.findall(r"--build-arg (\w+)=", PAGE))
    assert named
    assert named <= set(re.findall(r"^ARG (\w+)=", DOCKERFILE, re.MULTILINE))


def test_health_commands_have_flags_that_there_are() -> None:
    commands = re.findall(r'"shortlist-server health ([^"`]*)"', PAGE)
    assert commands
    for command in commands:
        health.parser().parse_args(shlex.split(command))


def test_parts_of_envoy_are_in_its_configuration() -> None:
    text = (ROOT / "docs/deploy/envoy.yaml").read_text(encoding="utf-8")
    (table,) = re.findall(r"\| part \| what it does \|\n\|.*\n((?:\|.*\n)+)", PAGE)
    parts = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    assert len(parts) >= 8
    for part in parts:
        assert re.search(rf"^\s+{part}:", text, re.MULTILINE), part


def test_notice_of_the_manifests_is_longer_than_envoy_takes_to_see_it() -> None:
    envoy = yaml.safe_load((ROOT / "docs/deploy/envoy.yaml").read_text(encoding="utf-8"))
    (cluster,) = envoy["static_resources"]["clusters"]
    (check,) = cluster["health_checks"]
    interval, timeout = (float(check[name].removesuffix("s")) for name in ("interval", "timeout"))
    needed_ms = 1e3 * (interval * check["unhealthy_threshold"] + timeout)
    config = yaml.safe_load((ROOT / "docs/deploy/kubernetes/config.yaml").read_text("utf-8"))
    assert int(config["data"][f"{ENV_PREFIX}DRAIN_NOTICE_MS"]) > needed_ms
    assert f"above {needed_ms:,.0f}" in PAGE
