"""What makes shells complete `shortlist`: as its arguments are, and understood by a real bash."""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path
from types import ModuleType

import pytest
from shortlist_client.cli import main
from shortlist_client.cli.completion import SHELLS

ROOT = Path(__file__).parents[2]

COMPLETE = """
source "$1"
complete -p shortlist | grep -q _shtab_shortlist || exit 9
shift
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_shtab_shortlist
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def completions() -> ModuleType:
    spec = importlib.util.spec_from_file_location("completions", ROOT / ".ci/completions.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("shell", SHELLS)
def test_what_is_committed_is_what_the_arguments_give(
    completions: ModuleType, shell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["completion", shell]) == 0
    printed = capsys.readouterr().out
    assert printed.rstrip() == completions.script(shell).rstrip(), "run `make completions`"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["re"], {"recommend", "retrieve"}),
        (["--target", "h:1", "stat"], {"stats"}),
        (["recommend", "--di"], {"--diversity"}),
        (["rank", "50", "--ranker", ""], {"bundle", "llm", "blend"}),
        (["call", "Get"], {"GetActiveBundle", "GetItem", "GetCatalogStats"}),
        (["upsert", "films"], {"films.jsonl"}),
    ],
)
def test_bash_completes_commands_options_choices_and_files(
    tmp_path: Path,
    words: list[str],
    expected: set[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["completion", "bash"]) == 0
    (tmp_path / "script").write_text(capsys.readouterr().out)
    (tmp_path / "films.jsonl").touch()
    run = subprocess.run(
        ["bash", "-c", COMPLETE, "bash", tmp_path / "script", "shortlist", *words],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    assert set(run.stdout.split()) == expected
