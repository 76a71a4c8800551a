"""A bundle's own prompt for language models: exported, loaded, and refused where it is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_world
from shortlist_exporters.errors import SpecError
from shortlist_exporters.export import export_bundle
from shortlist_server.errors import BundleCorrupt
from shortlist_server.funnel.budget import Budget
from shortlist_server.funnel.options import Options, RerankOptions
from shortlist_server.funnel.types import Query, User
from shortlist_server.generation import load_generation

TEMPLATE = """
title = "title"
attributes = ["genres"]
system = "Put in order."
user = "$data"
whole = "All."
subset = "Some."
reasons = "Why?"
"""


def exported(folder: Path, text: str | bytes, **changes: Any) -> Path:
    spec = tiny_world.write_spec(
        folder / "spec", **{"prompts": {"rerank": "order.toml"}, **changes}
    )
    data = text if isinstance(text, bytes) else text.encode()
    (folder / "spec/order.toml").write_bytes(data)
    export_bundle(spec, folder / "bundle", version="1")
    return folder / "bundle"


def test_the_bundles_prompt_reaches_who_asks_a_language_model(tmp_path: Path) -> None:
    generation = load_generation(exported(tmp_path, TEMPLATE))
    options = Options(rerank=RerankOptions())
    ranked = generation.funnel.ranked(Query(subject=User(id="u1")), options, Budget(10))
    assert generation.funnel.to_rerank(ranked).template == TEMPLATE
    section = generation.bundle.manifest.prompts
    assert section is not None
    assert not section.required


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TEMPLATE.replace("$data", "none"), r"prompts/rerank.toml: user: expected \$data"),
        ("no TOML", "prompts/rerank.toml: expected TOML"),
        (b"\xff" + TEMPLATE.encode(), "prompts/rerank.toml: expected UTF-8"),
        ("#" * 65_537, "prompts/rerank.toml: expected at most 65536 bytes, got 65537"),
    ],
)
def test_a_prompt_that_is_none_is_refused_by_its_file(
    tmp_path: Path, text: str | bytes, message: str
) -> None:
    with pytest.raises(BundleCorrupt, match=message):
        load_generation(exported(tmp_path, text))


def test_a_prompt_that_is_not_there_is_refused_by_its_field(tmp_path: Path) -> None:
    spec = tiny_world.write_spec(tmp_path / "spec", prompts={"rerank": "nowhere.toml"})
    with pytest.raises(SpecError, match=r"prompts\.rerank: .*nowhere\.toml: cannot be read"):
        export_bundle(spec, tmp_path / "bundle", version="1")
