"""A whole log, answered again by one bundle or two: read this first."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from shortlist_server.observability.log_row import LogRow
from shortlist_server.replay.comparison import COMPARED, Comparison, Outcome, Tally, compare
from shortlist_server.replay.reader import PlacedRow
from shortlist_server.replay.runner import Replayed, Replayer

LOG = "log"
LABELS = ("A", "B")


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A request that did not come out the same."""

    file: str
    position: int
    """Position in the file, 0 for the first."""
    request_id: str
    kind: str
    outcome: Outcome
    overlap: float
    score_change_max: float
    error: str
    """Why there is no answer; empty where there is one."""


@dataclass(slots=True, kw_only=True)
class Versus:
    """One side compared with another, over the whole log."""

    side: str
    """`A` or `B`."""
    against: str
    """`log` or `A`."""
    tally: Tally = field(default_factory=Tally)
    examples: list[Example] = field(default_factory=list)
    """The first requests that did not come out the same, in the log's order."""


@dataclass(slots=True, kw_only=True)
class Report:
    """What became of a log."""

    request_count: int = 0
    files: set[str] = field(default_factory=set)
    first_ns: int = 0
    """Times of the first and the last request, in nanoseconds since 1970-01-01 UTC."""
    last_ns: int = 0
    bundles: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """Requests by name, version and sha256 of the bundle that answered them in the log."""
    cpus: set[str] = field(default_factory=set)
    software: set[str] = field(default_factory=set)
    masked_fields: Counter[str] = field(default_factory=Counter)
    """Requests that were not replayed, by the fields that the log does not have as sent."""
    comparisons: list[Versus] = field(default_factory=list)
    durations_ns: dict[str, array[int]] = field(default_factory=dict)
    """How long answers took, of the log and of each bundle, for the requests that all answered."""

    @property
    def verdict(self) -> Versus:
        """The comparison that a decision is about: B against A, or else A against the log."""
        return self.comparisons[-1]


def replay_log(
    rows: Iterable[PlacedRow], replayers: Sequence[Replayer], *, examples_max: int = 10
) -> Report:
    """Answer all requests of a log, and compare.

    Args:
        rows: The log.
        replayers: One bundle, which is compared with the log; or two, which are also compared with
            each other.
        examples_max: Most requests that are described one by one, for each comparison.
    """
    labels = LABELS[: len(replayers)]
    report = Report(
        comparisons=[Versus(side=label, against=LOG) for label in labels],
        durations_ns={name: array("q") for name in (LOG, *labels)},
    )
    if len(replayers) > 1:
        report.comparisons.append(Versus(side="B", against="A"))
    for placed in rows:
        row = placed.row
        if not report.request_count:
            # The first request of all takes longer than any other: it is not the one measured.
            for replayer in replayers:
                replayer.answer(row)
        _note(report, placed)
        answers = {LOG: _logged(row)}
        for label, replayer in zip(labels, replayers, strict=True):
            answers[label] = replayer.answer(row)
        report.masked_fields.update({name for one in answers.values() for name in one.masked})
        for versus in report.comparisons:
            old, new = answers[versus.against], answers[versus.side]
            comparison = _compared(old, new)
            versus.tally.add(row.kind, comparison)
            told = comparison.outcome not in (Outcome.IDENTICAL, Outcome.MASKED)
            if told and len(versus.examples) < examples_max:
                versus.examples.append(_example(placed, comparison, old.error or new.error))
        if not any(one.error or one.masked for one in answers.values()):
            for name, one in answers.items():
                report.durations_ns[name].append(one.duration_ns)
    return report


def _note(report: Report, placed: PlacedRow) -> None:
    row = placed.row
    report.first_ns = min(report.first_ns or row.time_ns, row.time_ns)
    report.last_ns = max(report.last_ns, row.time_ns)
    report.request_count += 1
    report.files.add(placed.file)
    report.bundles[(row.bundle_name, row.bundle_version, row.bundle_sha256)] += 1
    report.cpus.add(row.cpu)
    report.software.add(row.software)


def _logged(row: LogRow) -> Replayed:
    return Replayed(item_ids=row.item_ids, scores=row.scores, duration_ns=row.duration_ns)


def _compared(old: Replayed, new: Replayed) -> Comparison:
    if old.masked or new.masked:
        return Comparison(outcome=Outcome.MASKED)
    if old.error or new.error:
        return Comparison(outcome=Outcome.ERROR)
    return compare(old.item_ids, old.scores, new.item_ids, new.scores)


def _example(placed: PlacedRow, comparison: Comparison, error: str) -> Example:
    assert comparison.outcome in (*COMPARED, Outcome.ERROR)
    return Example(
        file=placed.file,
        position=placed.position,
        request_id=placed.row.request_id,
        kind=placed.row.kind,
        outcome=comparison.outcome,
        overlap=comparison.overlap,
        score_change_max=comparison.score_change_max,
        error=error,
    )
