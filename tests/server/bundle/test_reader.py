"""Bundles that are not what their manifest says are refused by name."""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from shortlist_server.bundle.reader import open_bundle
from shortlist_server.errors import (
    BundleCorrupt,
    BundleError,
    BundleMissing,
    BundleUnsupported,
    ModelSignatureMismatch,
    ParityError,
)
from shortlist_server.generation import load_generation


@pytest.fixture
def copy(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A copy of the tiny bundle that a test may spoil."""
    shutil.copytree(tiny_bundle, tmp_path / "bundle")
    return tmp_path / "bundle"


def edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the manifest."""
    path = folder / "manifest.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def rewrite(folder: Path, name: str, content: bytes) -> None:
    """Change a file, and the manifest's hash of it with it: what a tool with a fault would
    write.
    """
    (folder / name).write_bytes(content)
    entry = {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
    edit(folder, lambda document: document["files"].update({name: entry}))


def save(folder: Path, name: str, array: np.ndarray) -> None:
    np.save(folder / "scratch.npy", array)
    content = (folder / "scratch.npy").read_bytes()
    (folder / "scratch.npy").unlink()
    rewrite(folder, name, content)


def refused(folder: Path, kind: type[BundleError], *words: str) -> None:
    with pytest.raises(kind) as caught:
        load_generation(folder)
    for word in words:
        assert word in str(caught.value)


def test_untouched_bundle_is_read(tiny_bundle: Path) -> None:
    bundle = open_bundle(tiny_bundle)
    assert bundle.item_ids[:2] == ["i0", "i1"]
    assert bundle.item_embeddings.shape == (60, 8)
    assert bundle.item_columns["genres"].type == "string_list"
    assert not bundle.item_embeddings.flags.writeable
    assert bundle.users is not None
    assert bundle.users.columns["age"][0] == 20.5


def test_missing_folder_and_missing_manifest_are_told_apart(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", BundleMissing, "nowhere", "no such folder")
    refused(tmp_path, BundleMissing, "no manifest.json")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("{", "cannot be parsed"),
        ("[]", "expected a JSON object, got list"),
        ("\xff", "cannot be parsed"),
        ("[" * 99_999, "cannot be parsed"),
    ],
)
def test_manifest_that_is_not_json_is_refused(copy: Path, text: str, word: str) -> None:
    (copy / "manifest.json").write_text(text, encoding="latin-1")
    refused(copy, BundleCorrupt, "manifest.json", word)


def test_newer_format_is_refused_by_its_number(copy: Path) -> None:
    edit(copy, lambda document: document.update(format_version=2, shiny="new"))
    refused(copy, BundleUnsupported, "expected at most 1, got 2", "upgrade")


@pytest.mark.parametrize("number", [None, "1", 0, -1, 1.0, True])
def test_format_that_is_no_number_is_refused(copy: Path, number: Any) -> None:
    edit(copy, lambda document: document.update(format_version=number))
    refused(copy, BundleCorrupt, "format_version", repr(number))


def test_unknown_section_is_refused_where_required_and_passed_over_where_not(copy: Path) -> None:
    edit(copy, lambda document: document["sections"].update(hologram={"required": False, "x": 1}))
    assert open_bundle(copy).manifest.name == "tiny"
    edit(copy, lambda document: document["sections"].update(hologram={"required": True}))
    refused(copy, BundleUnsupported, "hologram", "required")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.pop("metric"), ["metric", "required"]),
        (lambda d: d.update(metric="manhattan"), ["metric", "manhattan"]),
        (lambda d: d.update(surprise=1), ["surprise"]),
        (
            lambda d: d["items"].update(embeddings="../secret.npy"),
            ["items.embeddings", "../secret.npy"],
        ),
        (
            lambda d: d["items"].update(embeddings="/etc/passwd"),
            ["items.embeddings", "/etc/passwd"],
        ),
        (
            lambda d: d["items"].update(embeddings="items/other.npy"),
            ["items/other.npy", "listed in files"],
        ),
        (lambda d: d["sections"]["ranker"].update(weights={}), ["weights"]),
        (lambda d: d.update(item_count=61), ["items/embeddings.npy", "[61, 8]", "[60, 8]"]),
        (lambda d: d.update(dimension=9), ["items/embeddings.npy", "[60, 9]", "[60, 8]"]),
        (lambda d: d.update(metric="cosine"), ["items/embeddings.npy", "length 1"]),
        (lambda d: d["index"].update(m=16), ["index/hnsw.bin", "expected"]),
        (
            lambda d: d["features"].pop(0),
            ["models/query_tower.onnx", "user.age", "declared feature"],
        ),
        (lambda d: d["vocabularies"].pop("genres"), ["genres"]),
        (lambda d: d["sections"]["ranker"]["weights"].update(stars=1.0), ["weights", "stars"]),
        (lambda d: d["sections"]["ranker"]["weights"].update(like=float("nan")), ["like"]),
        (lambda d: d["items"]["columns"].append(d["items"]["columns"][0]), ["title", "twice"]),
        (lambda d: d["features"].append(d["features"][0]), ["user.age", "twice"]),
        (lambda d: d["vocabularies"]["users"].update(type="int64"), ["users", "int64"]),
        (lambda d: d["features"][0].update(type="bool", default=True), ["age", "bool", "double"]),
        (lambda d: d.update(created="0001-01-01T00:00:00+14:00"), ["created", "1970"]),
        (lambda d: d["files"].pop("models/ranker.onnx"), ["models/ranker.onnx", "list"]),
        (lambda d: d["files"].pop("index/hnsw.bin"), ["index/hnsw.bin", "list"]),
        (
            lambda d: d["items"]["columns"][1].update(list_offsets="items/ids.offsets.npy"),
            ["list_offsets"],
        ),
    ],
)
def test_manifest_with_a_wrong_field_is_refused_by_field(
    copy: Path, change: Callable[[dict[str, Any]], None], words: list[str]
) -> None:
    edit(copy, change)
    refused(copy, BundleCorrupt, *words)


def test_every_file_is_held_to_its_hash_and_size(tiny_bundle: Path, tmp_path: Path) -> None:
    names = json.loads((tiny_bundle / "manifest.json").read_text())["files"]
    assert len(names) > 15
    for number, name in enumerate(names):
        folder = tmp_path / str(number)
        shutil.copytree(tiny_bundle, folder)
        content = bytearray((folder / name).read_bytes())
        content[len(content) // 2] ^= 1
        (folder / name).write_bytes(content)
        refused(folder, BundleCorrupt, name, "sha256")
        (folder / name).write_bytes(content[:-1])
        refused(
            folder, BundleCorrupt, name, f"expected {len(content)} bytes, got {len(content) - 1}"
        )
        (folder / name).unlink()
        refused(folder, BundleCorrupt, name, "expected a file")


def test_link_in_place_of_a_file_is_refused(copy: Path, tmp_path: Path) -> None:
    shutil.move(copy / "items/embeddings.npy", tmp_path / "outside.npy")
    (copy / "items/embeddings.npy").symlink_to(tmp_path / "outside.npy")
    refused(copy, BundleCorrupt, "items/embeddings.npy", "regular file")


def test_link_that_leads_to_itself_is_refused_by_name(copy: Path) -> None:
    (copy / "items/embeddings.npy").unlink()
    (copy / "items/embeddings.npy").symlink_to(copy / "items/embeddings.npy")
    refused(copy, BundleCorrupt, "items/embeddings.npy: expected a regular file", "link")


def test_folder_that_is_a_link_out_of_the_bundle_is_refused(copy: Path, tmp_path: Path) -> None:
    shutil.move(copy / "items", tmp_path / "outside")
    (copy / "items").symlink_to(tmp_path / "outside")
    refused(copy, BundleCorrupt, "items/", "inside the bundle")


def test_pickle_in_place_of_an_array_is_refused(copy: Path) -> None:
    name = "popularity/rows.npy"
    np.save(copy / "p.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    content = (copy / "p.npy").read_bytes()
    (copy / "p.npy").unlink()
    rewrite(copy, name, content)
    refused(copy, BundleCorrupt, name)


@pytest.mark.parametrize(
    ("name", "array", "words"),
    [
        ("items/embeddings.npy", np.zeros((60, 8)), ["float32", "float64"]),
        ("items/embeddings.npy", np.full((60, 8), np.nan, np.float32), ["finite"]),
        ("items/embeddings.npy", np.asfortranarray(np.zeros((60, 8), np.float32)), ["row-major"]),
        ("items/ids.offsets.npy", np.arange(60), ["[61]"]),
        ("items/ids.offsets.npy", np.zeros(61, np.int64), ["offsets from 0"]),
        ("popularity/rows.npy", np.array([0, 60]), ["rows from 0 to 59"]),
        ("popularity/rows.npy", np.array([-1]), ["rows from 0 to 59"]),
        ("users/seen_rows.npy", np.array([99]), ["rows from 0 to 59"]),
        ("popularity/scores.npy", np.array([1], np.float32), ["[1]"]),
        ("items/embeddings.npy", np.full((60, 8), 1e30, np.float32), ["1e+15"]),
        ("users/seen_offsets.npy", np.zeros(13, np.int64), ["offsets"]),
    ],
)
def test_array_that_is_not_what_it_must_be_is_refused(
    copy: Path, name: str, array: np.ndarray, words: list[str]
) -> None:
    save(copy, name, array)
    refused(copy, BundleCorrupt, name, *words)


def test_repeated_and_empty_ids_are_refused(copy: Path) -> None:
    utf8 = np.load(copy / "items/ids.utf8.npy")
    offsets = np.load(copy / "items/ids.offsets.npy")
    twice = utf8.copy()
    twice[offsets[10] : offsets[11]] = twice[offsets[11] : offsets[12]]
    save(copy, "items/ids.utf8.npy", twice)
    refused(copy, BundleCorrupt, "items/ids.utf8.npy", "1 repeated")
    twice[offsets[10] : offsets[11]] = 0xFF
    save(copy, "items/ids.utf8.npy", twice)
    refused(copy, BundleCorrupt, "items/ids.utf8.npy", "UTF-8")


def test_model_whose_tensors_are_not_the_declared_ones_is_refused(copy: Path) -> None:
    def rename(document: dict[str, Any]) -> None:
        document["sections"]["query_tower"]["model"]["inputs"][0]["name"] = "usr"

    edit(copy, rename)
    refused(copy, ModelSignatureMismatch, "models/query_tower.onnx", "'usr'")


def test_model_of_another_dtype_is_refused(copy: Path) -> None:
    edit(copy, lambda d: d["sections"]["query_tower"]["model"]["inputs"][1].update(dtype="float64"))
    refused(copy, ModelSignatureMismatch, "'age'", "expected float64", "got float32")


def test_undeclared_model_input_is_refused(copy: Path) -> None:
    edit(copy, lambda d: d["sections"]["ranker"]["model"]["inputs"].pop(1))
    refused(copy, ModelSignatureMismatch, "models/ranker.onnx", "'hour'", "does not declare")


def test_file_that_is_no_model_is_refused(copy: Path) -> None:
    rewrite(copy, "models/ranker.onnx", b"not a model")
    refused(copy, BundleCorrupt, "models/ranker.onnx", "cannot load")


def change_tower(folder: Path, change: Callable[[onnx.ModelProto], None]) -> None:
    model = onnx.load(folder / "models/query_tower.onnx")
    change(model)
    rewrite(folder, "models/query_tower.onnx", model.SerializeToString())


@pytest.mark.parametrize("inside", [False, True])
def test_model_that_leaves_out_what_an_operator_needs_is_refused(copy: Path, inside: bool) -> None:
    """ONNX Runtime would load it, and end the process where it runs it."""

    def leave_out(model: onnx.ModelProto) -> None:
        node = model.graph.node[3]
        node.op_type = "Sum"
        node.input[0] = ""
        if inside:
            graph = onnx.helper.make_graph([node], "inner", [], [])
            node.input[0] = "of_age"
            model.graph.node.append(onnx.helper.make_node("If", ["user"], ["x"], then_branch=graph))

    change_tower(copy, leave_out)
    refused(copy, BundleCorrupt, "models/query_tower.onnx", "all inputs that 'Sum' needs")


def test_model_that_leaves_out_what_its_operator_can_do_without_is_served(copy: Path) -> None:
    def clip(model: onnx.ModelProto) -> None:
        model.graph.node[3].output[0] = "plain"
        model.graph.node.append(onnx.helper.make_node("Clip", ["plain", "", "most"], ["embedding"]))
        most = onnx.numpy_helper.from_array(np.array(1e9, np.float32), "most")
        model.graph.initializer.append(most)

    change_tower(copy, clip)
    load_generation(copy)


@pytest.mark.parametrize("location", ["/etc/passwd", "../items/embeddings.npy", "/dev/zero"])
def test_weights_outside_of_the_models_are_refused(copy: Path, location: str) -> None:
    def take(model: onnx.ModelProto) -> None:
        weights = model.graph.initializer[0]
        weights.ClearField("raw_data")
        weights.data_location = onnx.TensorProto.EXTERNAL
        weights.external_data.add(key="location", value=location)

    change_tower(copy, take)
    refused(copy, BundleCorrupt, "models/query_tower.onnx", "cannot load")


def test_names_of_a_model_that_are_no_utf8_are_refused(
    copy: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    plain = (copy / "models/query_tower.onnx").read_bytes()
    rewrite(copy, "models/query_tower.onnx", plain.replace(b"request", b"re\xebuest"))
    refused(copy, BundleCorrupt, "models/query_tower.onnx", "cannot load")
    assert not capfd.readouterr().out


def test_ranker_for_one_number_of_candidates_is_refused(copy: Path) -> None:
    """A bundle need not have golden requests, which would tell as much."""
    shutil.rmtree(copy / "golden")

    def without_golden(document: dict[str, Any]) -> None:
        del document["golden"]
        for name in [name for name in document["files"] if name.startswith("golden/")]:
            del document["files"][name]

    edit(copy, without_golden)
    model = onnx.load(copy / "models/ranker.onnx")
    model.graph.input[3].type.tensor_type.shape.dim[0].dim_value = 3
    rewrite(copy, "models/ranker.onnx", model.SerializeToString())
    refused(copy, ModelSignatureMismatch, "models/ranker.onnx", "expected to run")


def test_numbers_that_are_not_trainings_are_refused_by_output(copy: Path) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())
    golden = {
        entry["model"] + "." + entry["output"]: entry["values"]
        for entry in manifest["golden"]["outputs"]
    }
    values = np.load(copy / golden["ranker.like"])
    values[3, 2] += 1e-3
    save(copy, golden["ranker.like"], values)
    refused(copy, ParityError, "ranker.like", "[3, 2]", "expected")


def test_vectors_that_are_not_those_of_the_index_are_refused(copy: Path) -> None:
    vectors = np.load(copy / "items/embeddings.npy")
    save(copy, "items/embeddings.npy", vectors[::-1].copy())
    refused(copy, BundleCorrupt, "index/hnsw.bin", "not the item embeddings")


def test_golden_requests_that_cannot_be_read_are_refused(copy: Path) -> None:
    for content in (b"[]", b'{"requests": [{"values": {}, "item_ids": ["ghost"]}]}', b"{"):
        rewrite(copy, "golden/requests.json", content)
        refused(copy, BundleCorrupt, "golden/requests.json")


def test_golden_requests_that_the_models_cannot_answer_are_refused(copy: Path) -> None:
    plain = json.loads((copy / "golden/requests.json").read_text())

    def more_scores_than_items(request: dict[str, Any]) -> None:
        request["retrieval_scores"].append(0.5)

    def value_of_another_type(request: dict[str, Any]) -> None:
        request["values"]["user.age"] = "old"

    for change in (more_scores_than_items, value_of_another_type):
        document = json.loads(json.dumps(plain))
        change(document["requests"][3])
        rewrite(copy, "golden/requests.json", json.dumps(document).encode())
        refused(copy, BundleCorrupt, "golden/requests.json: expected requests that models/")


def test_golden_outputs_that_are_no_array_are_refused_by_name(copy: Path) -> None:
    name = "golden/query_tower.0.npy"
    with zipfile.ZipFile(copy / "archive", "w") as archive:
        archive.write(copy / name, "x.npy")
    for content in (b"\x93NUMPY\x01\0\x04\0((((", (copy / "archive").read_bytes()):
        (copy / "archive").unlink(missing_ok=True)
        rewrite(copy, name, content)
        refused(copy, BundleCorrupt, f"{name}: expected a .npy array")


def test_vocabulary_with_a_token_twice_is_refused_by_name(copy: Path) -> None:
    name = "vocabularies/000.utf8.npy"
    save(copy, name, np.full_like(np.load(copy / name), ord("x")))
    refused(copy, BundleCorrupt, "vocabulary '", "expected distinct tokens")


def test_item_that_is_popular_twice_is_refused(copy: Path) -> None:
    rows = np.load(copy / "popularity/rows.npy")
    rows[1] = rows[0]
    save(copy, "popularity/rows.npy", rows)
    refused(copy, BundleCorrupt, "popularity/rows.npy", "twice")


def test_file_that_the_manifest_does_not_list_is_refused(copy: Path) -> None:
    (copy / "models/weights.bin").write_bytes(b"outside of every hash")
    refused(copy, BundleCorrupt, "models/weights.bin", "lists")


def test_manifest_that_is_a_link_is_refused(copy: Path, tmp_path: Path) -> None:
    shutil.move(copy / "manifest.json", tmp_path / "manifest.json")
    (copy / "manifest.json").symlink_to(tmp_path / "manifest.json")
    refused(copy, BundleCorrupt, "manifest.json", "link")


def test_array_header_that_makes_numpy_stumble_is_refused_by_name(copy: Path) -> None:
    name = "popularity/scores.npy"
    plain = (copy / name).read_bytes()
    for header in (b"'shape': (-1,)", b"'shape': (9999999999999999999999,)", b"'shape': (((("):
        start = plain.index(b"'shape'")
        end = plain.index(b"}", start)
        rewrite(copy, name, plain[:start] + header.ljust(end - start) + plain[end:])
        refused(copy, BundleCorrupt, name)


def test_links_of_the_index_that_lead_nowhere_are_refused(copy: Path) -> None:
    """hnswlib would follow them out of its memory."""
    from shortlist_server.index.hnsw_file import HEADER

    name = "index/hnsw.bin"
    plain = (copy / name).read_bytes()
    item_bytes = HEADER.unpack(plain[: HEADER.size])[3]
    first = HEADER.size
    for at, value, word in (
        (first, (60_000).to_bytes(2, "little"), "more links"),
        (first + 4, (0x7FFFFFFF).to_bytes(4, "little"), "item that there is not"),
        (first + item_bytes - 8, (60).to_bytes(8, "little"), "labels 0 to 59"),
        (HEADER.size + 60 * item_bytes, (7).to_bytes(4, "little"), "links of item 0"),
        (48, (63).to_bytes(4, "little"), "levels"),
    ):
        rewrite(copy, name, plain[:at] + value + plain[at + len(value) :])
        refused(copy, BundleCorrupt, name, word)


def test_point_of_the_index_whose_added_component_is_wrong_is_refused(copy: Path) -> None:
    """The graph would be searched, and lead elsewhere."""
    from shortlist_server.index.hnsw_file import HEADER

    name = "index/hnsw.bin"
    plain = bytearray((copy / name).read_bytes())
    label_at = HEADER.unpack_from(plain)[4]
    for wrong in (float("nan"), 0.5):
        struct.pack_into("<f", plain, HEADER.size + label_at - 4, wrong)
        rewrite(copy, name, bytes(plain))
        refused(copy, BundleCorrupt, name, "not the item embeddings")
