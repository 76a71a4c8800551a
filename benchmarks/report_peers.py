"""The sections of docs/benchmarks.md on other servers, and on what of the server is kernels."""

from __future__ import annotations

from statistics import median
from typing import Any

from clocked_server import KERNELS

OWN = {
    "shortlist": "Shortlist, one process",
    "shortlist-2": "Shortlist, 2 workers",
    "noop": "empty call",
}
RATIOS = ("per_second", "server_cpu_us", "p50_ms", "p99_ms")


def peer_lines(report: dict[str, Any]) -> list[str]:
    """Return the section on the peers."""
    measured = [peer for peer in report["peers"].values() if "jobs" in peer]
    first = measured[0]["jobs"]
    lines = [
        "",
        "## Beside other servers",
        "",
        "`make bench-peers`: what people use today, each in an environment of its own "
        "(`benchmarks/peers`), with the same files, the same kernels on one thread, the same width "
        "of the graph's search and the same candidates; a peer is left out whose lists of 20 are "
        f"not Shortlist's in at least 99 % of the items (*same items*, over "
        f"{first[0]['agreement']['users']} users). Requests and answers are bytes made and read by "
        "one Python process, which shares the cores. Each peer runs alone beside Shortlist and an "
        "empty grpc.aio call, in alternating rounds: medians, and the range over the rounds; "
        "Shortlist's rows and the empty call's are of all those runs together.",
        "",
        f"Requests/s and CPU time are of {first[0]['callers']} callers in a closed loop, p50 and "
        "p99 of one. *CPU* is that of all processes of the server. It is the figure to trust: "
        "other work on the machine (*others*, in cores) takes requests/s and p99 from whoever is "
        f"measured meanwhile. Measured from {min(peer['machine']['time'] for peer in measured)} to "
        f"{max(peer['machine']['time'] for peer in measured)}, {measured[0]['machine']['cpu']}, "
        f"{measured[0]['machine']['cores']} cores.",
    ]
    for place, job in enumerate(first):
        lines += _job_lines(
            job, report["recall"][job["name"]], [(peer, peer["jobs"][place]) for peer in measured]
        )
    lines += ["", "Versions: " + "; ".join(_versions(peer) for peer in measured) + "."]
    for peer in report["peers"].values():
        if "skipped" in peer:
            lines += ["", f"{peer['title']} was left out: {peer['skipped']}"]
    return lines


def _job_lines(
    job: dict[str, Any], recall: float, peers: list[tuple[dict[str, Any], Any]]
) -> list[str]:
    lines = [
        "",
        f"### {job['name'].capitalize()} job, {job['candidate_count']} candidates",
        "",
        f"Recall of the candidates {recall:.3f}, for all of them.",
        "",
        "| server | requests/s | CPU us | generator's CPU us | p50 ms | p99 ms | others | same "
        "items |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, title in OWN.items():
        lines.append(_row(title, _together([own["servers"][name] for _, own in peers]), ""))
    for peer, own in peers:
        same = f"{own['agreement']['same_items']:.3f}"
        lines.append(_row(f"{peer['title']} ({peer['note']})", own["servers"]["peer"], same))
    lines += [
        "",
        "Shortlist to the peer, in the same rounds (above 1 is better for requests/s, below 1 for "
        "the others):",
        "",
        "| beside | Shortlist in | requests/s | CPU | p50 | p99 |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for peer, own in peers:
        for name, ratios in own["ratios"].items():
            cells = " | ".join(_spread(ratios[figure], 2) for figure in RATIOS)
            lines.append(f"| {peer['title']} | {OWN[name].removeprefix('Shortlist, ')} | {cells} |")
    return lines


def _together(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the median of the medians of several runs, and the range over all of them."""
    return {
        figure: {
            "median": median(run[figure]["median"] for run in runs),
            "low": min(run[figure]["low"] for run in runs),
            "high": max(run[figure]["high"] for run in runs),
        }
        for figure in runs[0]
    }


def share_lines(report: dict[str, Any]) -> list[str]:
    """Return the section on the kernels' share."""
    lines = [
        "",
        "## What is kernels",
        "",
        f"CPU time a request under {report['callers']} callers, in microseconds, by clocks of the "
        "threads that were inside (`benchmarks/kernel_share.py`); *all* is that of the process. "
        "What is left of a stage beside its kernel is Python and numpy, and what is left of *all* "
        "beside the stages is the call itself.",
        "",
        "| job | query tower | search | ranker | selection | stages | all | kernels' share |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for job in report["jobs"]:
        spent = job["cpu_us"]
        stages = sum(value for name, value in spent.items() if name.startswith("stage "))
        cells = [*(spent[kernel] for kernel in KERNELS), stages, spent["process"]]
        lines.append(
            f"| {job['name']} | {' | '.join(f'{cell:.0f}' for cell in cells)} | "
            f"{_spread(job['share'], 2)} |"
        )
    return lines


def _row(title: str, figures: dict[str, Any], same: str) -> str:
    cells = [
        f"{figures['per_second']['median']:.0f}",
        _spread(figures["server_cpu_us"], 0),
        f"{figures['generator_cpu_us']['median']:.0f}",
        f"{figures['p50_ms']['median']:.2f}",
        f"{figures['p99_ms']['median']:.1f}",
        f"{figures['others_cores']['median']:.1f}",
        same,
    ]
    return f"| {title} | {' | '.join(cells)} |"


def _spread(spread: dict[str, float], digits: int) -> str:
    return (
        f"{spread['median']:.{digits}f} ({spread['low']:.{digits}f} to {spread['high']:.{digits}f})"
    )


def _versions(peer: dict[str, Any]) -> str:
    return f"{peer['title']} with " + ", ".join(f"{k} {v}" for k, v in peer["versions"].items())
