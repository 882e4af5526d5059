"""Reads tables of losses from Python objects."""

from __future__ import annotations

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
    Set,
    Tuple,
    Union,
    cast,
)

import numpy as np
import numpy.typing as npt

from . import _native
from ._checks import file_of, mapping, shown
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
Label = Union[str, float]
"""A domain, of which a column of numbers has numbers."""


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
    lines: List[int]
    """Of the rows in a file; empty where they are numbered."""
    warnings: str
    """How the file was read, as JSON."""


class _Source(NamedTuple):
    names: List[str]
    column: Callable[[str], Any]
    what: str


class _Columns(NamedTuple):
    numbers: Dict[str, Floats]
    labels: Dict[str, List[str]]
    names: List[str]
    """The table's own columns."""
    what: str
    unasked: List[str]
    sha256: str = ""
    lines: List[int] = []
    warnings: str = "[]"


def given(
    table: Any, rename: Optional[Mapping[str, str]] = None, domain: Optional[Label] = None
) -> Given:
    """The columns of a table that laws use, for one domain."""
    taken = _renamed(rename)
    read = _read(table, taken)
    if domain is not None or len(set(read.labels.get("domain", ()))) > 1:
        read = _of_domain(read, domain)
    rows = [len(v) for v in read.numbers.values()] + [len(v) for v in read.labels.values()]
    return Given(
        rows=rows[0],
        numbers={name: values.tobytes() for name, values in read.numbers.items()},
        labels=read.labels,
        columns=read.names,
        unasked=[name for name in read.unasked if domain is None or name != "domain"],
        source=read.what,
        sha256=read.sha256,
        map=_map(taken),
        lines=read.lines,
        warnings=read.warnings,
    )


def numbers(table: Any, rename: Optional[Mapping[str, str]] = None) -> Dict[str, Floats]:
    """Only the numeric columns, of every row."""
    return _read(table, _renamed(rename), once=False).numbers


def _renamed(rename: Optional[Mapping[str, str]]) -> Dict[str, str]:
    mapping('columns by name, as {"run": "Run"}', columns=rename)
    return dict(rename or {})


def _map(taken: Mapping[str, str]) -> List[str]:
    return [f"{name}={column}" for name, column in taken.items()]


def _read(table: Any, taken: Mapping[str, str], *, once: bool = True) -> _Columns:
    """The columns that laws use; of a frame, with ``once``, without rows that repeat others."""
    unknown = [name for name in taken if name not in NUMBERS + LABELS]
    if unknown:
        raise ForgettingLawsError(
            f"columns = {unknown[0]}: must be one of {', '.join(NUMBERS + LABELS)}"
        )
    if isinstance(table, (str, os.PathLike)):
        return _file(os.fspath(cast("Union[str, os.PathLike[str]]", table)), taken)
    source = _access(table)
    read = _columns(source, taken)
    return _counted_once(read, source, taken) if once else read


def _no_rows(names: Sequence[str]) -> str:
    found = ", ".join(names) or "none"
    return f"the table has no rows, or no column that a law reads; its columns are {found}"


def _file(path: str, taken: Mapping[str, str]) -> _Columns:
    with file_of("table"):
        read = _native.read_table(path, _map(taken))
    numbers, labels, names, unasked, sha256, lines, warnings = read
    if not numbers and not labels:
        raise ForgettingLawsError(_no_rows(names))
    floats = {name: np.frombuffer(values) for name, values in numbers.items()}
    return _Columns(floats, labels, names, path, unasked, sha256, lines, warnings)


def _columns(source: _Source, taken: Mapping[str, str]) -> _Columns:
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
        try:
            values = source.column(column)
        except (TypeError, LookupError) as error:
            raise ForgettingLawsError(
                f"{column} of {source.what} cannot be read ({error}); give a dict of columns"
            ) from None
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
    if rows == 0:
        raise ForgettingLawsError("the table has no rows")
    if rows is None:
        raise ForgettingLawsError(_no_rows(source.names))
    unasked = [n for n in SPECIAL if (n in numbers or n in labels) and n not in taken]
    return _Columns(numbers, labels, source.names, source.what, unasked)


def _counted_once(read: _Columns, source: _Source, taken: Mapping[str, str]) -> _Columns:
    """Without the rows that repeat another in every column of the table, with a warning."""
    counts = [len(v) for v in read.numbers.values()] + [len(v) for v in read.labels.values()]
    rows = counts[0]
    alike = _alike(read, rows)
    if not alike:
        return read
    columns: List[List[Any]] = [values[alike].tolist() for values in read.numbers.values()]
    columns += [[labels[i] for i in alike] for labels in read.labels.values()]
    known = {taken.get(name, name) for name in [*read.numbers, *read.labels]}
    for name in source.names:
        if name in known:
            continue
        if source.names.count(name) > 1:
            # Which of them is meant cannot be said, and rows that differ in one are not the same.
            return read
        cells = _other(source, name)
        if len(cells) == rows:
            columns.append([_label(cells[i]) for i in alike])
    seen: Set[Tuple[Any, ...]] = set()
    repeated: List[int] = []
    for i, row in zip(alike, zip(*columns)):
        # NaN is not equal to itself.
        key = tuple("" if _is_missing(cell) else cell for cell in row)
        if key in seen:
            repeated.append(i)
        seen.add(key)
    if not repeated:
        return read
    gone = set(repeated)
    kept = [i for i in range(rows) if i not in gone]
    warnings = _native.repeated_rows(rows, [i + 1 for i in repeated])
    return _rows(read, kept)._replace(warnings=warnings)


def _alike(read: _Columns, rows: int) -> List[int]:
    """The rows that may equal another in the columns that laws use: those of equal hashes."""
    mixed = np.zeros(rows, dtype=np.uint64)
    # -0 is 0, and NaN is NaN.
    columns: List[Any] = [np.where(np.isnan(v), np.nan, v + 0.0) for v in read.numbers.values()]
    columns += [np.fromiter(map(hash, labels), np.int64, rows) for labels in read.labels.values()]
    for column in (column.view(np.uint64) for column in columns):
        mixed = (mixed ^ column) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    order = np.argsort(mixed)
    same = np.flatnonzero(mixed[order[1:]] == mixed[order[:-1]])
    alike: List[int] = np.unique(np.concatenate([order[same], order[same + 1]])).tolist()
    return alike


def _other(source: _Source, name: str) -> Sequence[Any]:
    """A column that no law uses; none where it is no sequence."""
    try:
        return _sequence(source.column(name), name)
    except (ForgettingLawsError, TypeError, LookupError):
        return ()


def _rows(read: _Columns, kept: List[int]) -> _Columns:
    """Some of the rows, with their numbers in the table."""
    return read._replace(
        numbers={name: values[kept] for name, values in read.numbers.items()},
        labels={name: [values[i] for i in kept] for name, values in read.labels.items()},
        lines=[read.lines[i] for i in kept] if read.lines else [i + 1 for i in kept],
    )


def _of_domain(read: _Columns, domain: Optional[Label]) -> _Columns:
    domains = read.labels.get("domain", [])
    known = ", ".join(sorted(set(domains))) or "none"
    if domain is None:
        raise ForgettingLawsError(
            f"domain is missing: the table has several, {known}; name one, or leave the column out to fit "
            "all rows together"
        )
    # A column of numbers that lacks one has 1.0 for 1.
    asked = {_label(domain)} if isinstance(domain, str) else {_label(domain), str(float(domain))}
    kept = [i for i, name in enumerate(domains) if name in asked]
    if not kept:
        raise ForgettingLawsError(f"domain = {domain}: no row has it; the domains are {known}")
    return _rows(read, kept)


def _access(table: Any) -> _Source:
    """The names of a table's columns, a function from a name to the values, and what it is."""
    what = f"a {type(table).__name__}"
    if hasattr(table, "collect") and not hasattr(table, "__len__"):  # a LazyFrame of polars
        raise ForgettingLawsError(f"{what} has no rows yet: give what its collect() returns")
    if hasattr(table, "ngroups") or (hasattr(table, "agg") and not hasattr(table, "shape")):
        raise ForgettingLawsError(
            f"{what} is no table: give the frame that it groups, and domain for one of its groups"
        )
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
        "of a file"
    )


def _listed(table: Any, name: str) -> List[Any]:
    return list(table[name])


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
    except (TypeError, ValueError, OverflowError):  # lists of several lengths, nulls of an array of pyarrow
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
    except OverflowError:
        raise ForgettingLawsError(
            f"row {row}: {column} is {shown(value)}, which is too large; leave it empty if it is not known"
        ) from None
    except (TypeError, ValueError):
        raise ForgettingLawsError(
            f"row {row}: {column} is {value!r}, which is not a number"
        ) from None
