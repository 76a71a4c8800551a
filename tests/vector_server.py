"""The servers that the shared request vectors are sent to, in tests/data/requests.

As a program it starts them, prints one line of JSON that says where they are and which keys there
are, and ends when its standard input does: that is how the tests of clients in other languages
start them.

    {"servers": {"main": "127.0.0.1:41000", "faulty": "127.0.0.1:41001"},
     "http": {"main": "127.0.0.1:41002", "faulty": "127.0.0.1:41003"},
     "keys": {"all": "sl_...", "recommend": "sl_...", "slow": "sl_...", "wrong": "sl_..."}}

`main`      a worker; the tiny world with texts as bundle 1, another as bundle 2; a store for
            changed items; API keys; a language model that goes by simple rules
`faulty`    the tiny world in one process, without keys, a store or a language model; for the user
            `raise NAME` it fails with that error
"""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import text_world
from altered_funnel import altered
from conftest import RunningServer
from conversing import served, understand, word
from http_calls import free_address
from llm_stub import Asked, LlmStub, rate_by_number, reverse_handles
from shortlist_server import errors
from shortlist_server.access.api_keys import entry, make_key
from shortlist_server.generation import Generation, load_generation
from supervised import Supervised, write_bundle

ALL_SCOPES = ["recommend", "rerank", "admin", "catalog", "debug", "explain"]
RETRY_DELAY_MS = 20

FAULTS: Mapping[str, Callable[[], Exception]] = {
    "DEADLINE_EXCEEDED": lambda: errors.DeadlineExceeded("ranking"),
    "OVERLOADED": lambda: errors.Overloaded(waiting_max=256, retry_delay_ms=RETRY_DELAY_MS),
    "SHUTTING_DOWN": errors.ShuttingDown,
    "INTERNAL": lambda: RuntimeError("secret"),
    "BUNDLE_CORRUPT": lambda: errors.BundleCorrupt("index/hnsw.bin: expected 2 bytes, got 1"),
    "BUNDLE_UNSUPPORTED": lambda: errors.BundleUnsupported("format_version: expected 1, got 2"),
    "PARITY": lambda: errors.ParityError("ranker.rating: expected 1, got 2"),
    "MODEL_SIGNATURE_MISMATCH": lambda: errors.ModelSignatureMismatch("tensor 'user': none"),
    "NOT_CONFIGURED": lambda: errors.NotConfigured(setting="workers", expected="1 or more"),
    "SWITCH_UNDER_WAY": errors.SwitchUnderWay,
    "CATALOG_UNAVAILABLE": lambda: errors.CatalogUnavailable(
        "the disk is full", retry_delay_ms=RETRY_DELAY_MS
    ),
    "TEXT_EMBEDDER_UNAVAILABLE": lambda: errors.TextEmbedderUnavailable(
        problem="LLM_BREAKER_OPEN", retry_delay_ms=RETRY_DELAY_MS
    ),
}
"""What the server cannot be brought to say by a request alone."""


@dataclass(frozen=True)
class VectorServers:
    """The servers, as they run."""

    targets: Mapping[str, str]
    http: Mapping[str, str]
    """The same, where they answer HTTP."""
    keys: Mapping[str, str]
    """API keys of `main` by name; `wrong` is one that it does not know."""
    metrics: str
    """Where `main` shows its metrics."""


@contextlib.contextmanager
def vector_servers(folder: Path) -> Iterator[VectorServers]:
    """Start the servers in an empty folder; they end with the block."""
    keys = {name: make_key() for name in ("all", "recommend", "slow", "wrong")}
    _write_keys(folder, keys)
    bundle = _write_bundles(folder)
    with contextlib.ExitStack() as running:
        model = running.enter_context(LlmStub())
        model.rule, model.talk = _think, word
        (folder / "server.toml").write_text(_settings(folder, model))
        address, metrics = free_address(), free_address()
        settings = ("--workers", "1", "--http", address, "--metrics-listen", metrics)
        arguments = (*settings, "--config", folder / "server.toml")
        main = running.enter_context(Supervised(folder, *arguments, bundle=bundle))
        generation = load_generation(bundle)
        running.callback(generation.close)
        faulty = RunningServer(bundle, _faulty(generation), http_listen="127.0.0.1:0")
        running.callback(faulty.stop)
        yield VectorServers(
            targets={"main": main.target, "faulty": faulty.target},
            http={"main": address, "faulty": faulty.http},
            keys=keys,
            metrics=metrics,
        )


def _write_keys(folder: Path, keys: Mapping[str, str]) -> None:
    entries = [
        entry(keys["all"], name="all", scopes=ALL_SCOPES),
        entry(keys["recommend"], name="recommend", scopes=["recommend"]),
        entry(keys["slow"], name="slow", scopes=["recommend"], requests_per_second=0.001, burst=1),
    ]
    (folder / "keys.toml").write_text("\n".join(entries))
    (folder / "key").write_text(keys["all"])


def _write_bundles(folder: Path) -> Path:
    """Write both bundles; returns the folder of the first."""
    root = folder / "bundles"
    root.mkdir()
    first = text_world.write_bundle(folder / "text").rename(root / "1")
    write_bundle(root, "2", seed=2)
    return first


def _settings(folder: Path, model: LlmStub) -> str:
    lines = [f"catalog_store = {json.dumps(str(folder / 'catalog.sqlite'))}", "compact_at = 0"]
    # No call is refused for having waited: the machine may be busy with other tests.
    lines += ["wait_ms_max = 60_000", "wait_ms_standing = 60_000", "[llm]"]
    settings = served("openai-compatible", model, price_input_million=1_000)
    lines += [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
    return "\n".join([*lines, ""])


def _think(asked: Asked) -> Any:
    if "candidates" in asked.data:
        return reverse_handles("order")(asked)
    return understand(asked) if "text" in asked.data else rate_by_number(asked)


def _faulty(generation: Generation) -> Generation:
    return altered(generation, encoder=_FaultyEncoder(generation.funnel._encoder))


class _FaultyEncoder:
    """A real encoder that fails for some users."""

    def __init__(self, encoder: Any) -> None:
        self._encoder = encoder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)

    def encode(self, query: Any) -> Any:
        called, _, fault = getattr(query.subject, "id", "").partition("raise ")
        if fault and not called:
            raise FAULTS[fault]()
        return self._encoder.encode(query)


def main() -> None:
    with (
        tempfile.TemporaryDirectory(prefix="shortlist-vectors-") as folder,
        vector_servers(Path(folder)) as running,
    ):
        told = {"servers": running.targets, "http": running.http, "keys": running.keys}
        print(json.dumps(told), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
