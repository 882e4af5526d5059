"""Reads tables of losses from Python objects."""

from __future__ import annotations

import csv
import hashlib
import io
import os
from functools import partial
from typing import (
    Any,
    Callable,
    Dict,
    Iterable,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
    Union,
    cast,
)

import numpy as np
import numpy.typing as npt

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
LABELS = ("domain", "seed", "run", "parent_id", "interior")
# Those that change what is fitted, although they hold no number of a law.
SPECIAL = ("domain", "run", "weight", "parent_id")

Floats = npt.NDArray[np.float64]


class Given(NamedTuple):
    """A table in the form that the native module takes."""

    rows: int
    numbers: Dict[str, bytes]
    """64-bit floats in native order, NaN if a number is not known."""
    labels: Dict[str, List[str]]
    columns: List[str]
    unasked: List[str]
    source: str
    sha256: str
    map: List[str]


class _Source(NamedTuple):
    names: List[str]
    column: Callable[[str], Any]
    what: str
    sha256: str = ""


def given(
    table: Any, rename: Optional[Mapping[str, str]] = None, domain: Optional[str] = None
) -> Given:
    """The columns of a table that laws use, for one domain."""
    source = _access(table)
    taken = dict(rename or {})
    numbers, labels = _columns(source, taken)
    if domain is not None or len(set(labels.get("domain", ()))) > 1:
        numbers, labels = _of_domain(numbers, labels, domain)
    rows = [len(values) for values in numbers.values()] + [len(v) for v in labels.values()]
    asked = set(taken) | ({"domain"} if domain is not None else set[str]())
    return Given(
        rows=rows[0],
        numbers={name: values.tobytes() for name, values in numbers.items()},
        labels=labels,
        columns=source.names,
        unasked=[n for n in SPECIAL if (n in numbers or n in labels) and n not in asked],
        source=source.what,
        sha256=source.sha256,
        map=[f"{name}={column}" for name, column in taken.items()],
    )


def numbers(table: Any) -> Dict[str, Floats]:
    """Only the numeric columns."""
    return _columns(_access(table), {})[0]


def _columns(
    source: _Source, taken: Mapping[str, str]
) -> Tuple[Dict[str, Floats], Dict[str, List[str]]]:
    unknown = [name for name in taken if name not in NUMBERS + LABELS]
    if unknown:
        raise ForgettingLawsError(
            f"columns = {unknown[0]}: must be one of {', '.join(NUMBERS + LABELS)}"
        )
    numbers: Dict[str, Floats] = {}
    labels: Dict[str, List[str]] = {}
    rows: Optional[int] = None
    for name in NUMBERS + LABELS:
        column = taken.get(name, name)
        if column not in source.names:
            if name in taken:
                raise ForgettingLawsError(
                    f"there is no column {column}; the columns are {', '.join(source.names)}"
                )
            continue
        if source.names.count(column) > 1:
            raise ForgettingLawsError(f"several columns are named {column}; rename all but one")
        values = source.column(column)
        if name in NUMBERS:
            numbers[name] = _floats(values, column)
            count = len(numbers[name])
        else:
            labels[name] = [_label(value) for value in _sequence(values, column)]
            count = len(labels[name])
        if rows is not None and count != rows:
            raise ForgettingLawsError(
                f"{column} has {count} rows, and the columns before it have {rows}"
            )
        rows = count
    if not rows:
        found = ", ".join(source.names) or "none"
        raise ForgettingLawsError(
            f"the table has no rows of a column that a law reads; its columns are {found}"
        )
    return numbers, labels


def _of_domain(
    numbers: Dict[str, Floats], labels: Dict[str, List[str]], domain: Optional[str]
) -> Tuple[Dict[str, Floats], Dict[str, List[str]]]:
    domains = labels.get("domain", [])
    known = ", ".join(sorted(set(domains))) or "none"
    if domain is None:
        raise ForgettingLawsError(
            f"domain = none: the table has several, {known}; name one, or leave the column out to fit "
            "all rows together"
        )
    kept = [i for i, name in enumerate(domains) if name == domain]
    if not kept:
        raise ForgettingLawsError(f"domain = {domain}: no row has it; the domains are {known}")
    return (
        {name: values[kept] for name, values in numbers.items()},
        {name: [values[i] for i in kept] for name, values in labels.items()},
    )


def _access(table: Any) -> _Source:
    """The names of a table's columns, a function from a name to the values, and what it is."""
    if isinstance(table, (str, os.PathLike)):
        return _csv(os.fspath(cast("Union[str, os.PathLike[str]]", table)))
    what = f"a {type(table).__name__}"
    if hasattr(table, "column_names"):  # pyarrow, and datasets, which is indexed by names
        names: Iterable[Any] = table.column_names
        by_name = table.column if hasattr(table, "column") else partial(_listed, table)
        return _Source([str(name) for name in names], by_name, what)
    if hasattr(table, "columns") and not callable(table.columns):  # pandas, polars
        columns: Iterable[Any] = table.columns
        return _Source([str(name) for name in columns], table.__getitem__, what)
    if hasattr(table, "keys"):
        keys: Iterable[Any] = table.keys()
        return _Source([str(name) for name in keys], table.__getitem__, what)
    raise ForgettingLawsError(
        f"{what} is no table: give a dict of columns, a frame of pandas, polars or pyarrow, or the path "
        "of a CSV file"
    )


def _listed(table: Any, name: str) -> List[Any]:
    return list(table[name])


def _csv(path: str) -> _Source:
    with open(path, "rb") as file:
        content = file.read()
    try:
        text = content.decode("utf-8-sig")
        reader = csv.DictReader(io.StringIO(text, newline=""))
        header = list(reader.fieldnames or [])
        rows = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ForgettingLawsError(
            f"{path} is not CSV in UTF-8 ({error}); read it with pandas or polars and give the frame"
        ) from None
    sha256 = hashlib.sha256(content).hexdigest()

    def column(name: str) -> List[Optional[str]]:
        return [row[name] or None for row in rows]

    return _Source(header, column, path, sha256)


def _sequence(values: Any, column: str) -> Sequence[Any]:
    for method in ("tolist", "to_list", "to_pylist"):
        if hasattr(values, method):
            values = getattr(values, method)()
            break
    if isinstance(values, (str, bytes)) or not hasattr(values, "__len__"):
        raise ForgettingLawsError(f"a column must be a sequence, and {column} is {values!r}")
    return cast("Sequence[Any]", values)


def _floats(values: Any, column: str) -> Floats:
    """A contiguous column of numbers; NaN where one is not known."""
    array = _array(values)
    if array is not None and array.ndim != 1:
        raise ForgettingLawsError(
            f"a column must have one dimension, and {column} has the shape {array.shape}"
        )
    if array is not None and array.dtype.kind in "fiub":
        return np.ascontiguousarray(array, dtype=np.float64)
    cells = _sequence(values, column)
    read = [_number(value, column, row) for row, value in enumerate(cells, 1)]
    return np.array(read, dtype=np.float64)


def _array(values: Any) -> Optional[npt.NDArray[Any]]:
    """A column as an array, without inspecting each value, if possible."""
    if isinstance(values, np.ma.MaskedArray):
        masked = cast("Any", values)
        return masked.astype(np.float64).filled(np.nan) if masked.dtype.kind in "fiub" else None
    if isinstance(values, np.ndarray):
        return cast("npt.NDArray[Any]", values)
    try:
        if hasattr(values, "to_numpy"):
            return np.asarray(values.to_numpy())
        if isinstance(values, (list, tuple)):
            return np.array(cast("Sequence[Any]", values))
    except (TypeError, ValueError):  # lists of several lengths, nulls of an array of pyarrow
        pass
    return None


def _is_missing(value: Any) -> bool:
    # NaN, NaT and pandas' NA are not equal to themselves, or say so ambiguously.
    if value is None:
        return True
    try:
        return bool(value != value)
    except (TypeError, ValueError):
        return True


def _label(value: Any) -> str:
    text = "" if _is_missing(value) else str(value)
    # Half of a pair of surrogates is no text elsewhere.
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _number(value: Any, column: str, row: int) -> float:
    if _is_missing(value):
        return float("nan")
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ForgettingLawsError(
            f"row {row}: {column} is {value!r}, which is not a number"
        ) from None
