"""A change of the protos that breaks callers is refused, and one that does not is not."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUF = ROOT / ".venv-protos/bin/buf"

pytestmark = pytest.mark.skipif(not BUF.exists(), reason="buf is not installed: `make lint`")

BREAKING = {
    "a field is removed": (r"  int32 limit = 2;", "", 'name "limit" .* was deleted'),
    "it is reserved": (r"  int32 limit = 2;", "  reserved 2;", 'name "limit" .* was deleted'),
    "it has another number": (r"int32 limit = 2;", "int32 limit = 99;", '"2" .* was deleted'),
    "it has another name": (r"int32 limit = 2;", "int32 most = 2;", '"limit" to "most"'),
    "it has another type": (r"int32 limit = 2;", "string limit = 2;", '"int32" to "string"'),
    "it has many values": (r"int32 limit = 2;", "repeated int32 limit = 2;", 'to "repeated"'),
    "a method is removed": (r"  rpc Retrieve\(.*?\n", "", 'RPC "Retrieve" .* was deleted'),
    "it has another answer": (
        r"(rpc Retrieve\(.*?) returns \(\w+\)",
        r"\1 returns (RankResponse)",
        'RPC "Retrieve" .* changed response type',
    ),
    "it answers several times": (
        r"(rpc Retrieve\(.*?) returns \(",
        r"\1 returns (stream ",
        'RPC "Retrieve" .* server',
    ),
    "a message has another name": (
        r"\bStreamRecommendRequest\b",
        "StreamRequest",
        '"StreamRecommendRequest" was deleted',
    ),
    "the Go package is another": (r'(go_package = ")', r"\1x.", '"go_package" changed'),
}
HARMLESS = {
    "nothing": (r"$", ""),
    "a field": (r"  int32 limit = 2;", "  int32 limit = 2;\n  int32 later = 99;"),
    "a method": (r"(  rpc) Retrieve(\(.*?\n)", r"\1 Retrieve\2\1 RetrieveAgain\2"),
    "a comment": (r"// ", "// Now. "),
}


@pytest.fixture
def protos(tmp_path: Path) -> Path:
    return Path(shutil.copytree(ROOT / "protos", tmp_path / "protos"))


def changed(protos: Path, pattern: str, replacement: str) -> subprocess.CompletedProcess[str]:
    file = protos / "shortlist/v1/recommendation.proto"
    text, count = re.subn(pattern, replacement, file.read_text(), flags=re.DOTALL)
    assert count
    file.write_text(text)
    command = [BUF, "breaking", protos, "--against", protos / "published.binpb"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("pattern", "replacement", "said"), BREAKING.values(), ids=BREAKING)
def test_what_breaks_callers_is_refused(
    protos: Path, pattern: str, replacement: str, said: str
) -> None:
    ended = changed(protos, pattern, replacement)
    assert ended.returncode
    assert re.search(said, ended.stdout), ended.stdout


@pytest.mark.parametrize(("pattern", "replacement"), HARMLESS.values(), ids=HARMLESS)
def test_what_breaks_nobody_is_not(protos: Path, pattern: str, replacement: str) -> None:
    ended = changed(protos, pattern, replacement)
    assert ended.returncode == 0, ended
