"""The Python client's own balancing, over two real servers behind one target."""

from __future__ import annotations

import signal
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from envoy_process import wait_until
from serving_process import ServingProcess
from shortlist_client import Client, Unavailable

PATIENT = ("--wait-ms-max", "60000", "--wait-ms-standing", "60000")


@pytest.fixture
def replicas(two_bundles: list[Path]) -> Iterator[list[ServingProcess]]:
    with (
        ServingProcess(two_bundles[0], *PATIENT, "--drain-notice-ms", "500") as one,
        ServingProcess(two_bundles[1], *PATIENT, "--drain-notice-ms", "500") as two,
    ):
        yield [one, two]


@pytest.fixture
def client(replicas: list[ServingProcess]) -> Iterator[Client]:
    """Of a target that resolves to both, as the name of a headless service does."""
    addresses = ",".join(each.target for each in replicas)
    with Client(f"ipv4:{addresses}", timeout_s=20) as opened:
        yield opened


class Asking:
    """Callers that ask one after the other, each in a thread, until they are told to stop."""

    def __init__(self, client: Client, *, callers: int) -> None:
        self._client = client
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(callers)]
        self.answered: Counter[str] = Counter()
        self.waiting = 0
        self.failed: list[Exception] = []
        self._lock = threading.Lock()

    def _ask(self) -> None:
        while not self._stop.is_set() and self.answered.total() < 100_000:
            try:
                with self._lock:
                    self.waiting += 1
                version = self._client.recommend(user="u1", limit=5).info.bundle.version
                with self._lock:
                    self.answered[version] += 1
            except Exception as error:
                self.failed.append(error)
            finally:
                with self._lock:
                    self.waiting -= 1

    def wait_for(self, count: int) -> None:
        goal = self.answered.total() + count
        wait_until(lambda: self.answered.total() >= goal or bool(self.failed))

    def __enter__(self) -> Asking:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def ask_until_both_answer(client: Client) -> None:
    """The first calls go to whichever replica is connected first."""
    seen: set[str] = set()

    def ask() -> bool:
        seen.add(client.recommend(user="u1", limit=1).info.bundle.version)
        return seen == {"one", "two"}

    wait_until(ask)


def test_calls_go_to_both_in_turn(client: Client) -> None:
    ask_until_both_answer(client)
    answered = Counter(client.recommend(user="u1").info.bundle.version for _ in range(60))
    assert answered == {"one": 30, "two": 30}


def test_a_replica_that_drains_fails_no_call(
    client: Client, replicas: list[ServingProcess]
) -> None:
    ask_until_both_answer(client)
    with Asking(client, callers=4) as asking:
        asking.wait_for(50)
        replicas[0].process.send_signal(signal.SIGTERM)
        assert replicas[0].process.wait(timeout=30) == 0
        before = asking.answered["one"]
        asking.wait_for(100)
        assert asking.answered["one"] == before
    assert asking.failed == []


def test_a_replica_that_is_killed_fails_no_call(
    client: Client, replicas: list[ServingProcess]
) -> None:
    ask_until_both_answer(client)
    with Asking(client, callers=8) as asking:
        asking.wait_for(50)
        # Stopped first, so that there are calls in it that nobody answers: in the end all callers
        # wait for it.
        replicas[0].process.send_signal(signal.SIGSTOP)
        seen: list[int] = []

        def all_wait() -> bool:
            seen.append(asking.answered.total())
            return asking.waiting == 8 and len(seen) > 10 and seen[-1] == seen[-10]

        wait_until(all_wait)
        replicas[0].process.send_signal(signal.SIGKILL)
        asking.wait_for(200)
    assert asking.failed == []


def test_where_all_are_gone_it_is_unavailable(
    client: Client, replicas: list[ServingProcess]
) -> None:
    ask_until_both_answer(client)
    for each in replicas:
        each.end(signal.SIGKILL)
    with pytest.raises(Unavailable):
        client.recommend(user="u1")


def test_one_connection_would_send_all_calls_to_one(replicas: list[ServingProcess]) -> None:
    """What a headless service and `round_robin` are there for: gRPC's default does not balance."""
    addresses = ",".join(each.target for each in replicas)
    pick_first = {"grpc.service_config": '{"loadBalancingConfig": [{"pick_first": {}}]}'}
    with Client(f"ipv4:{addresses}", timeout_s=20, channel_options=pick_first) as client:
        answered = Counter(client.recommend(user="u1").info.bundle.version for _ in range(30))
    assert len(answered) == 1
