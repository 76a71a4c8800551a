"""`shortlist-server evaluate-rerank`: measures what a language model's orders changed."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from shortlist_server import app
from shortlist_server.errors import ConfigError, NothingToCompare
from shortlist_server.generation import load_generation
from shortlist_server.llm.lift_report import (
    ArmLift,
    LiftReportInvalid,
    read_report,
    write_report,
)
from shortlist_server.observability.masking import read_key
from shortlist_server.replay.lift import LiftSettings, Measured, measure
from shortlist_server.replay.next_items import next_items_of_file
from shortlist_server.replay.reader import read_log
from shortlist_server.replay.runner import Replayer


def run(config: Any, parsed: argparse.Namespace) -> int:
    """Run the command; returns its exit code.

    Raises:
        ShortlistError: the log, the bundle or a file cannot be used, or there is nothing to
            compare.
    """
    kept = _kept(parsed.out)
    read_log(parsed.log)
    next_items = None if parsed.next is None else next_items_of_file(parsed.next)
    key = None if parsed.salt_file is None else read_key(parsed.salt_file)
    options = replace(app.generation_options(config), recall_share=0.0)
    generation = load_generation(config.served_folder, options)
    measured = measure(
        lambda: read_log(parsed.log),
        Replayer(generation, key=key),
        LiftSettings(k=parsed.k, confidence=config.rerank.lift_confidence),
        log=str(parsed.log),
        next_items=next_items,
    )
    generation.close()
    if not measured.arms:
        raise NothingToCompare(
            f"{parsed.log}: expected re-ranked requests of which it is known what their users did "
            f"next, got none: {_left_out(measured) or 'no requests'}"
        )
    if parsed.out is not None:
        try:
            # Who is switched off is in no log: what is known of him stays.
            write_report(parsed.out, {**kept, **measured.arms})
        except OSError as error:
            raise ConfigError(f"--out: {parsed.out}: cannot be written: {error}") from error
    print(_as_json(measured) if parsed.json else _as_text(measured, config))
    return 0


def _kept(file: Path | None) -> Mapping[tuple[str, str], ArmLift]:
    if file is None or not file.exists():
        return {}
    try:
        return read_report(file)
    except (LiftReportInvalid, OSError) as error:
        raise ConfigError(f"--out: {file}: {error}; remove it to begin anew") from error


def _as_json(measured: Measured) -> str:
    document = {
        "arms": [asdict(arm) for arm in measured.arms.values()],
        "left_out": dict(measured.left_out),
    }
    return json.dumps(document, indent=1, ensure_ascii=False)


def _as_text(measured: Measured, config: Any) -> str:
    lines = []
    for arm in measured.arms.values():
        lines += [
            f"{arm.model} with {arm.prompt}: {arm.request_count:,} requests of "
            f"{arm.user_count:,} users, the last {arm.last_time}",
            f"  NDCG@{arm.k} {arm.ndcg_with:.4f} with it, {arm.ndcg_without:.4f} without: "
            f"{arm.lift:+.4f}, {arm.lift_low:+.4f}..{arm.lift_high:+.4f} at {arm.confidence:g}",
            f"  {_verdict(arm, config.rerank.lift_users_min)}",
        ]
    return "\n".join([*lines, f"left out: {_left_out(measured) or 'none'}"])


def _verdict(arm: ArmLift, users_min: int) -> str:
    if arm.lift_high >= 0:
        return "better" if arm.lift_low > 0 else "may be better or worse: stays on"
    if arm.user_count < users_min:
        return f"worse, of fewer than {users_min:,} users: stays on"
    return "worse: a server that reads this report (rerank.lift_report) switches it off"


def _left_out(measured: Measured) -> str:
    return ", ".join(f"{count:,} {why}" for why, count in measured.left_out.most_common())
