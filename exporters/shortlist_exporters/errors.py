"""Everything that can go wrong between training data and bundle, by name.

    ShortlistError              see `shortlist_server.errors`
      x ExportError             a bundle cannot be made
        - DataError             a data set is missing, malformed or contradicts itself
        - SpecError             the export spec, or a model's signature, is not what it must be
        - ConversionError       a model cannot be brought to ONNX

Messages say what, what was expected, what came, and what to do.
"""

from __future__ import annotations

from pathlib import Path

from shortlist_server.errors import ShortlistError


class ExportError(ShortlistError):
    """A bundle cannot be made."""


class DataError(ExportError):
    """A data set is missing, malformed or contradicts itself.

    Args:
        file: The file or folder that is at fault. The message begins with it.
        problem: What was expected, what came, and what to do.
        line: Where in a text file, from 1.
        row: Where in a file without lines (Parquet), from 1.
    """

    def __init__(
        self, file: Path, problem: str, *, line: int | None = None, row: int | None = None
    ) -> None:
        place = f", line {line}" if line is not None else f", row {row}" if row is not None else ""
        super().__init__(f"{file}{place}: {problem}")
        self.file = file
        self.line = line
        self.row = row


class SpecError(ExportError):
    """The export spec cannot be read, or does not fit the models that it names."""


class ConversionError(ExportError):
    """A model cannot be brought to ONNX."""
