"""What the package exports, and what importing it costs."""

from __future__ import annotations

import ast
import inspect
import json
import subprocess
import sys
import types
import typing
from pathlib import Path

import pytest
import shortlist_client
from shortlist_client import (
    async_client,
    client,
    connection,
    conversations,
    errors,
    explanation,
    filters,
    options,
    queries,
    results,
    streams,
    values,
)

PUBLIC_MODULES = [
    *(async_client, client, conversations, errors),
    *(explanation, options, queries, results),
]
# Filters are made by these, and not by their classes.
FILTERS = {"Filter", "all_of", "any_of", "attribute", "none_of"}

BROUGHT_BY_GRPC = {
    "cython_runtime",
    # It imports those of its siblings that are installed, so that `grpc.health` works.
    "grpc_channelz",
    "grpc_health",
    "grpc_reflection",
    "grpc_status",
    "grpc_tools",
    "typing_extensions",
}

# Runs in a fresh interpreter: this one has long imported everything.
NEW_MODULES = """
import importlib, json, sys
before = set(sys.modules)
importlib.import_module(sys.argv[1])
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def test_exported_members_are_sorted() -> None:
    assert shortlist_client.__all__ == sorted(shortlist_client.__all__)


def test_exported_members_are_complete() -> None:
    public = {
        name
        for module in PUBLIC_MODULES
        for name, member in vars(module).items()
        if inspect.isclass(member) and member.__module__ == module.__name__
    }
    public |= {
        name
        for module in (conversations, options, queries, values)
        for name, member in vars(module).items()
        if isinstance(member, types.UnionType) and not name.startswith("_")
    }
    public |= {name for name in FILTERS if hasattr(filters, name)}
    public |= {streams.Stream.__name__, streams.AsyncStream.__name__}
    public.add(connection.TlsOptions.__name__)
    assert set(shortlist_client.__all__) == public


@pytest.mark.parametrize("name", shortlist_client.__all__)
def test_every_exported_member_is_there_and_documented(name: str) -> None:
    member = getattr(shortlist_client, name)
    if inspect.isclass(member) or inspect.isfunction(member):
        assert inspect.getdoc(member)
    else:
        assert typing.get_args(member)


def test_no_module_of_the_client_imports_anything_else() -> None:
    """Wherever the import stands: the test below sees only what runs when a module is imported."""
    sources = list(Path(shortlist_client.__path__[0]).rglob("*.py"))
    assert len(sources) > 10
    imported = set()
    for source in sources:
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0
                imported.add((node.module or "").partition(".")[0])
    foreign = imported - set(sys.stdlib_module_names)
    assert foreign == {"google", "grpc", "shortlist", "shortlist_client"}


@pytest.mark.parametrize("module", ["shortlist_client", "shortlist_client.cli"])
def test_the_client_imports_nothing_but_grpc_protobuf_and_the_stubs(module: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", NEW_MODULES, module], check=True, capture_output=True, text=True
    )
    imported = {name.partition(".")[0] for name in json.loads(run.stdout)}
    compiled = {name for name in imported if name.startswith("_cython_")}
    foreign = imported - set(sys.stdlib_module_names) - BROUGHT_BY_GRPC - compiled
    assert foreign == {"google", "grpc", "shortlist", "shortlist_client"}
    # Slow to import, and needed by --version alone.
    assert "importlib.metadata" not in json.loads(run.stdout)
