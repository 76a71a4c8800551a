"""The metrics of all workers as those of one server, in Prometheus' text format.

Each worker counts for itself, in memory of its own. Counters and histograms are added up, those of
workers that have ended, too, so that none ever falls. prometheus_client's own mode for several
processes was not taken: it writes files, and knows no numbers that are read when they are asked
for, of which most gauges here are.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

Family: TypeAlias = Mapping[str, Any]
"""`name`, `type`, `help`, and `samples`: [name, labels, value] each; see `Metrics.families`."""

SUMMED_GAUGES = frozenset({"shortlist_requests_in_flight", "shortlist_compute_admitted"})
"""Gauges that tell of a worker's share of something."""
SAME_GAUGES = frozenset(
    {
        "shortlist_items",
        "shortlist_bundle_info",
        "shortlist_conversations_kept",
        "shortlist_conversations_kept_bytes",
        "shortlist_rerank_arms_off",
        "python_info",
    }
)
"""Gauges that are the same in each worker. All others, and what tells of the process itself, get
a label `worker`."""
OF_PROCESS = ("process_", "python_")

_Key: TypeAlias = tuple[str, tuple[tuple[str, str], ...]]


class MergedMetrics:
    """Adds up what workers count."""

    def __init__(self) -> None:
        self._ended: dict[_Key, float] = {}
        self._known: dict[str, Family] = {}

    def ended(self, families: Iterable[Family]) -> None:
        """Keep what a worker has counted that ends."""
        for family in families:
            if not _adds_up(family) or family["type"] == "gauge":
                continue
            self._known.setdefault(family["name"], {**family, "samples": []})
            for name, labels, value in family["samples"]:
                key = (name, tuple(sorted(labels.items())))
                self._ended[key] = self._ended.get(key, 0.0) + value

    def text(
        self, workers: Sequence[tuple[int, Sequence[Family]]], own: Iterable[Family] = ()
    ) -> str:
        """Return all metrics.

        Args:
            workers: Of each worker its number, and what it counts. Several may have one number,
                during a switch; the last of them tells what has a label `worker`.
            own: Metrics of the supervisor itself.
        """
        families: dict[str, Family] = dict(self._known)
        values: dict[str, dict[_Key, float]] = {name: {} for name in families}
        for key, value in self._ended.items():
            values[_family_of(key, families)][key] = value
        for number, counted in workers:
            for family in counted:
                families.setdefault(family["name"], family)
                _merge(values.setdefault(family["name"], {}), family, number)
        for family in own:
            families[family["name"]] = family
            _merge(values.setdefault(family["name"], {}), family, None)
        lines: list[str] = []
        for name, family in sorted(families.items()):
            shown = f"{name}_total" if family["type"] == "counter" else name
            lines += [f"# HELP {shown} {family['help']}", f"# TYPE {shown} {family['type']}"]
            lines += [_line(key, value) for key, value in values[name].items()]
        return "\n".join(lines) + "\n"


def family(name: str, kind: str, text: str, value: float) -> Family:
    """Return a metric of one number."""
    full = f"shortlist_{name}"
    sample = [f"{full}_total" if kind == "counter" else full, {}, value]
    return {"name": full, "type": kind, "help": text, "samples": [sample]}


def _family_of(key: _Key, families: Mapping[str, Family]) -> str:
    name = key[0]
    if name in families:
        return name
    return next(
        stem
        for suffix in ("_total", "_bucket", "_count", "_sum")
        if (stem := name.removesuffix(suffix)) != name and stem in families
    )


def _adds_up(family: Family) -> bool:
    name: str = family["name"]
    if name.startswith(OF_PROCESS):
        return False
    return family["type"] != "gauge" or name in SUMMED_GAUGES


def _merge(values: dict[_Key, float], family: Family, number: int | None) -> None:
    adds, same = _adds_up(family), number is None or family["name"] in SAME_GAUGES
    for name, labels, value in family["samples"]:
        if adds or same:
            key = (name, tuple(sorted(labels.items())))
            values[key] = value + values.get(key, 0.0) if adds else value
        else:
            values[(name, tuple(sorted({**labels, "worker": str(number)}.items())))] = value


def _line(key: _Key, value: float) -> str:
    name, labels = key
    inside = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels)
    return f"{name}{{{inside}}} {_number(value)}" if inside else f"{name} {_number(value)}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _number(value: float) -> str:
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return "NaN" if math.isnan(value) else repr(float(value))
