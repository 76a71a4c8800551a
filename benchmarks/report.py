"""Makes docs/benchmarks.md and its plots from the JSON files in benchmarks/results.

python benchmarks/report.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import report_codelab
from report_peers import peer_lines, share_lines

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks/results"
DOCS = ROOT / "docs"
COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44")
"""Paul Tol's bright scheme: told apart by colour-blind readers, readable on light and dark."""
TEXT = "#808080"


def main() -> None:
    bench = json.loads((RESULTS / "bench.json").read_text())
    lines = [
        "# Benchmarks",
        "",
        "Written by `benchmarks/report.py` from `benchmarks/results/`; `make bench` measures "
        "again. Machines differ: "
        "compare ratios, not milliseconds.",
        "",
        *machine_lines(bench["machine"]),
        *stage_lines(bench["jobs"]),
        *load_lines(bench["jobs"]),
        *noop_lines(bench["jobs"]),
        *filter_lines(bench["filters"]),
        *option_lines(bench["options"]),
    ]
    overload = RESULTS / "overload.json"
    if overload.exists():
        runs = json.loads(overload.read_text())["runs"]
        lines += overload_lines(runs)
        plot_overload(runs)
    for name, section in (("peers", peer_lines), ("kernel_share", share_lines)):
        if (found := RESULTS / f"{name}.json").exists():
            lines += section(json.loads(found.read_text()))
    soak = RESULTS / "soak.json"
    if soak.exists():
        report = json.loads(soak.read_text())
        lines += soak_lines(report)
        plot_soak(report["looks"])
    tutorial = RESULTS / "tutorial.json"
    if tutorial.exists():
        lines += tutorial_lines(json.loads(tutorial.read_text()))
    codelab = RESULTS / "codelab.json"
    if codelab.exists():
        lines += report_codelab.lines(json.loads(codelab.read_text()))
    plot_load(bench["jobs"])
    (DOCS / "benchmarks.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("written: docs/benchmarks.md")


def machine_lines(machine: dict[str, Any]) -> list[str]:
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    return [
        f"Measured {machine['time']} at commit {machine['commit']}: {machine['cpu']}, "
        f"{machine['cores']} cores, "
        f"Python {machine['python']}, {versions}. Load generator and server share the cores.",
        "",
        "| job | bundle | items | candidates ranked | returned |",
        "| --- | --- | --- | --- | --- |",
    ]


def stage_lines(jobs: list[dict[str, Any]]) -> list[str]:
    lines = [
        f"| {job['name']} | {job['bundle']} | {job['item_count']:,} x {job['dimension']} | "
        f"{job['candidate_count']} "
        f"| {job['limit']} |"
        for job in jobs
    ]
    lines += [
        "",
        "## Stages",
        "",
        "Inside the process, one request after the other, in microseconds. Recall is the share of "
        "the true nearest "
        "neighbours among as many candidates: of the graph at the bundle's `ef`, and of what is "
        "served by default (small "
        "catalogues are scanned).",
        "",
        "| job | query p50 / p99 | retrieval p50 / p99 | ranking p50 / p99 | select p50 / p99 | "
        "recall, graph | recall, served |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for job in jobs:
        times = [
            f"{job['stages_us'][stage]['p50']:.0f} / {job['stages_us'][stage]['p99']:.0f}"
            for stage in ("query", "retrieval", "ranking", "select")
        ]
        recall = job["recall"]
        lines.append(
            f"| {job['name']} | {' | '.join(times)} | {recall['graph']:.3f} | "
            f"{recall['served']:.3f} |"
        )
    return lines


def load_lines(jobs: list[dict[str, Any]]) -> list[str]:
    lines = [
        "",
        "## Latency and throughput",
        "",
        "`Recommend` over a real socket, closed loop, from one Python asyncio process (which "
        "limits the light job itself). Nothing is refused here, however long it waits.",
        "",
        "![Latency against callers](benchmarks-load.svg)",
        "",
        "| job | callers | requests/s | p50 ms | p90 ms | p99 ms | recall, served |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for job in jobs:
        for load in job["load"]:
            latency = load["latency_us"]
            lines.append(
                f"| {job['name']} | {load['callers']} | {load['per_second']:.0f} | "
                f"{latency['p50'] / 1e3:.2f} "
                f"| {latency['p90'] / 1e3:.2f} | {latency['p99'] / 1e3:.2f} | "
                f"{job['recall']['served']:.3f} |"
            )
    return lines


def noop_lines(jobs: list[dict[str, Any]]) -> list[str]:
    lines = [
        "",
        "## What a call costs beyond its stages",
        "",
        "One caller. The time between request and answer at the caller, minus the sum of the "
        "stages that the answer "
        "reports, beside an empty grpc.aio call in the same run, in alternating rounds; medians, "
        "and the range of the "
        "ratio over the rounds.",
        "",
        "| job | empty call p50 us | Recommend p50 us | beyond its stages p50 us | ratio to the "
        "empty call |",
        "| --- | --- | --- | --- | --- |",
    ]
    for job in jobs:
        one = job["one_caller"]
        low, high = one["beyond_over_noop_range"]
        lines.append(
            f"| {job['name']} | {one['noop_p50_us']:.0f} | {one['recommend_p50_us']:.0f} "
            f"| {one['beyond_stages_p50_us']:.0f} | {one['beyond_over_noop']:.2f} ({low:.2f} to "
            f"{high:.2f}) |"
        )
    return lines


def filter_lines(tables: list[dict[str, Any]]) -> list[str]:
    lines = [
        "",
        "## Filters",
        "",
        "The retrieval stage by how many items match, each query with filters of its own: on a "
        "random attribute, and on one that follows the clusters of the vectors, where the matching "
        "items are those farthest from the query. Recall is the share of the true nearest matching "
        "items. *First use* is the stage when nobody has asked for the filter before. The ratio is "
        "to the unfiltered p50 of the same k, from the same run. Times in microseconds, one "
        "thread.",
    ]
    for table in tables:
        lines += [
            "",
            f"### {table['item_count']:,} x {table['dimension']}",
            "",
            "| k | filter | items that match | recall | p50 | p99 | ratio | first use p50 | plan |",
            "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        ]
        for row in table["rows"]:
            total = sum(row["plans"].values())
            plans = ", ".join(
                name if count == total else f"{name} {count / total:.0%}"
                for name, count in row["plans"].items()
            )
            lines.append(
                f"| {row['k']} | {row['filter']} | {row['share']:.1%} | {row['recall']:.3f} | "
                f"{row['p50_us']:.0f} | {row['p99_us']:.0f} | {row['ratio']:.2f} | "
                f"{row['first_p50_us']:.0f} | {plans} |"
            )
    return lines


def option_lines(options: dict[str, Any]) -> list[str]:
    late, batch = options["lateness_ms"], options["batch"]
    lines = [
        "",
        "## What each option adds",
        "",
        f"`Recommend` over a real socket, {options['item_count']:,} items, "
        f"{options['candidate_count']} candidates, {options['limit']} returned, one caller; each "
        "option beside the plain request in turn, medians. The last line is the plain request "
        "against itself.",
        "",
        "| option | p50 ms | added ms | added inside the stages, ms |",
        "| --- | --- | --- | --- |",
    ]
    lines += [
        f"| {row['option']} | {row['p50_ms']:.2f} | {row['added_ms']:+.2f} | "
        f"{row['added_in_stages_ms']:+.2f} |"
        for row in options["options"]
    ]
    lines += [
        "",
        "## Deadlines and batches",
        "",
        f"{late['calls']} calls that need several times their deadline of 1, 2 or 3 ms: "
        f"{late['answered']} were answered, the others ended DEADLINE_EXCEEDED at the caller "
        f"{late['caller']['p50']:.1f} ms (p50), {late['caller']['p99']:.1f} ms (p99) after it. A "
        "health check that was sent at the deadline waited for the server "
        f"{late['server']['p50']:.1f} ms (p50), {late['server']['p99']:.1f} ms (p99) longer than "
        "one that an idle server answers: so long the server went on.",
        "",
        f"A `BatchRecommend` of {batch['rows']} rows took {batch['alone_s']:.2f} s alone, and "
        f"{batch['beside_s']:.2f} s beside one caller of `Recommend`, whose "
        f"{batch['singles_beside']} calls in that time took {batch['single_beside_ms']['p50']:.1f} "
        f"ms (p50) and {batch['single_beside_ms']['p99']:.1f} ms (p99); without a batch "
        f"{batch['single_alone_ms']['p50']:.1f} and {batch['single_alone_ms']['p99']:.1f} ms.",
    ]
    return lines


def overload_lines(runs: list[dict[str, Any]]) -> list[str]:
    lines = [
        "",
        "## Overload",
        "",
        "`make bench-overload`: the standard job, calls at random (Poisson) at shares of the "
        "saturation rate, which a closed loop of 16 callers found that ask again when they are "
        "refused. Deadline 1 s; latency of the calls that were answered.",
        "",
        "![Goodput and p99 against offered load](benchmarks-overload.svg)",
    ]
    for run in runs:
        lines += [
            "",
            f"`compute_threads = {run['compute_threads']}`, saturation {run['saturation']:.0f}/s:",
            "",
            "| offered | sent/s | answered/s | of saturation | refused | too late | p50 ms | "
            "p99 ms | p99 to half load |",
            "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        ]
        half = next(rate["latency_ms"]["p99"] for rate in run["rates"] if rate["share"] == 0.5)
        for rate in run["rates"]:
            total, latency = sum(rate["ends"].values()), rate["latency_ms"]
            lines.append(
                f"| {rate['share']:.0%} | {rate['sent_per_second']:.0f} | {rate['goodput']:.0f} | "
                f"{rate['goodput'] / run['saturation']:.0%} | "
                f"{rate['ends'].get('RESOURCE_EXHAUSTED', 0) / total:.1%} | "
                f"{rate['ends'].get('DEADLINE_EXCEEDED', 0) / total:.1%} | "
                f"{latency['p50']:.1f} | {latency['p99']:.1f} | {latency['p99'] / half:.2f} |"
            )
    return lines


def soak_lines(report: dict[str, Any]) -> list[str]:
    total, latency = sum(report["ends"].values()), report["latency_ms"]
    names = {"pss_mib": "memory (PSS), MiB", "files": "open files", "threads": "threads"}
    lines = [
        "",
        "## Soak",
        "",
        f"`make soak`: {report['workers']} workers, {report['looks'][-1]['at_s'] / 60:.0f} minutes "
        f"at half of the saturation rate ({report['offered']:.0f} calls/s), calls of all kinds, "
        "wrong and given up ones among them, while items change and connections come and go. Sums "
        "over all processes; medians of the first and the last quarter after a warm-up of a third. "
        f"Of {total:,} calls {report['ends'].get('OK', 0) / total:.1%} were answered, p50 "
        f"{latency['p50']:.1f} ms, p99 {latency['p99']:.0f} ms.",
        "",
        "![Memory and open files over time](benchmarks-soak.svg)",
        "",
        "| | first | last | growth |",
        "| --- | --- | --- | --- |",
    ]
    for name, grown in report["growth"].items():
        first, last = f"{grown['first']:.0f}", f"{grown['last']:.0f}"
        lines.append(f"| {names[name]} | {first} | {last} | {grown['share']:+.1%} |")
    return lines


def plot_soak(looks: list[dict[str, float]]) -> None:
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.4))
    minutes = [look["at_s"] / 60 for look in looks]
    left.plot(minutes, [look["pss_mib"] for look in looks], color=COLOURS[0])
    left.set_ylabel("memory (PSS), MiB", color=TEXT)
    for name, colour in (("files", COLOURS[0]), ("threads", COLOURS[1])):
        label = {"files": "open files", "threads": "threads"}[name]
        right.plot(minutes, [look[name] for look in looks], color=colour, label=label)
    right.legend(labelcolor=TEXT, framealpha=0, fontsize=8)
    for axes in (left, right):
        axes.set_xlabel("minutes", color=TEXT)
        axes.set_ylim(bottom=0)
        dress(axes)
    figure.tight_layout()
    figure.savefig(DOCS / "benchmarks-soak.svg", transparent=True, metadata={"Date": None})


def tutorial_lines(tutorial: dict[str, Any]) -> list[str]:
    lines = [
        "",
        "## The tutorials' models, measured through the server",
        "",
        f"`make evaluate`: {tutorial['data']}, the models and settings of the TensorFlow "
        "Recommenders tutorials "
        "(`--features ids`: dimension 32, Adagrad 0.1, 3 epochs, batch 8,192), random 80/20 split, "
        "seed "
        f"{tutorial['seed']}, all {tutorial['pair_count']:,} test ratings, seen films not "
        "excluded. The tutorials print "
        "top-100 accuracy 0.233 and RMSE 1.110.",
        "",
        "| search | RPC | top-1 | top-5 | top-10 | top-50 | top-100 | RMSE of `Rank` |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for figures in tutorial["evaluations"]:
        for rpc, hits in (
            ("Retrieve", figures["retrieve_hits"]),
            ("Recommend", figures["recommend_hits"]),
        ):
            cells = " | ".join(f"{value:.4f}" for value in hits.values())
            rmse = f"{figures['rating_rmse']:.4f}" if rpc == "Recommend" else ""
            lines.append(f"| {figures['search']} | {rpc} | {cells} | {rmse} |")
    agreement = tutorial["agreement"]
    lines += [
        "",
        f"ONNX against TensorFlow, with all features: the same {agreement['top']} items "
        f"for {agreement['same_items_share']:.1%} of {agreement['user_count']:,} users, in the "
        f"same order for {agreement['same_order_share']:.1%}; largest difference of a golden "
        f"number {agreement['golden_difference_max']:.1e}.",
    ]
    return lines


def plot_overload(runs: list[dict[str, Any]]) -> None:
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.4))
    for run, colour in zip(runs, COLOURS, strict=False):
        name = f"compute_threads = {run['compute_threads']}"
        shares = [rate["share"] for rate in run["rates"]]
        goodput = [rate["goodput"] / run["saturation"] for rate in run["rates"]]
        left.plot(shares, goodput, marker="o", color=colour, label=name)
        p99 = [rate["latency_ms"]["p99"] for rate in run["rates"]]
        right.plot(shares, p99, marker="o", color=colour, label=name)
    left.set_ylabel("answered, of saturation", color=TEXT)
    left.set_ylim(bottom=0)
    right.set_ylabel("p99 of the answered, ms", color=TEXT)
    right.set_yscale("log")
    for axes in (left, right):
        axes.set_xlabel("offered, of saturation", color=TEXT)
        axes.legend(labelcolor=TEXT, framealpha=0, fontsize=8)
        dress(axes)
    figure.tight_layout()
    figure.savefig(DOCS / "benchmarks-overload.svg", transparent=True, metadata={"Date": None})


def dress(axes: Any) -> None:
    """Make axes readable on light and dark."""
    axes.tick_params(colors=TEXT, which="both")
    for spine in axes.spines.values():
        spine.set_color(TEXT)
    axes.grid(color=TEXT, alpha=0.25)


def plot_load(jobs: list[dict[str, Any]]) -> None:
    figure, axes = plt.subplots(figsize=(7, 3.6))
    for job, colour in zip(jobs, COLOURS, strict=False):
        rates = [load["per_second"] for load in job["load"]]
        for percentile, style in (("p50", "-"), ("p99", "--")):
            times = [load["latency_us"][percentile] / 1e3 for load in job["load"]]
            axes.plot(
                rates, times, style, marker="o", color=colour, label=f"{job['name']} {percentile}"
            )
    axes.set_xlabel("requests per second (1, 4, 16 callers)", color=TEXT)
    axes.set_ylabel("latency, ms", color=TEXT)
    axes.set_yscale("log")
    dress(axes)
    axes.legend(labelcolor=TEXT, framealpha=0, fontsize=8)
    figure.tight_layout()
    figure.savefig(DOCS / "benchmarks-load.svg", transparent=True, metadata={"Date": None})


if __name__ == "__main__":
    main()
