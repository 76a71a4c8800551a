"""Workers that answer HTTP: through a switch of bundles, and until they are told to end."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from http_calls import free_address, post
from supervised import Supervised, until, write_bundle

RECOMMEND = "/shortlist.v1.RecommendationService/Recommend"
PATIENT = ("--wait-ms-max", "60000", "--wait-ms-standing", "60000")
"""No call is refused for having waited: the machine may be busy with other tests."""
BODY = {"query": {"user": {"id": "u1"}}, "limit": 3}


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("http") / "bundles"
    root.mkdir()
    for version, seed in (("1", 1), ("2", 2)):
        write_bundle(root, version, seed)
    return root


class Caller(threading.Thread):
    """Asks again and again, on a connection that it keeps for as long as the server does."""

    def __init__(self, address: str, key: str) -> None:
        super().__init__(daemon=True)
        self._address, self._key = address, key
        self.stopping = False
        self.versions: list[str] = []
        self.failures: list[str] = []
        self.connections = 0

    def run(self) -> None:
        body = json.dumps(BODY)
        # New workers begin beside the old ones, and two cores may not answer in the default time.
        patient = {"connect-timeout-ms": "20000", "connect-protocol-version": "1"}
        headers = {"content-type": "application/json", "authorization": self._key, **patient}
        connection = http.client.HTTPConnection(self._address, timeout=20)
        while not self.stopping:
            try:
                if connection.sock is None:
                    self.connections += 1
                connection.request("POST", RECOMMEND, body, headers)
                answer = connection.getresponse()
                told = json.loads(answer.read())
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
                connection.close()
                continue
            if answer.status == 200:
                self.versions.append(told["info"]["bundle"]["version"])
            else:
                self.failures.append(f"{answer.status} {told}")
        connection.close()


def test_workers_answer_http_through_a_switch_and_end_when_told(bundles: Path) -> None:
    address = free_address()
    flags = ("--workers", "2", "--http", address, *PATIENT)
    with Supervised(bundles.parent, *flags, bundle=bundles / "1") as server:
        key = dict(server.metadata)["authorization"]
        callers = [Caller(address, key) for _ in range(4)]
        for caller in callers:
            caller.start()
        until(lambda: all(len(each.versions) > 5 for each in callers), "first answers")
        assert server.activate("2").switched

        def newest() -> Any:
            return post(address, RECOMMEND, BODY, authorization=key).json["info"]["bundle"]

        until(lambda: newest()["version"] == "2", "new connections to get the new bundle")
        until(
            lambda: all(each.versions[-1] == "2" for each in callers),
            "all connections of the old workers to end",
        )
        for caller in callers:
            caller.stopping = True
        for caller in callers:
            caller.join(timeout=20)
            assert not caller.failures
            assert caller.connections >= 2
            assert sorted(caller.versions) == caller.versions
        begin = time.monotonic()
        code, log = server.end(signal.SIGTERM)
        assert code == 0, log
        assert time.monotonic() - begin < 20
    with pytest.raises(ConnectionRefusedError):
        post(address, RECOMMEND, BODY)


def test_second_server_on_the_port_is_refused(bundles: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(AssertionError, match=rf"http_listen: cannot bind {address}"):
            Supervised(bundles.parent, "--workers", "1", "--http", address, bundle=bundles / "1")
