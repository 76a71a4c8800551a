"""Mutations of bundles, the manifest's hashes made good again afterwards."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from google.protobuf.message import DecodeError
from model_mutations import model
from shortlist_server.index.hnsw_file import HEADER

Manifest: TypeAlias = dict[str, Any]
Draw: TypeAlias = random.Random
Mutation: TypeAlias = Callable[[Path, Manifest, Draw], str]

VALUES: list[Any] = [
    *(None, -1, 0, 1, 2**31, 2**63, -(2**63), 10**30, 1e308, -0.5, True, False),
    *("", "x", "é\0\u202e", "x" * 100_000, "../../etc/passwd", "/etc/passwd", "models"),
    *([], {}, [[]], {"": None}, ["x"] * 1_000),
]
NUMBERS = (-(2**63), -(2**31), -1, 0, 1, 59, 60, 61, 2**31 - 1, 2**31, 2**32, 2**62, 2**63 - 1)
FLOATS = (np.nan, np.inf, -np.inf, 1e38, -1e38, 1e-45, 0.0, -1.0)
WORDS = (0xFFFFFFFF, 0x7FFFFFFF, 0x80000000, 0x3D, 0x2710, 0)
PLACINGS = ("link", "outside", "nowhere", "loop", "folder", "pipe", "gone", "up", "more")
DTYPES = (
    *("<i4", "<i8", ">i8", "<u8", "<f2", "<f4", "<f8", ">f4", "?", "u1", "i1", "<c8", "<U3", "S4"),
)
HEADERS = (
    "{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776, 1099511627776), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 8), }",
    "{'descr': '<i8', 'fortran_order': False, 'shape': (9223372036854775807,), }",
    "{'descr': '<i8', 'fortran_order': True, 'shape': (), }",
    "{'descr': '|O', 'fortran_order': False, 'shape': (60,), }",
    "{'descr': [('a', '<i8'), ('b', '|O')], 'fortran_order': False, 'shape': (4,), }",
    "{'descr': '<i8', 'fortran_order': False, 'shape': (True,), }",
    "{'descr': '<i8', 'fortran_order': False}",
    "__import__('os').abort()",
    "(" * 5_000,
)


def mutate(bundle: Path, folder: Path, draw: Draw) -> str:
    """Write a bundle that differs from another in one place or a few; returns where."""
    if folder.is_symlink():
        folder.unlink()
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(bundle, folder)
    manifest: Manifest = json.loads((folder / "manifest.json").read_text())
    kinds, weights = zip(*MUTATIONS.items(), strict=True)
    chosen = draw.choices(kinds, weights, k=draw.choice((1, 1, 1, 1, 2, 3)))
    told = []
    for kind in chosen:
        try:
            told.append(f"{kind.__name__} {kind(folder, manifest, draw)}")
        except (LookupError, ValueError, TypeError, OverflowError, DecodeError, struct.error):
            told.append(f"{kind.__name__} not")  # what it works on is mutated already
    files = manifest.get("files")
    for name, entry in files.items() if isinstance(files, dict) else ():
        path = folder / name
        if isinstance(entry, dict) and len(name) < 256 and path.is_file():
            content = path.read_bytes()
            entry |= {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    # Last: a pipe stops whoever reads it.
    if draw.random() < PLACES:
        told.append(f"place {place(folder, draw)}")
    return "; ".join(told)


def _name(folder: Path, draw: Draw, ending: str = "") -> str:
    """Return the name of a file of the bundle, which the manifest may call otherwise by now."""
    paths = sorted(path for path in folder.rglob(f"*{ending}") if path.is_file())
    names = [path.relative_to(folder).as_posix() for path in paths if path.parent != folder]
    return draw.choice(names)


def content(folder: Path, manifest: Manifest, draw: Draw) -> str:
    """Change bytes."""
    name = _name(folder, draw, draw.choice(("", "", "", ".npy", ".onnx", ".bin")))
    held = bytearray((folder / name).read_bytes())
    at = draw.randrange(max(1, len(held)))
    kind = draw.choice(("flip", "truncate", "extend", "zero", "word", "repeat"))
    if kind == "flip":
        for _ in range(draw.choice((1, 1, 3, 20))):
            held[draw.randrange(len(held))] = draw.randrange(256)
    elif kind == "truncate":
        del held[at:]
    elif kind == "extend":
        held += draw.randbytes(draw.randint(1, 64))
    elif kind == "zero":
        held[at : at + 16] = bytes(len(held[at : at + 16]))
    elif kind == "word":
        held[at : at + 4] = draw.choice(WORDS).to_bytes(4, "little")
    else:
        held[at:at] = held[at : at + draw.randint(1, 256)]
    (folder / name).write_bytes(held)
    return f"{kind} {name} at {at}"


def array_kind(folder: Path, manifest: Manifest, draw: Draw) -> str:
    """Write an array of another dtype or shape."""
    name = _name(folder, draw, ".npy")
    array = np.load(folder / name)
    what = draw.choice((*DTYPES, "cut", "longer", "flat", "deeper", "scalar", "empty", "fortran"))
    if what == "cut":
        array = array[: draw.randrange(len(array))]
    elif what == "longer":
        array = np.concatenate([array, array[: draw.randint(1, 3)]])
    elif what == "flat":
        array = array.reshape(-1)[:: draw.choice((1, 2))]
    elif what == "deeper":
        array = array[..., np.newaxis]
    elif what == "scalar":
        array = array.reshape(-1)[0]
    elif what == "empty":
        array = array[:0]
    elif what == "fortran":
        array = np.asfortranarray(np.stack([array, array]))
    else:
        with np.errstate(all="ignore"):
            array = array.astype(what)
    np.save(folder / name, array)
    return f"{name} {what}"


def array_header(folder: Path, manifest: Manifest, draw: Draw) -> str:
    """Write another header before an array."""
    name, header = _name(folder, draw, ".npy"), draw.choice(HEADERS)
    version = draw.choice((b"\1\0", b"\2\0", b"\3\0", b"\x09\0"))
    size = struct.pack("<H" if version == b"\1\0" else "<I", draw.choice((len(header), 65_000)))
    rest = (folder / name).read_bytes()[128:]
    (folder / name).write_bytes(b"\x93NUMPY" + version + size + header.encode() + rest)
    return f"{name} {header[:60]}"


def array_values(folder: Path, manifest: Manifest, draw: Draw) -> str:
    """Change elements of an array of the right dtype and shape."""
    ending = draw.choice((".npy", "offsets.npy", "lists.npy", "rows.npy", "embeddings.npy"))
    name = _name(folder, draw, ending)
    array = np.load(folder / name)
    flat = array.reshape(-1)
    what = draw.choice(("set", "set", "set", "swap", "reverse", "fill", "shift"))
    at = draw.randrange(len(flat))
    if array.dtype.itemsize == 1:
        flat.view(np.uint8)[at:] = draw.randrange(256)
    elif what == "swap":
        other = draw.randrange(len(flat))
        flat[[at, other]] = flat[[other, at]]
    elif what == "reverse":
        flat[:] = flat[::-1].copy()
    elif what == "shift":
        flat += 1
    else:
        value = draw.choice(NUMBERS if array.dtype.kind == "i" else FLOATS)
        flat[at if what == "set" else slice(at, None)] = value
    np.save(folder / name, array)
    return f"{name} {what} at {at}"


def index(folder: Path, manifest: Manifest, draw: Draw) -> str:
    """Break the graph: its header, links, labels, points and levels."""
    path = folder / "index/hnsw.bin"
    held = bytearray(path.read_bytes())
    header = list(HEADER.unpack_from(held))
    count, size, label_at, point_at = header[2:6]
    start = HEADER.size + draw.randrange(count) * size
    what = draw.choice(("header", "count", "link", "link", "label", "point", "level", "level"))
    if what == "header":
        field = draw.randrange(len(header))
        limits = {"Q": (0, 2**64), "i": (-(2**31), 2**31), "I": (0, 2**32), "d": (0, 2**64)}
        low, high = limits[HEADER.format[1 + field]]
        numbers = (0, 1, header[6] + 1, count - 1, count, count + 1, 2**31 - 1, high - 1, low)
        header[field] = draw.choice(numbers)
        HEADER.pack_into(held, 0, *header)
    elif what == "count":
        word = draw.choice((0, 1, 16, 17, 255, 0xFFFF, 0x10000, 0x01000001))
        struct.pack_into("<I", held, start, word)
    elif what == "link":
        target = draw.choice((*WORDS, count, count - 1, draw.randrange(count)))
        struct.pack_into("<I", held, start + 4 + 4 * draw.randrange(16), target)
    elif what == "label":
        label = draw.choice((0, count, 2**32, 2**63, draw.randrange(count)))
        struct.pack_into("<Q", held, start + label_at, label)
    elif what == "point":
        places = (label_at - point_at) // 4
        at = draw.choice((places - 1, draw.randrange(places)))
        struct.pack_into("<f", held, start + point_at + 4 * at, draw.choice(FLOATS))
    else:
        upper = HEADER.size + count * size
        words = (*WORDS, 36, 72, 1, 8, 9, count, draw.randrange(count))
        at = upper + 4 * draw.randrange((len(held) - upper) // 4)
        struct.pack_into("<I", held, at, draw.choice(words))
    path.write_bytes(held)
    return what


def swap(folder: Path, manifest: Manifest, draw: Draw) -> str:
    """Put each of two files in the place of the other."""
    one, other = _name(folder, draw), _name(folder, draw)
    held = (folder / one).read_bytes()
    (folder / one).write_bytes((folder / other).read_bytes())
    (folder / other).write_bytes(held)
    return f"{one} {other}"


def place(folder: Path, draw: Draw) -> str:
    """Put something else where a file is, or where none is."""
    name = draw.choice((_name(folder, draw), _name(folder, draw), "manifest.json"))
    path, target = folder / name, folder / _name(folder, draw)
    what = draw.choice(
        ("link", "outside", "nowhere", "loop", "folder", "pipe", "gone", "up", "more")
    )
    outside = folder.parent / f"{folder.name}.outside"
    shutil.rmtree(outside, ignore_errors=True)
    if what == "up":
        path.parent.rename(outside)
        path.parent.symlink_to(outside)
        return f"{what} {name}"
    if what == "more":
        (folder / draw.choice(("models/weights.bin", ".hidden", "x.npy"))).write_bytes(b"x")
        return what
    outside.mkdir()
    path.rename(outside / "file")
    if what == "folder":
        path.mkdir()
    elif what == "pipe":
        os.mkfifo(path)
    elif what != "gone":
        targets = {"link": target, "outside": outside / "file", "loop": path}
        path.symlink_to(targets.get(what, "/nowhere/at/all"))
    return f"{what} {name}"


def golden(folder: Path, manifest: Manifest, draw: Draw) -> str:
    """Change a value of the golden requests."""
    path = folder / "golden/requests.json"
    document = json.loads(path.read_text())
    told = _replace(document, list(document), draw)
    path.write_text(json.dumps(document))
    return told


def field(folder: Path, manifest: Manifest, draw: Draw) -> str:
    """Change a field of the manifest, or of its list of files."""
    if draw.random() < 0.1:
        name = draw.choice(sorted(manifest["files"]))
        entry = manifest["files"].pop(name)
        other = draw.choice(("../x", "/etc/passwd", "a/../b", "x" * 300, "é", ".x", f"x/{name}"))
        manifest["files"][other] = entry
        return f"files {name} {other[:20]}"
    return _replace(manifest, [key for key in manifest if key != "files"], draw)


def _replace(document: dict[str, Any], keys: list[str], draw: Draw) -> str:
    """Change a part of a JSON document in place, below one of these keys."""
    paths = list(_paths({key: document[key] for key in keys}, draw.random() < 0.8))
    *path, last = draw.choice(paths)
    part, other = document, document
    for key in path:
        part = part[key]
    for key in draw.choice(paths):
        other = other[key]
    what = draw.choice(("value", "value", "other", "other", "number", "drop", "twice"))
    if what == "value":
        part[last] = draw.choice(VALUES)
    elif what == "other":
        part[last] = json.loads(json.dumps(other))
    elif what == "number" and isinstance(part[last], int | float):
        part[last] = draw.choice((part[last] + 1, part[last] - 1, -part[last], part[last] * 1000))
    elif what == "drop":
        del part[last]
    elif isinstance(part, list):
        part.append(json.loads(json.dumps(part[last])))
    else:
        part[f"{last}x"] = part[last]
    return f"{what} {'.'.join(map(str, (*path, last)))}"


def _paths(part: Any, leaves: bool, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    for key, value in part.items() if isinstance(part, dict) else enumerate(part):
        is_leaf = not isinstance(value, dict | list) or not value
        if is_leaf or not leaves:
            yield (*path, key)
        if not is_leaf:
            yield from _paths(value, leaves, (*path, key))


MUTATIONS: dict[Mutation, float] = {
    content: 3,
    array_kind: 2,
    array_header: 1,
    array_values: 3,
    index: 3,
    model: 4,
    swap: 1,
    golden: 1,
    field: 5,
}
"""What is done to bundles, and how often."""
PLACES = 0.05
"""How often files are put elsewhere, beside that."""
