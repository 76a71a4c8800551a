"""docs/playground.md: its commands do what it says, and what it says of the page is so."""

from __future__ import annotations

import gzip
import re
import shlex
from pathlib import Path

import pytest
from http_calls import free_address, post
from serving_process import ServingProcess, run_server
from shortlist_server.access.api_keys import IMPLIED, Scope, read_keys
from shortlist_server.rpc.http.playground import FOLDER, HEADERS

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "playground.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^\$ shortlist-server (.*)$", PAGE, re.MULTILINE)
BUILT = (FOLDER / "index.html").is_file()
not_built = pytest.mark.skipif(not BUILT, reason="the page is not built: make playground")


@not_built
def test_it_is_served_as_the_page_says(tiny_bundle: Path) -> None:
    command = next(line for line in COMMANDS if line.startswith("serve "))
    address = free_address()
    _, _, _, *flags = shlex.split(command.replace("127.0.0.1:8501", address))
    path = re.search(r"`http://127.0.0.1:8501(/\S+)`", PAGE)
    assert path is not None
    with ServingProcess(tiny_bundle, *flags):
        reply = post(address, path[1], b"", method="GET")
    assert reply.status == 200
    assert b"<title>Shortlist playground</title>" in reply.body


def test_its_key_is_one(tmp_path: Path) -> None:
    command = next(line for line in COMMANDS if line.startswith("make-key "))
    line, _, file = command.partition(" >> ")
    made = run_server(*shlex.split(line))
    assert made.returncode == 0, made.stderr
    (tmp_path / file).write_text(made.stdout)
    (key,) = read_keys(tmp_path / file)
    assert key.scopes == {Scope.PLAYGROUND, Scope.RERANK} | IMPLIED[Scope.PLAYGROUND]


def test_its_headers_are_those_that_are_sent() -> None:
    sent = {name.decode() for name, _ in HEADERS}
    named = set(re.findall(r"`((?:content|x|referrer)-[a-z-]+)`", PAGE))
    assert named <= sent
    assert "content-security-policy" in named


@not_built
def test_it_is_as_large_as_the_page_says() -> None:
    said = re.search(r"are (\d+) KB compressed, of which (\d+) are the program", PAGE)
    assert said is not None
    sizes = {file.name: len(gzip.compress(file.read_bytes())) / 1e3 for file in FOLDER.iterdir()}
    assert sum(sizes.values()) == pytest.approx(int(said[1]), rel=0.05)
    assert sizes["playground.js"] == pytest.approx(int(said[2]), rel=0.05)
