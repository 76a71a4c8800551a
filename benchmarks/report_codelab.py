"""What docs/benchmarks.md says of the drop-in for the codelab, from results/codelab.json."""

from __future__ import annotations

from statistics import median
from typing import Any


def lines(report: dict[str, Any]) -> list[str]:
    """Return the section of the page."""
    machine, agreement = report["machine"], report["agreement"]
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    first, *others = report["backends"]
    same = agreement[others[0]]
    pools = report["tensorflow_threads"]
    tensorflow = (
        f"TensorFlow's pools of {pools}" if pools else "TensorFlow's pools as it sizes them"
    )
    found = [
        "",
        "## The codelab's drop-in beside Flask and TensorFlow",
        "",
        f"`make bench-codelab`, measured {machine['time']} at commit {machine['commit']}: "
        f"{machine['cpu']}, {machine['cores']} cores, Python {machine['python']}, {versions}. "
        f"`POST /recommend` as the [codelab](codelab.md)'s app sends it, {report['data']}, "
        f"{report['item_count']:,} films, the same trained models behind all. *{first}* is a "
        "backend that calls both models in its own process, where the codelab's asks TensorFlow "
        f"Serving twice over REST: gunicorn, one worker with {report['gunicorn_threads']} threads, "
        f"{tensorflow}. The drop-in is one process; as the codelab it ranks 10 "
        "films and recommends again what was seen, by its defaults it ranks 200 and leaves that "
        f"out. Of {agreement['user_count']} users, two of them unknown (they get popular films "
        f"from the drop-in), {same['same_order']} got the same 10 titles in the same order from "
        f"Flask and from the drop-in as the codelab. {report['rounds']} alternating rounds, "
        "medians and ranges; connections are kept; the caller shares the cores. *Per core* is "
        "requests for a second of CPU time of the server's processes.",
        "",
        "| callers | backend | requests/s | requests/s per core | to Flask's, by rounds | p50 ms | "
        "p99 ms | memory MiB |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for kind, callers in (("one", 1), ("load", report["callers"])):
        for name, figures in report["backends"].items():
            one = figures[kind]
            ratios = [
                mine[kind]["per_core_second"] / flask[kind]["per_core_second"]
                for mine, flask in zip(
                    report["rounds_of"][name], report["rounds_of"][first], strict=True
                )
            ]
            ratio = {"median": median(ratios), "low": min(ratios), "high": max(ratios)}
            found.append(
                f"| {callers} | {name} | {_range(one['per_second'], 0)} | "
                f"{_range(one['per_core_second'], 0)} | "
                f"{'' if name == first else _range(ratio, 2)} | {_range(one['p50_ms'], 2)} | "
                f"{_range(one['p99_ms'], 1)} | {figures['rss_mib']['median']:.0f} |"
            )
    noise = [
        value
        for figures in report["backends"].values()
        for kind in ("one", "load")
        for value in (figures[kind]["others_cores"]["low"], figures[kind]["others_cores"]["high"])
    ]
    found += [
        "",
        f"Beside it, other processes kept {min(noise):.1f} to {max(noise):.1f} of the "
        f"{machine['cores']} cores busy (load average {report['load_average_before'][0]:.1f} "
        f"before, {report['load_average_after'][0]:.1f} after): CPU time suffers least from that, "
        "p99 most.",
    ]
    return found


def _range(figure: dict[str, float], digits: int) -> str:
    low, high = f"{figure['low']:.{digits}f}", f"{figure['high']:.{digits}f}"
    return f"{figure['median']:.{digits}f} ({low} to {high})"
