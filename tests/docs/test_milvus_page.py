"""docs/milvus.md names every setting of its section."""

from __future__ import annotations

import re
from pathlib import Path

from shortlist_server.config_milvus import MilvusConfig

PAGE = Path(__file__).parents[2] / "docs/milvus.md"


def test_every_setting_stands_in_the_table() -> None:
    rows = re.findall(r"^\| (`[^|]*) \| ([^|]*) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    told = {name: default for names, default in rows for name in re.findall(r"`([a-z_]+)`", names)}
    fields = MilvusConfig.model_fields
    assert told.keys() == fields.keys()
    for name, field in fields.items():
        known = {None: "none", "": "empty"}.get(field.default, str(field.default))
        assert told[name] == ("none" if field.is_required() else known), name
