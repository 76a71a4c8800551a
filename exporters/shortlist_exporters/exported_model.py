"""Models on their way into a bundle: whatever they came as, they leave as checked ONNX."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from shortlist_server.bundle.manifest import Model, Output
from shortlist_server.bundle.writer import BundleWriter
from shortlist_server.runtime.featurize import VocabularyIndex
from shortlist_server.runtime.inputs import ModelInputs
from shortlist_server.runtime.models import LoadedModel
from shortlist_server.runtime.onnx_session import OnnxSession, read_signature

from shortlist_exporters.errors import SpecError
from shortlist_exporters.progress import step
from shortlist_exporters.spec import ModelSpec, RankerSpec, Spec, TowerSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedModel:
    """A model on its way into the bundle."""

    name: str
    """Section name: `query_tower`, `item_tower`, `ranker`."""
    spec: ModelSpec
    source: Path
    """The SavedModel folder or the `.onnx` file that it came from."""
    loaded: LoadedModel

    @property
    def declared(self) -> Model:
        """Its manifest entry."""
        return self.loaded.session.declared


def convert_models(
    spec: Spec,
    folder: Path,
    writer: BundleWriter,
    tokens: Mapping[str, Sequence[str] | Sequence[int]],
) -> dict[str, ExportedModel]:
    """Bring the models of a spec to ONNX, into the bundle that is being written.

    Args:
        spec: The spec.
        folder: What its paths are relative to.
        writer: Where the models go.
        tokens: The vocabularies by name.

    Returns:
        The models by section name.

    Raises:
        SpecError: a model is missing, or its tensors are not those of the spec.
        ConversionError: a model has no counterpart in ONNX.
    """
    vocabularies = {name: VocabularyIndex(known) for name, known in tokens.items()}
    models = {}
    wanted: dict[str, ModelSpec | None] = {
        "query_tower": spec.query_tower,
        "item_tower": spec.item_tower,
        "ranker": spec.ranker,
    }
    for name, model in wanted.items():
        if model is None:
            continue
        file = f"models/{name}.onnx"
        source = folder / model.model
        with step(f"convert {name.replace('_', ' ')}"):
            outputs = [model.output] if isinstance(model, TowerSpec) else list(_weights(model))
            sizes = {name: len(known) for name, known in tokens.items()}
            _to_onnx(name, source, writer.path(file), model, outputs, sizes)
            declared = _declare(name, file, writer.path(file), model, outputs)
            loaded = LoadedModel(
                OnnxSession(writer.path(file), declared),
                ModelInputs(declared, spec.features, vocabularies),
            )
        models[name] = ExportedModel(name=name, spec=model, source=source, loaded=loaded)
    return models


def _weights(model: ModelSpec) -> Mapping[str, float]:
    assert isinstance(model, RankerSpec)
    return model.weights


def _to_onnx(
    name: str,
    source: Path,
    target: Path,
    model: ModelSpec,
    outputs: list[str],
    vocabulary_sizes: Mapping[str, int],
) -> None:
    if source.suffix == ".onnx":
        if not source.is_file():
            raise SpecError(f"{name}: {source}: no such file; expected an ONNX model")
        from shortlist_exporters.onnx.model_file import check_model_file

        check_model_file(source)
        shutil.copyfile(source, target)
    elif source.is_dir():
        from shortlist_exporters.onnx.tensorflow import convert_saved_model

        convert_saved_model(
            source,
            target,
            inputs=model.inputs,
            outputs=outputs,
            vocabulary_sizes=vocabulary_sizes,
            tolerance=model.tolerance,
        )
    else:
        raise SpecError(
            f"{name}: {source}: expected a SavedModel folder or an .onnx file, found neither"
        )


def _declare(name: str, file: str, path: Path, model: ModelSpec, outputs: list[str]) -> Model:
    _, found = read_signature(path)
    if missing := [output for output in outputs if output not in found]:
        raise SpecError(f"{name}: expected an output {missing[0]!r}, the model has {sorted(found)}")
    if wrong := [output for output in outputs if found[output][0] != "float32"]:
        raise SpecError(f"{name}: output {wrong[0]!r}: expected float32, got {found[wrong[0]][0]}")
    return Model(
        file=file,
        inputs=model.inputs,
        outputs=[Output(name=output, shape=found[output][1]) for output in outputs],
        tolerance=model.tolerance,
    )
