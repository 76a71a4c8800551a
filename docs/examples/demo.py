"""From ratings to recommendations: train, bundle, verify, serve, and ask for three users.

Run by `make demo`. Uses the data set at $SHORTLIST_DATA, or the built-in sample with simulated
ratings. Leaves the bundle in build/demo/bundle, where `make serve` finds it.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shortlist_client import Client, ScoredItem
from shortlist_server.bundle.reader import Bundle, open_bundle

BIN = Path(sys.executable).parent
OUT = Path("build/demo")
HISTORY_SHOWN = 6
LIMIT = 10


def main() -> None:
    data = os.environ.get("SHORTLIST_DATA", "")
    source = ["--data", data] if data else []
    trained, made = str(OUT / "trained"), str(OUT / "bundle")
    train = ("shortlist-export", "train", "--recipe", "two-tower", *source)
    run(*train, "--out", trained, "--replace")
    run("shortlist-export", "bundle", trained, "--out", made, "--replace")
    run("shortlist-export", "verify", str(OUT / "bundle"))
    run("shortlist-server", "check", "--bundle", str(OUT / "bundle"))
    bundle = open_bundle(OUT / "bundle")
    with (
        serving(
            "shortlist-server", "serve", "--bundle", str(OUT / "bundle"), "--listen", "127.0.0.1:0"
        ) as target,
        Client(target) as client,
    ):
        for user in three_users(bundle):
            recommend(client, bundle, user)
    print(
        "\nThe bundle is in build/demo/bundle. Serve it with `make serve`; then, in another "
        "terminal:"
    )
    print("  .venv/bin/shortlist recommend --user 42 --limit 10")


def run(*command: str) -> None:
    print(f"\n$ {shlex.join(command)}", flush=True)
    if code := subprocess.run([BIN / command[0], *command[1:]], check=False).returncode:
        sys.exit(code)


@contextmanager
def serving(*command: str) -> Iterator[str]:
    """Run the server until the block ends; yields its address."""
    print(f"\n$ {shlex.join(command)}", flush=True)
    with subprocess.Popen(
        [BIN / command[0], *command[1:]], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        line = server.stdout.readline()
        try:
            if not line.startswith("ready on port "):
                sys.exit("the server did not start; see its message above")
            yield f"127.0.0.1:{line.split()[-1]}"
        finally:
            server.terminate()
    if server.returncode:
        sys.exit(f"the server ended with exit code {server.returncode}")


def three_users(bundle: Bundle) -> list[str]:
    """Two users of the bundle, and one whom it does not know."""
    assert bundle.users is not None
    ids = bundle.users.ids
    return [ids[len(ids) // 20], ids[len(ids) // 3], "somebody-new"]


def recommend(client: Client, bundle: Bundle, user: str) -> None:
    simulated = " (simulated ratings)" if bundle.manifest.data.simulated else ""
    print(f"\nUser {user!r}, {bundle.manifest.data.name}{simulated}")
    assert bundle.users is not None
    if user in bundle.users.ids:
        seen = bundle.users.seen(bundle.users.ids.index(user))
        print(f"  has seen {len(seen)} films, last of all")
        for row in seen[-HISTORY_SHOWN:]:
            print(f"       {bundle.item_columns['title'][row]}")
    answer = client.recommend(user=user, limit=LIMIT, attributes=["title", "year", "genres"])
    print(
        f"  should see{' (unknown user: the most popular films)' if answer.info.cold_start else ''}"
    )
    for place, item in enumerate(answer.items, start=1):
        print(
            f"  {place:3}. {title(item):<46.46} score {item.score:8.3f}   {item.source} "
            f"#{item.source_position}"
        )
    stages = [
        f"{stage.name} {stage.duration_ms:.2f} ms" + (f" ({stage.plan})" if stage.plan else "")
        for stage in answer.info.stages
    ]
    print(f"  stages: {', '.join(stages)}")


def title(item: ScoredItem) -> str:
    genres = item.attributes.get("genres")
    kinds = ", ".join(map(str, genres)) if isinstance(genres, tuple) else ""
    return f"{item.attributes.get('title', item.id)} [{kinds}]"


if __name__ == "__main__":
    main()
