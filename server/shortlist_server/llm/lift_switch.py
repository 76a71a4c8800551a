"""Switches off what makes lists worse: a model with a prompt whose measured lift is negative."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from shortlist_server.file_watch import FileWatch
from shortlist_server.llm.lift_report import ArmLift, LiftReportInvalid, read_report

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class LiftOptions:
    """When an arm is switched off."""

    file: Path
    """The report; it may come, change and go while the server runs."""
    confidence: float = 0.95
    """Least confidence of a report's intervals that counts."""
    users_min: int = 100
    """Least number of users that an arm must have been measured with."""


class LiftSwitch:
    """Knows which arms are off, by a file that is read again when it changes."""

    def __init__(self, options: LiftOptions, *, now: Callable[[], float] = time.monotonic) -> None:
        """Read the file, if there is one.

        Raises:
            LiftReportInvalid: it is no report.
            OSError: it is there, and cannot be read.
        """
        self._options = options
        self._watch = FileWatch(options.file, now=now)
        self._off: Mapping[tuple[str, str], ArmLift] = {}
        if self._watch.is_there:
            self._take(read_report(options.file))
        else:
            logger.info("rerank.lift_report: %s is not there yet", options.file)

    def off(self, model: str, prompt: str) -> ArmLift | None:
        """Return why an arm is switched off; None where it is not."""
        self._look()
        return self._off.get((model, prompt))

    @property
    def off_count(self) -> int:
        """Number of arms that are switched off."""
        self._look()
        return len(self._off)

    def _look(self) -> None:
        """Read the file again if it has changed; a broken one changes nothing."""
        if not self._watch.changed():
            return
        if not self._watch.is_there:
            self._take({})
            return
        try:
            self._take(read_report(self._options.file))
        except (LiftReportInvalid, OSError) as error:
            file = self._options.file
            logger.error("rerank.lift_report: %s: all stays as it was: %s", file, error)

    def _take(self, arms: Mapping[tuple[str, str], ArmLift]) -> None:
        weak = [arm for arm in arms.values() if arm.confidence < self._options.confidence]
        if weak:
            logger.warning(
                "rerank.lift_report: %s: %d arms do not count: expected a confidence of at least "
                "%g, got %g",
                self._options.file,
                len(weak),
                self._options.confidence,
                min(arm.confidence for arm in weak),
            )
        off = {name: arm for name, arm in arms.items() if self._is_off(arm)}
        for name in sorted(off.keys() - self._off.keys()):
            logger.warning("rerank: %s with %s is switched off: %s", *name, why(off[name]))
        for name in sorted(self._off.keys() - off.keys()):
            logger.info("rerank: %s with %s is asked again", *name)
        self._off = off

    def _is_off(self, arm: ArmLift) -> bool:
        options = self._options
        sure = arm.confidence >= options.confidence and arm.user_count >= options.users_min
        return sure and arm.lift_high < 0


def why(arm: ArmLift) -> str:
    """Return what was measured of an arm, in a few words."""
    return (
        f"NDCG@{arm.k} {arm.lift:+.4f} ({arm.lift_low:+.4f}..{arm.lift_high:+.4f} at "
        f"{arm.confidence:g}) by {arm.request_count:,} requests of {arm.user_count:,} users"
    )
