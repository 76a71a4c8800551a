"""docs/codelab.md: its commands print what it says, and its figures are those of the benchmark."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

from benchmark_modules import benchmark
from http_calls import free_address
from serving_process import ServingProcess
from shell_examples import check_prints, commands, need_programs
from shortlist_exporters.export import export_bundle

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "codelab.md").read_text(encoding="utf-8")
ADDRESS = "127.0.0.1:5000"


@need_programs
def test_commands_print_what_the_page_says(tmp_path: Path) -> None:
    loader = importlib.util.spec_from_file_location("films", DOCS / "examples/films.py")
    assert loader is not None
    assert loader.loader is not None
    films = importlib.util.module_from_spec(loader)
    loader.loader.exec_module(films)
    export_bundle(films.write_spec(tmp_path / "spec"), tmp_path / "bundle", version="1")
    address = free_address()
    (serve, _), *asked = commands(PAGE)
    program, run, *flags = serve.replace(ADDRESS, address).split()
    assert [program, run, *flags[:2]] == [
        "shortlist-server",
        "serve",
        "--bundle",
        "build/films/bundle",
    ]
    with ServingProcess(tmp_path / "bundle", *flags[2:]):
        assert len(asked) > 2
        for command, expected in asked:
            check_prints(command.replace(ADDRESS, address), expected, tmp_path)


def test_figures_are_those_of_the_benchmark() -> None:
    report = json.loads((DOCS.parent / "benchmarks/results/codelab.json").read_text())
    section = "\n".join(benchmark("report_codelab").lines(report))
    assert section in (DOCS / "benchmarks.md").read_text(encoding="utf-8")
    same = report["agreement"]["drop-in, as the codelab"]["same_order"]
    assert f"to all {same} users of MovieLens 100K the same in the same order" in PAGE
