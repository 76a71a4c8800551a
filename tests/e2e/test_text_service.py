"""`shortlist-server serve` where a service embeds texts: alone and with forked workers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import text_world
import tiny_world
from llm_behaviours import answer, hang, status
from llm_stub import LlmStub
from serving_process import ServingProcess, run_server
from shortlist_client import CatalogItem, Client, DeadlineExceeded

WORDS = "a heist in a dream"


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with LlmStub() as stub:
        folder = tmp_path_factory.mktemp("service")
        return text_world.write_service_bundle(folder, stub, "gemini")


@pytest.fixture
def stub() -> Iterator[LlmStub]:
    with LlmStub() as stub:
        yield stub


def configured(folder: Path, stub: LlmStub, *, workers: int = 0, more: str = "") -> Path:
    file = folder / "server.toml"
    file.write_text(
        f'workers = {workers}\ncatalog_store = "{folder / "catalog.sqlite"}"\n'
        '[text_embedder]\nprovider = "gemini"\nmodel = "e-1"\n'
        f'base_url = "{stub.gemini_url}"\nbreaker_open_ms = 100\n{more or "dimension = 16"}\n'
    )
    return file


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize("workers", [0, 2])
def test_queries_and_changed_items_are_embedded(
    exported: Path, stub: LlmStub, tmp_path: Path, workers: int
) -> None:
    file = configured(tmp_path, stub, workers=workers)
    item = CatalogItem("new", {"plot": WORDS}, vector=[0.5] * tiny_world.DIMENSION)
    with ServingProcess(exported, "--config", file) as serving:
        with Client(serving.target, timeout_s=30) as client:
            stub.behave(status(500))
            client.upsert_items([item])
            stub.behave(answer())
            until(lambda: client.get_catalog_stats().unembedded_text_count == 0)

            def found() -> bool:
                first = client.recommend(text=WORDS, limit=1).items[0]
                return first.id == "new" and first.score == pytest.approx(1, abs=1e-5)

            # Each worker comes to it by itself; which of them answers, the kernel decides.
            until(found)
            stub.behave(hang())
            with pytest.raises(DeadlineExceeded):
                client.recommend(text="something else", timeout_s=0.5)
            client.upsert_items([CatalogItem("other", item.attributes, vector=item.vector)])
        # A service that hangs does not keep it from ending.
        code, log = serving.end()
        assert code == 0, log
        assert "Traceback" not in log


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ("dimension = 8", "text_embedder.dimension: expected 16"),
        ('dimension = 16\nkey_env = "NO_SUCH_KEY"', "text_embedder.key_env: "),
    ],
)
def test_what_cannot_embed_keeps_the_server_from_starting(
    exported: Path, stub: LlmStub, tmp_path: Path, more: str, problem: str, workers: int
) -> None:
    file = configured(tmp_path, stub, workers=workers, more=more)
    arguments = ("serve", "--bundle", exported, "--listen", "127.0.0.1:0", "--config", file)
    result = run_server(*arguments)
    assert result.returncode == 1, result.stderr
    assert problem in result.stderr


def test_a_check_of_the_bundle_looks_at_the_service(
    exported: Path, stub: LlmStub, tmp_path: Path
) -> None:
    good = run_server("check", "--bundle", exported, "--config", configured(tmp_path, stub))
    assert good.returncode == 0, good.stderr
    bad = configured(tmp_path, stub, more="dimension = 8")
    result = run_server("check", "--bundle", exported, "--config", bad)
    assert result.returncode == 1
    assert "text_embedder.dimension: expected 16" in result.stderr
    assert not stub.asked
