"""The U-curve of a finetuning run, for training loops."""

from __future__ import annotations

import csv
import io
import os
from contextlib import contextmanager
from typing import Any, Dict, Generator, List, Mapping, NamedTuple, Optional, Tuple, Union

from . import _native
from ._checks import whole
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
        self.loss_pt0 = loss_pt0
        self.evaluations: List[Evaluation] = []
        self._rule = (rise, factor, min_steps)
        self._seen()

    def add(self, step: int, loss_ft: float, loss_pt: float) -> None:
        """Adds both validation losses after ``step`` optimiser steps, in nats per token; step 0 is the
        model before finetuning. Steps must ascend."""
        whole(step=step)
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
            raise ForgettingLawsError("evaluations = none: no finite losses were evaluated")
        return {"loss_pt0": self.loss_pt0, "loss_pt": bottom.loss_pt, "loss_ft": bottom.loss_ft}

    def row(self, **settings: Any) -> Dict[str, Any]:
        """The run as a row that :func:`fit` reads: its settings, such as ``n_params``, ``d_ft_tokens``
        and ``p``, the losses, and whether the bottom is ``interior``."""
        losses = self.losses
        bottom = self.bottom
        assert bottom is not None
        return {**settings, **losses, "step": bottom.step, "interior": bottom.interior}

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
    processes may write to one file.

    Parameters
    ----------
    path : path
        The file, which is created if it does not exist.
    row : mapping
        By column; None is an empty cell.
    key : str
        The column that names the run.
    """
    cells = {name: "" if value is None else str(value) for name, value in row.items()}
    with _locked(path) as file:
        reader = csv.DictReader(io.StringIO(file.read(), newline=""))
        rows = [known for known in reader if not (key in cells and known.get(key) == cells[key])]
        header = list(reader.fieldnames or [])
        header += [name for name in cells if name not in header]
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, header, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows([*rows, cells])
        file.seek(0)
        file.truncate()
        file.write(text.getvalue())


@contextmanager
def _locked(path: Path) -> Generator[io.TextIOWrapper, None, None]:
    """A file that no other process changes meanwhile."""
    import fcntl

    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    with open(descriptor, "r+", newline="", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file
        file.flush()
