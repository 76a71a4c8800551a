"""Runs the clients' tests against real servers, language by language, and checks the table in
docs/clients.md: `make test-clients`, or `make test-clients WRITE=--write` to write the table.

Each language starts its own servers, all in the same state, and sends them the vectors of
tests/data/requests.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from request_vectors import methods, vectors

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/clients.md"
BEGIN, END = "<!-- written by make test-clients -->\n", "<!-- end -->\n"


@dataclass(frozen=True)
class Language:
    """How the tests of a client are run."""

    name: str
    needs: str
    """Program that must be there."""
    command: Sequence[str]
    folder: Path


LANGUAGES = (
    Language(
        "Python",
        sys.executable,
        [sys.executable, "-m", "pytest", "-q", "tests/clients/test_request_vectors.py"],
        ROOT,
    ),
    Language("Go", "go", ["go", "test", "-count=1", "./..."], ROOT / "clients/go"),
    Language("Java", "mvn", ["mvn", "-B", "-ntp", "test"], ROOT / "clients/java"),
    Language("TypeScript", "npm", ["npm", "test"], ROOT / "clients/typescript"),
)

CPP = Language(
    "C++",
    "grpc_cpp_plugin",
    [sys.executable, "-m", "pytest", "-q", "tests/clients/cpp/stubs.py"],
    ROOT,
)
"""Stubs alone, without a client of ours, so that no vectors are sent."""


def main() -> int:
    """Run what is asked for; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the table, if all is well")
    arguments = parser.parse_args()
    absent = [language.needs for language in LANGUAGES if not shutil.which(language.needs)]
    if absent:
        print(f"make test-clients: {', '.join(absent)}: not installed", file=sys.stderr)
        return 1
    answered = {language.name: run(language) for language in LANGUAGES}
    failed = [name for name, counts in answered.items() if counts is None]
    if not shutil.which(CPP.needs):
        print(
            f"-- {CPP.name}: left out, {CPP.needs} is not installed (Debian: apt-get install "
            "protobuf-compiler-grpc libgrpc++-dev libprotobuf-dev pkg-config)",
            flush=True,
        )
    elif run(CPP) is None:
        failed.append(CPP.name)
    if failed:
        print(f"make test-clients: failed in {', '.join(failed)}", file=sys.stderr)
        return 1
    return check({name: counts or {} for name, counts in answered.items()}, write=arguments.write)


def run(language: Language) -> Mapping[str, int] | None:
    """Run the tests of a client; returns how many vectors of each method were answered as expected,
    None where a test failed.
    """
    print(f"-- {language.name}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        environment = {
            "SHORTLIST_PYTHON": sys.executable,
            "SHORTLIST_VECTORS_REPORT": str(report),
        }
        ended = subprocess.run(
            language.command, cwd=language.folder, env=os.environ | environment, check=False
        )
        if ended.returncode:
            return None
        counts: Mapping[str, int] = json.loads(report.read_text()) if report.exists() else {}
        return counts


def check(answered: Mapping[str, Mapping[str, int]], *, write: bool) -> int:
    """Compare the page with the run, or write it; returns the exit code."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    new = f"{before}{BEGIN}{table(answered)}{END}{after}"
    if new == text:
        return 0
    if write:
        PAGE.write_text(new, encoding="utf-8")
        return 0
    print(
        "make test-clients: the table in docs/clients.md is not what this run gives; "
        "make test-clients WRITE=--write",
        file=sys.stderr,
    )
    return 1


def table(answered: Mapping[str, Mapping[str, int]]) -> str:
    """Return the table: methods by languages, and how many vectors are answered equally."""
    sent = Counter(vector.method for vector in vectors())
    lines = [
        f"| RPC | vectors | {' | '.join(answered)} |",
        f"| --- |{' --- |' * (len(answered) + 1)}",
    ]
    for method in methods():
        cells = [str(counts.get(method, 0)) for counts in answered.values()]
        name = method.removeprefix("shortlist.v1.").replace("/", ".")
        lines.append(f"| `{name}` | {sent[method]} | {' | '.join(cells)} |")
    return "".join(f"{line}\n" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
