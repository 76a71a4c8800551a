"""docs/http.md: its commands print what it says, and its table of statuses is right."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from http_calls import free_address
from serving_process import ServingProcess
from shell_examples import check_prints, commands, need_programs
from shortlist_exporters.export import export_bundle
from shortlist_server.rpc.http.front import BODY_S_MAX, IDLE_S
from shortlist_server.rpc.http.protocol import HEADERS_BYTES_MAX, HEADERS_S_MAX

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "http.md").read_text(encoding="utf-8")
ADDRESS = "127.0.0.1:8501"


def films() -> Any:
    spec = importlib.util.spec_from_file_location("films", DOCS / "examples/films.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@need_programs
def test_commands_print_what_the_page_says(tmp_path: Path) -> None:
    export_bundle(films().write_spec(tmp_path / "spec"), tmp_path / "bundle", version="1")
    address = free_address()
    (serve, _), *rest = commands(PAGE)
    assert serve.startswith("shortlist-server serve ")
    assert serve.endswith(f" --http {ADDRESS}")
    with ServingProcess(tmp_path / "bundle", "--http", address):
        assert len(rest) > 5
        for command, expected in rest:
            check_prints(command.replace(ADDRESS, address), expected, tmp_path)


def test_limits_are_those_of_the_server() -> None:
    page = " ".join(PAGE.split())
    assert f"A body has {BODY_S_MAX:.0f} s to come" in page
    assert f"closed after {IDLE_S} s without a call" in page
    assert f"headers of a request have {HEADERS_S_MAX:.0f} s to come" in page
    assert f"{HEADERS_BYTES_MAX >> 10} KiB of them" in page
