"""What the native module's numbers cannot say in a sentence."""

from __future__ import annotations

import operator
from contextlib import contextmanager
from typing import Any, Generator, Iterable, Mapping, Optional

from ._native import ForgettingLawsError


def whole(**numbers: int) -> None:
    """Refuses what is no whole number from 0 to 2^63 - 1."""
    for name, value in numbers.items():
        try:
            good = 0 <= operator.index(value) < 2**63
        except TypeError:
            good = False
        if not good:
            raise ForgettingLawsError(f"{name} = {shown(value)}: must be a whole number of at least 0")


def real(**numbers: Optional[float]) -> None:
    """Refuses what is no number; None is what was not given."""
    for name, value in numbers.items():
        try:
            good = value is None or (not isinstance(value, str) and isinstance(float(value), float))
        except (TypeError, ValueError, OverflowError):
            good = False
        if not good:
            raise ForgettingLawsError(f"{name} = {shown(value)}: must be a number")


def share(**numbers: Optional[float]) -> None:
    """Refuses what is no number from 0 to 1; None is what was not given."""
    real(**numbers)
    for name, value in numbers.items():
        if value is not None and not 0 <= value <= 1:
            raise ForgettingLawsError(f"{name} = {shown(value)}: must lie between 0 and 1")


def listed(**lists: Optional[Iterable[Any]]) -> None:
    """Refuses what is no list, or another sequence; None is what was not given."""
    for name, value in lists.items():
        if value is not None and (isinstance(value, (str, bytes)) or not hasattr(value, "__iter__")):
            raise ForgettingLawsError(f"{name} = {shown(value)}: must be a list")


def mapping(what: str, **mappings: Optional[Mapping[Any, Any]]) -> None:
    """Refuses what is no dict, with what it must be a dict of; None is what was not given."""
    for name, value in mappings.items():
        if value is not None and not isinstance(value, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ForgettingLawsError(f"{name} = {shown(value)}: must be a dict of {what}")


@contextmanager
def file_of(argument: str) -> Generator[None, None, None]:
    """Names the argument in the message of an error of its file."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        reason = f"the file of {argument} cannot be used: {error.strerror}"
        raise type(error)(error.errno, reason, error.filename) from None


def rank_of(rank: int, ranks: int) -> None:
    """Refuses a rank that is none of so many."""
    whole(rank=rank, ranks=ranks)
    if rank >= ranks:
        raise ForgettingLawsError(f"rank = {rank}: must be below ranks, {ranks}")


def shown(value: Any) -> str:
    """A value in a message, shortened if it is long."""
    try:
        text = str(value)
    except ValueError:  # Python writes no whole number of thousands of digits.
        return "a number of thousands of digits"
    return text if len(text) <= 40 else f"{text[:40]}..."


def counted(count: int, what: str) -> str:
    """``1 run``, ``2 runs``."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
