"""Finished runs from a CSV file: one row a run, a header that names the columns, and what makes the rows comparable.

Columns are found by name, in any order and case; columns that are not known are only used by selections.

| what | names (the first one found is taken) | unit |
| --- | --- | --- |
| loss | the one column with ``loss`` in its name, or ``--loss-column`` | nats a token |
| compute | train_flops, flops, train_compute, compute | FLOPs |
| tokens | train_tokens, tokens | tokens |
| parameters | params, parameters, n_params, num_params | parameters |
| horizon | token_multiple, horizon, tokens_per_param | any label |
| data mix | data_mix, mixture, mix, dataset, data, corpus, tokenizer (every one that is there) | any label |
| name | run, name, run_name, id | |

Numbers are read only from rows that were selected, so an unfinished run elsewhere in the file does no harm. Left out: units other than these.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from modelyard.scaling.chinchilla import SAME_HORIZON, spread
from modelyard.whole_file import read

COMPUTE = ("train_flops", "flops", "train_compute", "compute")
TOKENS = ("train_tokens", "tokens")
PARAMS = ("params", "parameters", "n_params", "num_params")
HORIZON = ("token_multiple", "horizon", "tokens_per_param")
MIX = ("data_mix", "mixture", "mix", "dataset", "data", "corpus", "tokenizer")
NAME = ("run", "name", "run_name", "id")


class Row(NamedTuple):
    """One line of the file."""

    line: int
    """Line number, from 1."""
    cells: Mapping[str, str]
    """Column (lower case) -> text."""


class Table(NamedTuple):
    """A file's rows, or a selection of them."""

    path: Path
    columns: tuple[str, ...]
    """Lower case, in the file's order."""
    rows: tuple[Row, ...]

    def find(self, names: Sequence[str]) -> str | None:
        """The first of ``names`` that is a column."""
        return next((name for name in names if name in self.columns), None)

    def number(self, row: Row, column: str) -> float:
        """A positive finite number. Raises ValueError naming file, line and column."""
        text = row.cells[column]
        try:
            value = float(text)
        except ValueError:
            raise ValueError(f"{self.path}, line {row.line}, column {column}: {text!r} is not a number") from None
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{self.path}, line {row.line}, column {column}: {text} is not a positive finite number")
        return value

    def name(self, row: Row) -> str:
        """The run's name, or its line."""
        column = self.find(NAME)
        return row.cells[column] if column and row.cells[column] else f"line {row.line}"


class Selection(NamedTuple):
    """``column=value``."""

    column: str
    value: str


def read_table(path: Path) -> Table:
    """A comma-, semicolon- or tab-separated file with a header. Raises ValueError naming file and line."""
    try:
        text = read(path).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ValueError(f"{path}: cannot be read: {reason}") from None
    lines = text.splitlines()
    first = next((line for line in lines if line.strip() and not line.startswith("#")), "")
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
    columns: tuple[str, ...] = ()
    rows = []
    for cells in _cells(reader, path):
        cells = [cell.strip() for cell in cells]
        if not any(cells) or cells[0].startswith("#"):
            continue
        if not columns:
            columns = tuple(cell.lower() for cell in cells)
            if twice := sorted({name for name in columns if columns.count(name) > 1}):
                raise ValueError(f"{path}, line {reader.line_num}: column {twice[0]!r} occurs twice")
            continue
        if len(cells) != len(columns):
            raise ValueError(f"{path}, line {reader.line_num}: {len(cells)} cells, but the header has {len(columns)}")
        rows.append(Row(reader.line_num, dict(zip(columns, cells, strict=True))))
    if not rows:
        raise ValueError(f"{path}: no runs in it")
    return Table(path, columns, tuple(rows))


def _cells(reader: Any, path: Path) -> Iterator[list[str]]:
    try:
        yield from reader
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: {error}") from None


def parse_selection(text: str) -> Selection:
    """Read ``column=value``. Raises ValueError."""
    column, equals, value = text.partition("=")
    if not equals or not column.strip() or not value.strip():
        raise ValueError(f"selection {text!r}: expected column=value, such as token_multiple=10xC")
    return Selection(column.strip().lower(), value.strip())


def select(table: Table, selections: Sequence[Selection]) -> Table:
    """Rows that have, in every column named, one of the values given for it; values that are numbers are compared as numbers.

    Raises:
        ValueError: a column that the file has not, or a value that no row has (the values there are listed).
    """
    wanted: dict[str, list[str]] = {}
    for column, value in selections:
        if column not in table.columns:
            raise ValueError(f"{table.path}: no column {column!r} (its columns: {', '.join(table.columns)})")
        if not any(_same(row.cells[column], value) for row in table.rows):
            there = sorted({row.cells[column] for row in table.rows})
            raise ValueError(f"{table.path}: no run has {column}={value} (there are: {', '.join(there[:12])})")
        wanted.setdefault(column, []).append(value)
    rows = tuple(
        row for row in table.rows if all(any(_same(row.cells[column], value) for value in values) for column, values in wanted.items())
    )
    if not rows:
        raise ValueError(f"{table.path}: no run has {' and '.join(f'{s.column}={s.value}' for s in selections)} at once")
    return table._replace(rows=rows)


def _same(cell: str, value: str) -> bool:
    try:
        return float(cell) == float(value)
    except ValueError:
        return cell == value


def loss_column(table: Table, asked: str | None) -> str:
    """The column with the loss. Raises ValueError when it is not there or more than one could be meant."""
    if asked:
        if asked.lower() not in table.columns:
            raise ValueError(f"{table.path}: no column {asked!r} (its columns: {', '.join(table.columns)})")
        return asked.lower()
    found = [column for column in table.columns if "loss" in column]
    if len(found) != 1:
        raise ValueError(f"{table.path}: {', '.join(found) or 'no column'} could be the loss; name it with --loss-column")
    return found[0]


def required(table: Table, names: Sequence[str], what: str) -> str:
    """The column among ``names``. Raises ValueError naming what is missing."""
    column = table.find(names)
    if column is None:
        raise ValueError(f"{table.path}: no column for {what} (one of {', '.join(names)})")
    return column


def changed_mix(table: Table) -> str | None:
    """What differs between the rows although their losses can only be compared when it does not; None when nothing does."""
    for column in MIX:
        if column in table.columns and len(values := sorted({row.cells[column] for row in table.rows})) > 1:
            return f"the runs differ in {column} ({', '.join(values)})"
    return None


def mixed_horizon(table: Table) -> str | None:
    """How the rows' token horizons differ; None when they are one horizon (or all runs have the same tokens).

    The horizon's own column decides where there is one; otherwise tokens per parameter, which may differ by a factor of 1.5.
    """
    if column := table.find(HORIZON):
        values = sorted({row.cells[column] for row in table.rows})
        return f"the runs are of several token horizons ({column}: {', '.join(values)})" if len(values) > 1 else None
    tokens, compute, params = table.find(TOKENS), table.find(COMPUTE), table.find(PARAMS)
    if tokens is None or (compute is None and params is None):
        return None
    trained = np.array([table.number(row, tokens) for row in table.rows])
    if spread(trained) < 1.05:
        return None
    ratios = trained / np.array([parameters(table, row) for row in table.rows])
    if spread(ratios) < SAME_HORIZON:
        return None
    return f"the runs are of several token horizons ({ratios.min():.3g} to {ratios.max():.3g} tokens a parameter)"


def parameters(table: Table, row: Row) -> float:
    """N of a run: its parameters column, or train_flops / (6 train_tokens), which counts what a token costs."""
    if column := table.find(PARAMS):
        return table.number(row, column)
    compute, tokens = required(table, COMPUTE, "compute"), required(table, TOKENS, "tokens")
    return table.number(row, compute) / (6 * table.number(row, tokens))
