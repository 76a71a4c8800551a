"""What a supervisor makes of a process that ends before it has loaded anything."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from shortlist_server.access.shared_buckets import make_memory
from shortlist_server.config import ServerConfig
from shortlist_server.errors import BundleCorrupt
from shortlist_server.workers.worker_set import SetOptions, WorkerSet


class Ended(subprocess.Popen[bytes]):
    """A process that has ended by the time anybody speaks to it."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.wait()


async def test_a_process_that_ends_before_it_is_told_anything_is_a_bundle_that_does_not_load(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    monkeypatch.setattr(subprocess, "Popen", Ended)
    config = ServerConfig(bundle=tmp_path)
    options = SetOptions(config=config, port=0, buckets=make_memory(), methods={})
    workers = WorkerSet(
        options,
        on_restart=lambda: None,
        on_zygote_gone=lambda gone: None,
        on_counted=lambda families: None,
    )
    with pytest.raises(BundleCorrupt, match="the process that loaded it ended by exit code 1"):
        await workers.load({"stable": tmp_path}, beside=True)
