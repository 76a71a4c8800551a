"""The file format of hnswlib 0.8, checked before hnswlib reads it: hnswlib itself checks nothing.

A link to an item that there is not makes a search read outside of its memory. A bundle's hash says
that the file is what somebody wrote, not that he wrote an index.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shortlist_server.errors import BundleCorrupt

# hnswalg.h, saveIndex: offset of level 0, capacity, count, bytes per item, offset of the label,
# offset of the vector, top level, entry point, links per item above and at level 0, M, level
# multiplier, ef_construction. Then level 0, one record an item; then for each item the size of its
# lists of links above level 0, and those.
HEADER = struct.Struct("<QQQQQQiIQQQdQ")
CHUNK_ROWS = 65_536


def check_file(
    path: Path,
    vectors: NDArray[np.float32],
    last: NDArray[np.float32] | None,
    *,
    m: int,
    name: str,
) -> None:
    """Check that a file is an index of these vectors, with label i for row i.

    Args:
        path: The file.
        vectors: [items, n] float32.
        last: float32 [items]: one more component of each indexed point; None where there is none.
        m: Links per item, as the manifest says.
        name: What to call the file in errors.

    Raises:
        BundleCorrupt: it is not; the message says what is wrong.
    """
    if not path.is_file():
        raise BundleCorrupt(f"{name}: expected an index file, found none")
    count, dimension = len(vectors), vectors.shape[1] + (last is not None)
    with path.open("rb") as file:
        header = file.read(HEADER.size)
    top, entry = _check_header(header, count=count, dimension=dimension, m=m, name=name)
    record = np.dtype(
        [
            ("link_count", "<u2"),
            ("flags", "<u2"),
            ("links", "<u4", (2 * m,)),
            ("point", "<f4", (dimension,)),
            ("label", "<u8"),
        ]
    )
    ground_bytes = count * record.itemsize
    if path.stat().st_size < HEADER.size + ground_bytes + 4 * count:
        raise BundleCorrupt(f"{name}: expected more than {ground_bytes} bytes: the file is cut")
    items = np.memmap(path, record, "r", HEADER.size, (count,))
    _check_ground(items, vectors, last, name)
    upper = np.memmap(path, np.uint8, "r", HEADER.size + ground_bytes)
    _check_levels(upper.data, count=count, m=m, top=top, entry=entry, name=name)


def _check_header(
    header: bytes, *, count: int, dimension: int, m: int, name: str
) -> tuple[int, int]:
    """Check the header; returns the top level and the entry point."""
    if len(header) < HEADER.size:
        raise BundleCorrupt(f"{name}: expected an hnswlib index, got {len(header)} bytes")
    (
        level0,
        capacity,
        stored,
        item_bytes,
        label_at,
        vector_at,
        top,
        entry,
        upper,
        lower,
        m_got,
        *_,
    ) = HEADER.unpack(header)
    links_bytes = 4 + 8 * m
    expected = {
        "offset of level 0": (0, level0),
        "item count": (count, stored),
        "bytes per item": (links_bytes + 4 * dimension + 8, item_bytes),
        "offset of the vector": (links_bytes, vector_at),
        "offset of the label": (links_bytes + 4 * dimension, label_at),
        "links per item above level 0": (m, upper),
        "links per item at level 0": (2 * m, lower),
        "m": (m, m_got),
    }
    for what, (wanted, got) in expected.items():
        if wanted != got:
            raise BundleCorrupt(f"{name}: {what}: expected {wanted}, got {got}; export again")
    if capacity < count or not 0 <= entry < count or top < 0:
        raise BundleCorrupt(f"{name}: its header is not that of an index of {count} items")
    return top, entry


def _check_ground(
    items: NDArray[np.void],
    vectors: NDArray[np.float32],
    last: NDArray[np.float32] | None,
    name: str,
) -> None:
    """Check links, labels and vectors of level 0."""
    count, dimension = vectors.shape
    labelled = np.zeros(count, np.bool_)
    for start in range(0, count, CHUNK_ROWS):
        chunk = items[start : start + CHUNK_ROWS]
        links, used = chunk["links"], chunk["link_count"][:, np.newaxis]
        if (used > links.shape[1]).any() or chunk["flags"].any():
            raise BundleCorrupt(f"{name}: an item has more links than there is room for")
        if (links[np.arange(links.shape[1]) < used] >= count).any():
            raise BundleCorrupt(f"{name}: a link leads to an item that there is not")
        labels = chunk["label"]
        if (labels >= count).any():
            raise BundleCorrupt(f"{name}: expected labels 0 to {count - 1}, got {labels.max()}")
        rows = labels.astype(np.int64)
        labelled[rows] = True
        fits = np.array_equal(chunk["point"][:, :dimension], vectors[rows])
        if fits and last is not None:
            # Another machine may have summed up in another order.
            slack = 1e-6 * float(last.max(initial=0))
            fits = np.allclose(chunk["point"][:, dimension], last[rows], rtol=1e-5, atol=slack)
        if not fits:
            raise BundleCorrupt(
                f"{name}: its vectors are not the item embeddings; export the bundle again"
            )
    if not labelled.all():
        raise BundleCorrupt(f"{name}: expected a label for each row, got some twice")


def _check_levels(data: memoryview, *, count: int, m: int, top: int, entry: int, name: str) -> None:
    """Check the links above level 0: whose item is how high, and where they lead."""
    list_bytes = 4 + 4 * m
    heights = np.zeros(count, np.int64)
    lists: list[tuple[int, NDArray[np.uint32]]] = []
    at = 0
    for item in range(count):
        size = int.from_bytes(data[at : at + 4], "little")
        at += 4
        if not size:
            continue
        if size % list_bytes or at + size > len(data):
            raise BundleCorrupt(f"{name}: the links of item {item} are cut or of another size")
        heights[item] = size // list_bytes
        for level, begin in enumerate(range(at, at + size, list_bytes), start=1):
            used = int.from_bytes(data[begin : begin + 2], "little")
            if used > m:
                raise BundleCorrupt(f"{name}: an item has more links than there is room for")
            lists.append((level, np.frombuffer(data, "<u4", used, begin + 4)))
        at += size
    if at != len(data) or heights[entry] != top or heights.max(initial=0) != top:
        raise BundleCorrupt(f"{name}: its levels are not those that its header tells of")
    for level, links in lists:
        if (links >= count).any() or (heights[links] < level).any():
            raise BundleCorrupt(f"{name}: a link leads to an item that is not at its level")
