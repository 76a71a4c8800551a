"""Fixtures for all tests: the tiny world as a bundle, loaded, and served on a real socket."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
import text_world
import tiny_world
from hypothesis import HealthCheck, settings
from milvus_server import MilvusServer
from postgres import Postgres
from shortlist_exporters.export import export_bundle
from shortlist_server import app
from shortlist_server.config import ServerConfig
from shortlist_server.generation import Generation, load_generation
from shortlist_server.labels import LabeledGenerations
from shortlist_server.language_models import make_language_models
from shortlist_server.observability.metrics import Metrics
from shortlist_server.rerankers import make_rater, make_reranker
from shortlist_server.runtime.compute import ComputePool
from shortlist_server.telemetry import make_tracing

# Machines of CI are slow and noisy: how long an example takes to draw or to run says nothing about
# the code.
settings.register_profile("shortlist", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shortlist")

REAL_DATA = Path(__file__).parents[2] / "shared/data"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with MovieLens; tests that want it are skipped where it is not."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"no real data at {REAL_DATA}")
    return REAL_DATA


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server; `make_database` gives a test its own database."""
    server = Postgres()
    yield server
    server.remove()


@pytest.fixture(scope="session")
def milvus_server() -> Iterator[MilvusServer]:
    """A Milvus; each test names its own collections."""
    server = MilvusServer()
    yield server
    server.remove()


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny world as a bundle. Read-only: copy it to change it."""
    folder = tmp_path_factory.mktemp("tiny")
    export_bundle(tiny_world.write_spec(folder / "spec"), folder / "bundle", version="1")
    return folder / "bundle"


@pytest.fixture(scope="session")
def generation(tiny_bundle: Path) -> Generation:
    """The tiny bundle, loaded."""
    return load_generation(tiny_bundle)


@pytest.fixture(scope="session")
def text_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny world with texts as a bundle. Read-only: copy it to change it."""
    return text_world.write_bundle(tmp_path_factory.mktemp("text"))


class RunningServer:
    """A server in a thread with an event loop of its own."""

    def __init__(
        self,
        bundle: Path,
        generation: Generation | LabeledGenerations,
        shared: app.Shared | None = None,
        **settings: object,
    ) -> None:
        self._shared = shared
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.config = ServerConfig.model_validate(
            {
                "bundle": bundle,
                "listen": "127.0.0.1:0",
                "drain_notice_ms": 0,
                "waiting_max": 64,
                "compute_threads": 2,
                **settings,
            }
        )
        # No call is refused for having waited: the machine may be busy with other tests.
        self.compute = ComputePool(
            threads=self.config.compute_threads,
            waiting_max=self.config.waiting_max,
            wait_s_max=60.0,
            standing_s_max=60.0,
        )
        if isinstance(generation, Generation):
            generation = LabeledGenerations(stable=generation)
        self.live = app.follow(self.config, generation)
        self.tracing = make_tracing(self.config)
        self.metrics = Metrics() if self.config.metrics_listen else None
        self.target = self._call(self._start(generation))

    def _call(self, coroutine: object) -> str:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout=30)  # type: ignore[arg-type, return-value]

    async def _start(self, generation: Generation | LabeledGenerations) -> str:
        self._models = make_language_models(self.config)
        self._server = app.build_server(
            self.config,
            generation,
            self.compute,
            metrics=self.metrics,
            live=self.live,
            tracing=self.tracing,
            shared=self._shared,
            reranker=make_reranker(self.config, self._models.llm),
            rater=make_rater(self.config, self._models.llm),
            language_model=self._models.llm,
        )
        return f"127.0.0.1:{await self._server.start()}"

    @property
    def http(self) -> str:
        """The address that answers HTTP."""
        return f"127.0.0.1:{self._server.http_port}"

    def drain(self) -> None:
        self._call(self._server.drain())

    def stop(self) -> None:
        if self._loop.is_closed():
            return
        self.drain()
        self._call(self._models.close())
        self.compute.close()
        if self.live is not None:
            self.live.close()
        if self.tracing is not None:
            self.tracing.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)
        self._loop.close()


@pytest.fixture(scope="session")
def server(tiny_bundle: Path, generation: Generation) -> Iterator[RunningServer]:
    """The tiny world, served."""
    running = RunningServer(tiny_bundle, generation)
    yield running
    running.stop()


@pytest.fixture(scope="session")
def channel(server: RunningServer) -> Iterator[grpc.Channel]:
    """A plain gRPC channel to the tiny world."""
    with grpc.insecure_channel(server.target) as opened:
        yield opened
