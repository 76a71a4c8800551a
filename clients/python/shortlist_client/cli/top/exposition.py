"""The text in which servers show their metrics to Prometheus."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_SAMPLE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)(?:\s+-?\d+)?$")
_LABEL = re.compile(r'([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"')
_ESCAPED = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True)
class Sample:
    """One number of a metric."""

    labels: Mapping[str, str]
    value: float


def parse_metrics(text: str) -> dict[str, list[Sample]]:
    """Return the samples of a page by the name that they have there.

    Lines that are none are skipped: what a later version adds is not for this one to refuse.
    """
    samples: dict[str, list[Sample]] = {}
    for line in text.splitlines():
        found = _SAMPLE.match(line) if not line.startswith("#") else None
        if found is None:
            continue
        name, labels, value = found.groups()
        try:
            number = float(value)
        except ValueError:
            continue
        pairs = {key: _unescaped(raw) for key, raw in _LABEL.findall(labels or "")}
        samples.setdefault(name, []).append(Sample(pairs, number))
    return samples


def _unescaped(raw: str) -> str:
    return _ESCAPED.sub(lambda found: "\n" if found[1] == "n" else found[1], raw)
