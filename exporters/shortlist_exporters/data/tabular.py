"""A table in a file, CSV or Parquet, read the same way; faults are told with their line or row."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from pyarrow import csv, parquet

from shortlist_exporters.data.delimited import (
    TextLayout,
    excerpt,
    line_of_row,
    read_header,
    read_rows,
    reading,
)
from shortlist_exporters.errors import DataError

CSV_SUFFIX = ".csv"
PARQUET_SUFFIX = ".parquet"


@dataclass(frozen=True, slots=True, kw_only=True)
class TabularFile:
    """A `.csv` or `.parquet` file; the suffix decides."""

    path: Path
    delimiter: str = ","
    """CSV only: the one character between fields."""

    def column_names(self) -> list[str]:
        """Return the names of the columns, in order.

        Raises:
            DataError: there is no such file, it is neither CSV nor Parquet, or a name occurs twice.
        """
        self._check_kind()
        if self._is_csv:
            return read_header(self.path, self._layout)
        names: list[str] = self._parquet().schema_arrow.names
        if repeated := [name for name in names if names.count(name) > 1]:
            raise self.fault(f'expected column names that differ, got "{repeated[0]}" twice')
        return names

    def read(
        self, columns: Sequence[str] | None = None, *, as_text: Collection[str] = ()
    ) -> pa.Table:
        """Read the file.

        In CSV an empty field is null (a quoted one is the empty string), and the types are Arrow's
        guess: int64, double, bool or string. Dates and times stay text, as they are written.

        Args:
            columns: Which columns, in this order; all if None. They must exist.
            as_text: CSV only: columns that are text whatever they look like, such as ids ("007").

        Raises:
            DataError: the file cannot be read, or a row of a CSV file has too few or too many
                fields.
        """
        names = self.column_names()
        chosen = names if columns is None else list(columns)
        with reading(self.path):
            if self._is_csv:
                return self._read_csv(names, chosen, set(as_text) & set(chosen))
            try:
                return self._parquet().read(columns=chosen)
            except (pa.ArrowException, OSError) as error:
                raise self._not_parquet(error) from error

    def fault(self, problem: str, *, row: int | None = None) -> DataError:
        """Return the error to raise for a problem in this file.

        Args:
            problem: What was expected, what came, and what to do.
            row: Which row is at fault, from 0; None if it is none in particular.
        """
        if row is None:
            return DataError(self.path, problem)
        if self._is_csv:
            return DataError(self.path, problem, line=line_of_row(self.path, self._layout, row))
        return DataError(self.path, problem, row=row + 1)

    def place(self, row: int) -> str:
        """Return where a row (from 0) stands, for messages: "line 7" or "row 7"."""
        if self._is_csv:
            return f"line {line_of_row(self.path, self._layout, row)}"
        return f"row {row + 1}"

    @property
    def _is_csv(self) -> bool:
        return self.path.suffix.lower() == CSV_SUFFIX

    @property
    def _layout(self) -> TextLayout:
        return TextLayout(separator=self.delimiter, quoted=True, header=True)

    def _check_kind(self) -> None:
        if not self.path.is_file():
            raise self.fault("expected a file, got nothing under this name; check the path")
        if self.path.suffix.lower() not in (CSV_SUFFIX, PARQUET_SUFFIX):
            raise self.fault(
                f"expected a {CSV_SUFFIX} or {PARQUET_SUFFIX} file, got "
                f"{self.path.suffix or 'no suffix'}"
            )

    def _parquet(self) -> parquet.ParquetFile:
        # Not read_table: that one adds columns of its own where a folder is called "day=1".
        try:
            return parquet.ParquetFile(self.path)
        except (pa.ArrowException, OSError) as error:
            raise self._not_parquet(error) from error

    def _not_parquet(self, error: Exception) -> DataError:
        return self.fault(f"expected a Parquet file, got one that cannot be read: {error}")

    def _read_csv(self, names: list[str], chosen: list[str], as_text: set[str]) -> pa.Table:
        try:
            table = csv.read_csv(
                self.path,
                parse_options=csv.ParseOptions(delimiter=self.delimiter, newlines_in_values=True),
                convert_options=csv.ConvertOptions(
                    include_columns=chosen,
                    column_types=dict.fromkeys(as_text, pa.string()),
                    null_values=[""],
                    strings_can_be_null=True,
                    quoted_strings_can_be_null=False,
                ),
            )
        except pa.ArrowInvalid as error:
            raise self._csv_fault(names, error) from error
        temporal = {field.name for field in table.schema if pa.types.is_temporal(field.type)}
        return self._read_csv(names, chosen, as_text | temporal) if temporal else table

    def _csv_fault(self, names: list[str], error: pa.ArrowInvalid) -> DataError:
        for row in read_rows(self.path, self._layout):
            if len(row.fields) != len(names):
                return DataError(
                    self.path,
                    f"expected {len(names)} fields ({', '.join(names)}), got {len(row.fields)} in "
                    f"{excerpt(self.delimiter.join(row.fields))}; correct or remove the line",
                    line=row.line,
                )
        return self.fault(f"expected CSV, got a file that cannot be read: {error}")
