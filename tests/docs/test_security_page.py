"""docs/security.md: its commands run as they stand, and its tables are complete."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from serving_process import ServingProcess, run_server
from shortlist_client.cli import main
from shortlist_server.access.api_keys import Scope
from shortlist_server.rpc.access import METHOD_SCOPES

PAGE = (Path(__file__).parents[2] / "docs/security.md").read_text(encoding="utf-8")
TARGET = "127.0.0.1:8500"


def block(language: str) -> str:
    (content,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return str(content)


def make_key(arguments: str, folder: Path) -> None:
    """What a shell would do with `>> keys.toml 2> FILE`."""
    command, keys, file = re.fullmatch(r"(.*) >> (\S+) 2> (\S+)", arguments).groups()  # type: ignore[union-attr]
    result = run_server(*shlex.split(command))
    assert result.returncode == 0, result.stderr
    with (folder / keys).open("a") as opened:
        opened.write(result.stdout)
    (folder / file).write_text(result.stderr)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="the page makes a certificate by it")
def test_commands_run_as_they_stand(
    tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHORTLIST_TARGET", "")
    (tmp_path / "bundle").symlink_to(tiny_bundle)
    toml = re.findall(r"```toml\n(# server.toml.*?)```", PAGE, re.DOTALL)[0]
    (tmp_path / "server.toml").write_text(toml)
    commands = re.findall(r"^\$ (\S+) (.*)(?=\n(.*))", PAGE, re.MULTILINE)
    names = [f"{name} {arguments.split()[0]}" for name, arguments, _ in commands]
    assert names == [
        "shortlist-server serve",
        "openssl req",
        "shortlist-server make-key",
        "shortlist-server make-key",
        "shortlist-server serve",
        "shortlist recommend",
        "shortlist stats",
    ]
    (_, refused, said), (_, openssl, _), *keys, (_, serve, _) = commands[:5]
    result = run_server(*shlex.split(refused))
    assert (result.returncode, result.stderr.strip()) == (1, said)
    subprocess.run(["openssl", *shlex.split(openssl)], check=True, capture_output=True)
    for _, arguments, _ in keys:
        make_key(arguments, tmp_path)
    assert (tmp_path / "keys.toml").read_text().count("sl_") == 0
    _, _, bundle, *flags = shlex.split(serve)
    with ServingProcess(Path(bundle), *flags) as server:
        for _, arguments, _ in commands[5:]:
            with contextlib.redirect_stdout(io.StringIO()) as printed:
                code = main([*shlex.split(arguments), "--target", server.target])
            assert code == 0
            assert printed.getvalue().strip()
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(compile(block("python").replace(TARGET, server.target), "page", "exec"), {})
        assert printed.getvalue() == block("text")


def test_tables_are_complete() -> None:
    for scope in Scope:
        assert re.search(rf"^\| .*`{scope}`.* \|", PAGE, re.MULTILINE), scope
    for method, scopes in METHOD_SCOPES.items():
        name = method.rpartition("/")[2]
        for scope in scopes:
            if scope is not Scope.REFLECTION:
                assert re.search(rf"^\| `{scope}` \| .*`{name}`", PAGE, re.MULTILINE), (scope, name)
