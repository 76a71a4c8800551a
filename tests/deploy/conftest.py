"""Two bundles that differ by their version alone, which tells who answered."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_world
from shortlist_exporters.export import export_bundle

VERSIONS = ("one", "two")


@pytest.fixture(scope="session")
def two_bundles(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("two")
    spec = tiny_world.write_spec(folder / "spec")
    for version in VERSIONS:
        export_bundle(spec, folder / version, version=version)
    return [folder / version for version in VERSIONS]
