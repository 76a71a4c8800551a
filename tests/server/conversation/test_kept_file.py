"""Conversations in a file: shared, remembered, guarded."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from shortlist_server.conversation.kept import KeptOptions
from shortlist_server.conversation.kept_file import FILE, FileConversations
from shortlist_server.errors import ConfigError

WORKER = """
import asyncio, pathlib, sys
from shortlist_server.conversation.kept import KeptOptions
from shortlist_server.conversation.kept_file import FileConversations

async def turns(folder, name):
    kept = FileConversations(pathlib.Path(folder), KeptOptions(count_max=50))
    for number in range(30):
        await kept.keep(f"{name} {number}", name, b"12345")
        assert await kept.find(f"{name} {number}", name) == b"12345"

asyncio.run(turns(*sys.argv[1:]))
"""


async def test_what_one_process_keeps_others_find_and_go_on_with(tmp_path: Path) -> None:
    with (
        closing(FileConversations(tmp_path, KeptOptions())) as one,
        closing(FileConversations(tmp_path, KeptOptions())) as other,
    ):
        await one.keep("a", "ada", b"1")
        assert await other.find("a", "ada") == b"1"
        await other.keep("a", "ada", b"22")
        assert await one.find("a", "ada") == b"22"
        assert (len(one), one.size_bytes) == (1, 2)
    with closing(FileConversations(tmp_path, KeptOptions())) as again:
        assert await again.find("a", "ada") == b"22"


def test_nobody_else_may_read_it(tmp_path: Path) -> None:
    closing(FileConversations(tmp_path / "new", KeptOptions()))
    assert (tmp_path / "new" / FILE).stat().st_mode & 0o777 == 0o600


async def test_what_has_expired_is_gone_when_it_is_opened_again(tmp_path: Path) -> None:
    with closing(FileConversations(tmp_path, KeptOptions(ttl_s=1), lambda: 0.0)) as one:
        await one.keep("a", "ada", b"what was said")
    with closing(FileConversations(tmp_path, KeptOptions(), lambda: 1.0)) as again:
        assert len(again) == 0
    assert b"what was said" not in (tmp_path / FILE).read_bytes()


@pytest.mark.parametrize("foreign", ["no database", "another program's", "a later format"])
def test_a_file_that_is_not_ours_is_refused(tmp_path: Path, foreign: str) -> None:
    path = tmp_path / FILE
    if foreign == "no database":
        path.write_bytes(b"x" * 5_000)
    else:
        if foreign == "a later format":
            FileConversations(tmp_path, KeptOptions()).close()
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS theirs (name)")
            connection.execute("PRAGMA user_version = 7")
            connection.commit()
    with pytest.raises(ConfigError, match=rf"state_dir: .*/{FILE}: cannot keep conversations"):
        FileConversations(tmp_path, KeptOptions())


def test_processes_that_open_and_write_it_at_once_lose_nothing(tmp_path: Path) -> None:
    workers = [
        subprocess.Popen([sys.executable, "-c", WORKER, str(tmp_path), f"w{one}"])
        for one in range(3)
    ]
    assert [worker.wait() for worker in workers] == [0, 0, 0]
    with closing(FileConversations(tmp_path, KeptOptions())) as kept:
        assert (len(kept), kept.size_bytes) == (50, 250)
