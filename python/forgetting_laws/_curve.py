"""The U-curve of a finetuning run, for training loops."""

from __future__ import annotations

import csv
import io
import os
import stat
import tempfile
from contextlib import contextmanager
from typing import Any, Dict, Generator, List, Mapping, NamedTuple, Optional, Tuple, Union

from . import _native
from ._checks import counted, real, whole
from ._native import ForgettingLawsError

Path = Union[str, "os.PathLike[str]"]


class Evaluation(NamedTuple):
    """Both losses after a number of optimiser steps, in nats per token."""

    step: int
    loss_ft: float
    loss_pt: float


class Bottom(NamedTuple):
    """The evaluation with the lowest loss on the target, which the laws describe."""

    step: int
    loss_ft: float
    loss_pt: float
    interior: bool
    """Whether there are evaluations on both sides. If not, the run was too short to overfit."""


class UCurve:
    """The evaluations of a finetuning run, whose target loss falls and then rises as the model overfits.

    Parameters
    ----------
    loss_pt0 : float
        The pretraining loss of the pretrained model, before finetuning and without an adapter, in nats per
        token, on the same text as in later evaluations.
    rise : float
        How far the target loss must be above the bottom for the U-curve to have turned, in nats.
    factor : float
        The minimum step for this, as a multiple of the bottom's step.
    min_steps : int
        Steps that are always taken.

    Examples
    --------
    >>> curve = UCurve(loss_pt0=3.0)
    >>> for step, loss_ft, loss_pt in [(0, 4.0, 3.0), (100, 3.1, 3.2), (200, 3.3, 3.4)]:
    ...     curve.add(step, loss_ft, loss_pt)
    >>> curve.bottom
    Bottom(step=100, loss_ft=3.1, loss_pt=3.2, interior=True)
    >>> curve.turned
    True
    """

    def __init__(
        self,
        loss_pt0: float,
        *,
        rise: float = 0.1,
        factor: float = 2.0,
        min_steps: int = 100,
    ) -> None:
        whole(min_steps=min_steps)
        real(loss_pt0=loss_pt0, rise=rise, factor=factor)
        self.loss_pt0 = loss_pt0
        self.evaluations: List[Evaluation] = []
        self._rule = (rise, factor, min_steps)
        self._seen()

    def add(self, step: int, loss_ft: float, loss_pt: float) -> None:
        """Adds both validation losses after ``step`` optimiser steps, in nats per token; step 0 is the
        model before finetuning. Steps must ascend."""
        whole(step=step)
        real(loss_ft=loss_ft, loss_pt=loss_pt)
        self.evaluations.append(Evaluation(step, loss_ft, loss_pt))
        try:
            self._seen()
        except ForgettingLawsError:
            self.evaluations.pop()
            raise

    @property
    def bottom(self) -> Optional[Bottom]:
        """The evaluation with the lowest loss on the target; None without a finite one."""
        found = self._seen()[0]
        return None if found is None else Bottom(*found)

    @property
    def turned(self) -> bool:
        """Whether further training would only overfit; also true if a loss is not finite."""
        return self._seen()[1]

    @property
    def stable(self) -> bool:
        """Whether all losses are finite and the target loss never rises by more than 1 nat from one
        evaluation to the next."""
        return self._seen()[2]

    @property
    def losses(self) -> Dict[str, float]:
        """The losses for :meth:`Study.tell`: ``loss_pt0``, and ``loss_pt`` and ``loss_ft`` at the
        bottom."""
        bottom = self.bottom
        if bottom is None:
            raise ForgettingLawsError("evaluations are missing: no finite losses were evaluated")
        return {"loss_pt0": self.loss_pt0, "loss_pt": bottom.loss_pt, "loss_ft": bottom.loss_ft}

    def row(self, **settings: Any) -> Dict[str, Any]:
        """The run as a row that :func:`fit` reads: its settings, such as ``n_params``, ``d_ft_tokens``
        and ``p``, the losses, and whether the bottom is ``interior``."""
        losses = self.losses
        bottom = self.bottom
        assert bottom is not None
        return {**settings, **losses, "step": bottom.step, "interior": bottom.interior}

    def __repr__(self) -> str:
        bottom = self.bottom
        lowest = "none" if bottom is None else f"step {bottom.step}, L_ft = {bottom.loss_ft:.6g}"
        return (
            f"UCurve: L_pt0 = {self.loss_pt0:.6g}, {counted(len(self.evaluations), 'evaluation')}; bottom: "
            f"{lowest}{', and it has turned' if self.turned else ''}"
        )

    def _seen(self) -> Tuple[Optional[Tuple[int, float, float, bool]], bool, bool]:
        return _native.u_curve(self.evaluations, *self._rule)


def evaluation_steps(
    steps: int, *, min_interval: int = 1, ratio: float = 1.2, max_interval: int = 250
) -> List[int]:
    """After which optimiser steps to evaluate, from 0 to ``steps``: densely at the start, to catch an
    early bottom, then at intervals that grow by ``ratio``.

    >>> evaluation_steps(200, min_interval=10, ratio=1.5, max_interval=50)
    [0, 10, 20, 30, 45, 67, 100, 150, 200]
    """
    whole(steps=steps, min_interval=min_interval, max_interval=max_interval)
    return _native.evaluation_steps(steps, min_interval, ratio, max_interval)


def add_row(path: Path, row: Mapping[str, Any], *, key: str = "run") -> None:
    """Adds a run to a CSV file that :func:`fit` reads, or replaces the row with the same ``key``. Several
    processes may write to one file, and a process that is killed meanwhile leaves it as it was.

    Parameters
    ----------
    path : path
        The file, comma-separated and with a name in .csv; it is created if it does not exist.
    row : mapping
        By column; None is an empty cell.
    key : str
        The column that names the run.

    Raises
    ------
    ForgettingLawsError
        If the file is not one that a row can be added to; it is left as it was.
    """
    cells = {str(name): "" if value is None else str(value) for name, value in row.items()}
    target: str = os.path.realpath(os.fspath(path))
    if not target.lower().endswith(".csv"):
        raise ForgettingLawsError(f"{os.fspath(path)}: the name must end in .csv, for fit to read it")
    with _locked(target) as content:
        mark = "\ufeff" if content.startswith("\ufeff") else ""
        header, rows = _parsed(os.fspath(path), content[len(mark) :])
        rows = [known for known in rows if not (key in cells and known.get(key) == cells[key])]
        header += [name for name in cells if name not in header]
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, header, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows([*rows, cells])
        _replace(target, mark + text.getvalue())


def _parsed(path: str, text: str) -> Tuple[List[str], List[Dict[str, str]]]:
    """The header and the rows of a comma-separated file, of which nothing may be lost."""
    first = text.lstrip("\r\n").split("\n", 1)[0]
    other = [name for sign, name in ((";", ";"), ("\t", "tabs"), ("|", "|")) if sign in first]
    if first.startswith(("#", "sep=")) or (other and "," not in first):
        why = f"are separated by {other[0]}" if other else "do not stand in its first line"
        raise ForgettingLawsError(
            f"{path}: its columns {why}; save it as comma-separated text, or name another file"
        )
    try:
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        lines = [(reader.line_num, cells) for cells in reader if cells]
    except csv.Error as error:
        raise ForgettingLawsError(f"{path}: is not a CSV file ({error})") from None
    if not lines:
        return [], []
    header = lines[0][1]
    twice = [name for name in header if header.count(name) > 1]
    if twice:
        raise ForgettingLawsError(f"{path}: several columns are named {twice[0]}; rename all but one")
    for line, cells in lines[1:]:
        if len(cells) > len(header):
            raise ForgettingLawsError(
                f"{path}, line {line}: has {len(cells)} cells, and the header has {len(header)}"
            )
    return header, [dict(zip(header, cells)) for _, cells in lines[1:]]


@contextmanager
def _locked(path: str) -> Generator[str, None, None]:
    """The content of a file that no other process changes meanwhile."""
    import fcntl

    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        with open(descriptor, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            # Whoever had the lock before has put another file in its place.
            if not _is_at(path, descriptor):
                continue
            try:
                content = file.read().decode("utf-8")
            except UnicodeDecodeError:
                raise ForgettingLawsError(f"{path}: is not UTF-8 text; save it as UTF-8") from None
            yield content
            return


def _is_at(path: str, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _replace(path: str, text: str) -> None:
    """Puts a file in the place of another, whole or not at all."""
    descriptor, new = tempfile.mkstemp(prefix=".add_row-", dir=os.path.dirname(path))
    try:
        with open(descriptor, "w", newline="", encoding="utf-8") as file:
            os.fchmod(descriptor, stat.S_IMODE(os.stat(path).st_mode))
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        os.replace(new, path)
    except BaseException:
        os.unlink(new)
        raise
