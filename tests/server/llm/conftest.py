from __future__ import annotations

from collections.abc import Iterator

import pytest
from llm_stub import LlmStub


@pytest.fixture
def stub() -> Iterator[LlmStub]:
    with LlmStub() as stub:
        yield stub
