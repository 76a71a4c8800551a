from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
from shortlist_exporters.onnx.framework import (
    import_recommenders,
    import_tensorflow,
    import_tf2onnx,
)
from shortlist_server.errors import MissingExtra


@pytest.mark.parametrize("load", [import_tensorflow, import_recommenders, import_tf2onnx])
def test_missing_tensorflow_names_the_extra(
    load: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(MissingExtra, match=r"tensorflow.*pip install 'shortlist\[export\]'"):
        load()


@pytest.mark.export
def test_keras_is_version_2(tensorflow: Any) -> None:
    assert tensorflow.keras.Model.__module__.startswith("tf_keras.")
