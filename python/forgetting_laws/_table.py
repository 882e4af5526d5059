"""Tables of losses as people have them in Python."""

from __future__ import annotations

import csv
import os
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

from ._native import ForgettingLawsError

NUMBERS = (
    "n_params",
    "d_ft_tokens",
    "d_tokens",
    "p",
    "loss_pt0",
    "loss_pt",
    "loss_ft",
    "loss",
    "weight",
    "epochs",
)
LABELS = ("domain", "seed", "run", "parent_id")

Columns = Tuple[int, Dict[str, List[Optional[float]]], Dict[str, List[str]]]


def columns(table: Any, rename: Optional[Dict[str, str]] = None) -> Columns:
    """The columns of a table that the laws know: how many rows, numbers and labels.

    ``table`` is a path of a CSV file, a mapping from names to columns, or a frame of pandas, polars or
    pyarrow. ``rename`` says which other column is taken for a name. A missing number is None or NaN.
    """
    names, column = _access(table)
    taken = dict(rename or {})
    unknown = [name for name in taken if name not in NUMBERS + LABELS]
    if unknown:
        raise ForgettingLawsError(
            f"columns = {unknown[0]}: must be one of {', '.join(NUMBERS + LABELS)}"
        )
    numbers: Dict[str, List[Optional[float]]] = {}
    labels: Dict[str, List[str]] = {}
    rows: Optional[int] = None
    for name in NUMBERS + LABELS:
        source = taken.get(name, name)
        if source not in names:
            if name in taken:
                raise ForgettingLawsError(
                    f"there is no column {source}; the columns are {', '.join(map(str, names))}"
                )
            continue
        values = column(source)
        if rows is not None and len(values) != rows:
            raise ForgettingLawsError(
                f"{source} has {len(values)} rows, and the columns before it have {rows}"
            )
        rows = len(values)
        if name in NUMBERS:
            numbers[name] = [_number(value, source, i) for i, value in enumerate(values, 1)]
        else:
            labels[name] = ["" if _is_missing(value) else str(value) for value in values]
    if not rows:
        found = ", ".join(map(str, names)) or "none"
        raise ForgettingLawsError(
            f"the table has no rows of a column that a law reads; its columns are {found}"
        )
    return rows, numbers, labels


def _access(table: Any) -> Tuple[Sequence[Any], Any]:
    """The names of a table's columns, and a function from a name to the values."""
    if isinstance(table, (str, os.PathLike)):
        path: Union[str, os.PathLike[str]] = table
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            read = list(reader)
        header = list(reader.fieldnames or [])
        return header, lambda name: [row[name] or None for row in read]
    if hasattr(table, "column_names"):  # pyarrow
        return list(table.column_names), lambda name: table.column(name).to_pylist()
    if hasattr(table, "columns") and not callable(table.columns):  # pandas, polars
        names = list(table.columns)
        twins = [name for name in names if names.count(name) > 1]
        if twins:
            raise ForgettingLawsError(f"several columns are named {twins[0]}; rename all but one")
        return names, lambda name: _values(table[name])
    if hasattr(table, "keys"):
        return list(table.keys()), lambda name: _values(table[name])
    raise ForgettingLawsError(
        f"a {type(table).__name__} is no table: give a dict of columns, a frame of pandas, polars or "
        "pyarrow, or the path of a CSV file"
    )


def _values(column: Any) -> Sequence[Any]:
    for method in ("tolist", "to_list", "to_pylist"):
        if hasattr(column, method):
            column = getattr(column, method)()
            break
    if isinstance(column, (str, bytes)) or not hasattr(column, "__len__"):
        raise ForgettingLawsError(f"a column must be a sequence, and one is {column!r}")
    values: Sequence[Any] = column
    return values


def _is_missing(value: Any) -> bool:
    # NaN, NaT and pandas' NA are not equal to themselves, or say so ambiguously.
    if value is None:
        return True
    try:
        return bool(value != value)
    except (TypeError, ValueError):
        return True


def _number(value: Any, column: str, row: int) -> Optional[float]:
    if _is_missing(value):
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ForgettingLawsError(
            f"row {row}: {column} is {value!r}, which is not a number"
        ) from None
