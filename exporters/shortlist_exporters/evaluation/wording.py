"""How figures are named and written for people, on the page and in the terminal alike."""

from __future__ import annotations

from typing import Any

Document = dict[str, Any]

KINDS = {
    "hit": "share of the test pairs among the first k (top-k accuracy)",
    "recall": "share of a user's pairs among the first k, mean over users",
    "user_hit": "share of users with a pair among the first k",
    "ndcg": "discounted gain of the first k, against the best possible",
    "mrr": "1 / rank of the first hit among k",
    "map": "mean precision at the hits among k",
    "auc": "an item that the user liked scores above one that he did not",
    "auc_sampled": "a test item scores above a sampled one",
    "rmse": "root mean squared error of predicted ratings",
    "mae": "mean absolute error of predicted ratings",
    "rating_bias": "mean of predicted minus given rating",
    "calibration_error": "mean distance of predicted and given ratings, in tenths",
    "coverage": "share of the catalogue in anybody's first k",
    "gini": "how unequally items are shown: 0 all alike, 1 one alone",
    "novelty": "bits of surprise in an item of the first k",
    "diversity": "distance of two items of the first k: 1 nobody in common",
    "popularity_lift": "how much more popular than what the user has seen",
    "index_recall": "share of what exact retrieval finds that the index finds",
}
STAGES = {
    "exact": "retrieval, every item compared",
    "index": "retrieval by the index",
    "candidates": "retrieval as served",
    "served": "served: after ranking",
    "best_ranking": "a perfect ranking of these candidates",
}


def title(name: str) -> str:
    """Return a figure's name as people write it: `ndcg@10`."""
    return name.replace("_at_", "@").replace("_among_all", ", all")


def meaning(name: str) -> str:
    """Return what a figure is, in a few words."""
    return KINDS.get(name.split("_at_")[0], "")


def number(value: float | None) -> str:
    """Return a figure as text, four digits behind the point."""
    return "-" if value is None else f"{value:.4f}"


def interval(figure: Document) -> str:
    """Return the bounds of a figure as text; empty where it has none."""
    if figure["low"] is None or figure["low"] == figure["high"]:
        return ""
    return f"{number(figure['low'])} to {number(figure['high'])}"


def headline(document: Document) -> list[str]:
    """Return the names of the figures that a reader looks at first."""
    cutoffs = document["cutoffs"]
    k = 10 if 10 in cutoffs else cutoffs[-1]
    names = [f"hit_at_{one}" for one in cutoffs]
    names += [f"{kind}_at_{k}" for kind in ("recall", "user_hit", "ndcg", "mrr", "map")]
    names += ["auc_sampled", "auc", "rmse", "mae"]
    names += [f"{kind}_at_{k}" for kind in ("coverage", "novelty", "diversity", "popularity_lift")]
    return [name for name in names if name in document["metrics"]]


def setting(document: Document) -> list[str]:
    """Return in sentences what was measured, on what, and how."""
    counts, data = document["counts"], document["data"]
    kind = " (simulated)" if data["simulated"] else ""
    users = f"{counts['test_pairs']:,} pairs of {counts['test_users']:,} users"
    lines = [
        f"{data['name']}{kind}, {document['split']}: {counts['train_interactions']:,} "
        f"interactions to train on, {users} to test with"
    ]
    if document["protocol"] == "full":
        seen = "excluded" if document["seen_excluded"] else "included"
        lines.append(
            f"lists of the whole catalogue ({counts['items']:,} items), seen items {seen}, "
            f"{document['candidate_count']} candidates, search: {document['search']}"
        )
    else:
        lines.append(
            f"each pair ranked among sampled items ({document['protocol']}): no estimate of lists "
            "of the whole catalogue"
        )
    if document["relevant_from"] is not None:
        lines.append(f"wanted in lists: pairs rated {document['relevant_from']:g} or higher")
    dropped = {name.replace("_", " "): n for name, n in counts["dropped"].items() if n}
    if dropped:
        lines.append("not measured: " + ", ".join(f"{n:,} {name}" for name, n in dropped.items()))
    if counts["unknown_users"] or counts["unknown_pairs"]:
        lines.append(
            f"unknown to the bundle: {counts['unknown_users']:,} users, items of "
            f"{counts['unknown_pairs']:,} pairs, which count as misses"
        )
    if counts["degraded_answers"]:
        lines.append(
            f"degraded: {counts['degraded_answers']:,} answers, which a part of the funnel was "
            "left out of: the figures are not those of the whole funnel"
        )
    return lines + [f"note: {note}" for note in document["notes"]]


def bundle_label(bundle: Document) -> str:
    """Return name and version of a bundle."""
    return f"{bundle['name']} {bundle['version']}"
