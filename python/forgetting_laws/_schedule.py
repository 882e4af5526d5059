"""Learning rates and weight decay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Union, cast, overload

import numpy as np
import numpy.typing as npt

from . import _native
from ._checks import real, whole
from ._native import ForgettingLawsError

Steps = Union[Sequence[int], "npt.NDArray[np.int64]"]
Rates = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Schedule:
    """The learning rate of a run: :class:`PretrainingSchedule` or :class:`FinetuningSchedule`.

    Called with a step, or with an array of steps, it returns the rate divided by the peak, which is the
    factor for ``torch.optim.lr_scheduler.LambdaLR`` if the optimiser's own rate is the peak. Steps are
    counted from 0, as in LambdaLR.
    """

    peak: float
    """The highest learning rate of pretraining."""

    @overload
    def lr(self, step: int) -> float: ...
    @overload
    def lr(self, step: Steps) -> Rates: ...
    def lr(self, step: Any) -> Any:
        """The learning rate of optimiser steps."""
        return self._at(self.peak, step)

    @overload
    def __call__(self, step: int) -> float: ...
    @overload
    def __call__(self, step: Steps) -> Rates: ...
    def __call__(self, step: Any) -> Any:
        return self._at(1.0, step)

    def _at(self, peak: float, step: Any) -> Any:
        steps = np.asarray(step)
        if steps.dtype.kind not in "iu" or (steps < 0).any():
            raise ForgettingLawsError(f"step = {step}: must be whole numbers of at least 0")
        numbers: List[int] = steps.ravel().tolist()
        rates = cast("Any", np.array(self._rates(peak, numbers)))
        return float(rates[0]) if steps.ndim == 0 else rates.reshape(steps.shape)

    def _rates(self, peak: float, steps: List[int]) -> List[float]:
        raise NotImplementedError


@dataclass(frozen=True)
class PretrainingSchedule(Schedule):
    """The paper's pretraining: a linear warmup, then a cosine to the last step.

    Parameters
    ----------
    peak : float
        The highest learning rate.
    total_steps : int
        Optimiser steps of the run; the last has the terminal rate.
    warmup : float
        The share of warmup steps.
    terminal : float
        The last rate as a share of the peak.

    Examples
    --------
    >>> schedule = PretrainingSchedule(1e-3, 1000)
    >>> round(schedule.lr(999), 12), schedule(4)
    (1e-05, 1.0)
    """

    total_steps: int
    warmup: float = 0.005
    terminal: float = 0.01

    def __post_init__(self) -> None:
        whole(total_steps=self.total_steps)
        real(peak=self.peak, warmup=self.warmup, terminal=self.terminal)
        self._rates(self.peak, [])

    def _rates(self, peak: float, steps: List[int]) -> List[float]:
        return _native.pretraining_lr(peak, self.total_steps, self.warmup, self.terminal, steps)

    def crossing(self, share: float) -> Optional[float]:
        """The progress, from 0 to 1, at which the cosine has come down to this share of the peak; None
        if it never does. For 1/30 and the paper's schedule it is 0.902."""
        real(share=share)
        return _native.pretraining_crossing(self.warmup, self.terminal, share)


@dataclass(frozen=True)
class FinetuningSchedule(Schedule):
    """The paper's finetuning: a constant share of the peak pretraining rate, optionally with a linear
    warmup.

    Parameters
    ----------
    peak : float
        The highest learning rate of the pretraining.
    ratio : float
        The finetuning rate divided by that peak.
    warmup_steps : int
        The first warmup step has 1/warmup_steps of the rate, the last one the full rate.

    Examples
    --------
    ::

        schedule = FinetuningSchedule(peak=6e-4)
        optimizer = torch.optim.AdamW(model.parameters(), lr=schedule.peak)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule)
    """

    ratio: float = 1 / 30
    warmup_steps: int = 0

    def __post_init__(self) -> None:
        whole(warmup_steps=self.warmup_steps)
        real(peak=self.peak, ratio=self.ratio)
        self._rates(self.peak, [])

    def _rates(self, peak: float, steps: List[int]) -> List[float]:
        return _native.finetuning_lr(peak, self.ratio, self.warmup_steps, steps)


class _Optimizer(NamedTuple):
    means: str
    source: str


OPTIMIZERS: Dict[str, _Optimizer] = {
    "torch.optim.AdamW": _Optimizer(
        "times-lr", "PyTorch's documentation of AdamW: θ ← θ − γ·λ·θ before Adam's update, γ the rate"
    ),
    "torch.optim.Adam": _Optimizer(
        "l2", "PyTorch's documentation of Adam: g ← g + λ·θ; with decoupled_weight_decay it is AdamW"
    ),
    "torch.optim.SGD": _Optimizer(
        "times-lr", "PyTorch's documentation of SGD: g ← g + λ·θ, then θ ← θ − γ·g, without momentum"
    ),
    "optax.adamw": _Optimizer(
        "times-lr",
        "Optax's documentation of adamw: the decay is multiplied with the learning rate, unlike in "
        "Loshchilov and Hutter, where it is multiplied with the schedule alone",
    ),
    "optax.add_decayed_weights after scale_by_adam": _Optimizer(
        "times-lr", "Optax's adamw is this chain, with scale_by_learning_rate behind it"
    ),
    "optax.add_decayed_weights before scale_by_adam": _Optimizer(
        "l2", "Optax's chain: the decay is in the gradient that Adam rescales"
    ),
}
"""How optimisers define λ, and the source."""


def weight_decay(
    value: float,
    *,
    optimizer: str,
    semantics: str = "times-lr",
    peak: Optional[float] = None,
) -> float:
    """Converts a weight decay λ to the λ that an optimiser needs for the same decay.

    With η_t the schedule's multiplier, lr = η_t·peak and u Adam's update, a step is one of

    * ``times-lr``: θ ← θ − lr·λ·θ − lr·u, as AdamW of PyTorch and Optax; here the paper's 0.1;
    * ``fully-decoupled``: θ ← θ − η_t·λ·θ − lr·u, as Loshchilov and Hutter (2019), Algorithm 2;
    * ``l2``: g ← g + λ·θ, then θ ← θ − lr·u.

    Parameters
    ----------
    value : float
        The given λ.
    optimizer : str
        One of ``OPTIMIZERS``: ``torch.optim.AdamW``, ``torch.optim.Adam``, ``torch.optim.SGD``,
        ``optax.adamw``, ``optax.add_decayed_weights after scale_by_adam`` or ``before`` it.
    semantics : {"times-lr", "fully-decoupled", "l2"}
        The definition of the given λ.
    peak : float, optional
        The peak learning rate, needed if the two definitions differ. The optimiser must use the same
        schedule.

    Raises
    ------
    ForgettingLawsError
        If no λ of the optimiser gives the same decay, or without the peak where it is needed.

    Examples
    --------
    >>> weight_decay(0.1, optimizer="torch.optim.AdamW")
    0.1
    >>> weight_decay(1e-4, semantics="fully-decoupled", optimizer="optax.adamw", peak=1e-3)
    0.1
    """
    if optimizer not in OPTIMIZERS:
        raise ForgettingLawsError(
            f"optimizer = {optimizer}: must be one of {'; '.join(OPTIMIZERS)}"
        )
    real(value=value, peak=peak)
    means = OPTIMIZERS[optimizer].means
    return _native.convert_weight_decay(value, semantics, means, peak)
