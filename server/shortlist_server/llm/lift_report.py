"""What re-ranking by a language model has been found to change: a file that `evaluate-rerank`
writes, and the server reads. An arm is a model with a version of a prompt.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

FORMAT = 1
REPORT_BYTES_MAX = 4 << 20


class LiftReportInvalid(ValueError):
    """A file is no lift report; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmLift:
    """What one arm changes. NDCG is of the lists as callers had them, and without the model."""

    model: str
    prompt: str
    request_count: int
    user_count: int
    k: int
    """The items of a list that count."""
    ndcg_with: float
    ndcg_without: float
    lift: float
    """Mean difference of the two, by request."""
    lift_low: float
    lift_high: float
    """Bounds of its interval at `confidence`."""
    confidence: float
    log: str
    """Where it was measured."""
    last_time: str
    """Time of the last of the requests."""

    @property
    def name(self) -> tuple[str, str]:
        """Which arm it is."""
        return self.model, self.prompt


def read_report(file: Path) -> dict[tuple[str, str], ArmLift]:
    """Return the arms of a report by model and prompt.

    Raises:
        LiftReportInvalid: it is none.
        OSError: it cannot be read.
    """
    with file.open("rb") as opened:
        data = opened.read(REPORT_BYTES_MAX + 1)
    if len(data) > REPORT_BYTES_MAX:
        raise LiftReportInvalid(f"expected at most {REPORT_BYTES_MAX} bytes, got more")
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise LiftReportInvalid(f"expected JSON: {error}") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        got = document.get("format") if isinstance(document, dict) else type(document).__name__
        raise LiftReportInvalid(
            f"format: expected {FORMAT}, as `shortlist-server evaluate-rerank` writes, got {got!r}"
        )
    arms = document.get("arms")
    if not isinstance(arms, list):
        raise LiftReportInvalid(f"arms: expected a list, got a {type(arms).__name__}")
    read = [_arm(arm, f"arms[{place}]") for place, arm in enumerate(arms)]
    return {arm.name: arm for arm in read}


def write_report(file: Path, arms: Mapping[tuple[str, str], ArmLift]) -> None:
    """Write a report in place of the one that is there, if there is one.

    Raises:
        OSError: it cannot be written.
    """
    ordered = [asdict(arms[name]) for name in sorted(arms)]
    text = json.dumps({"format": FORMAT, "arms": ordered}, indent=1, ensure_ascii=False)
    # A server that reads meanwhile sees one or the other, whole.
    hidden = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        hidden.write_text(f"{text}\n", encoding="utf-8")
        hidden.replace(file)
    except OSError:
        with contextlib.suppress(OSError):
            hidden.unlink()
        raise


def _arm(arm: Any, where: str) -> ArmLift:
    if not isinstance(arm, dict):
        raise LiftReportInvalid(f"{where}: expected an object, got a {type(arm).__name__}")
    values: dict[str, Any] = {}
    for field in fields(ArmLift):
        kind, value = str(field.type), arm.get(field.name)
        # JSON tells no 1 from 1.0.
        if kind == "float" and isinstance(value, int) and abs(value) < 1 << 53:
            value = float(value) if not isinstance(value, bool) else value
        fits = type(value).__name__ == kind
        if not fits or (isinstance(value, float) and not math.isfinite(value)):
            raise LiftReportInvalid(f"{where}.{field.name}: expected a {kind}, got {value!r:.40}")
        values[field.name] = value
    return ArmLift(**values)
