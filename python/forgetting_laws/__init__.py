"""Scaling laws for forgetting during finetuning with pretraining data injection.

The laws of Béthune et al. (ICML 2025, arXiv 2502.06042) for training code in Python: fits of the laws to a
table of losses, predictions and advice on the fraction p of pretraining data to inject, the exact sampler
for a training loop, and studies that choose the next run. The numbers equal those of the command
``replication`` to the last digit.

Losses are in nats per token, N in parameters, D_ft and D in tokens, p is a fraction.

Examples
--------
>>> import forgetting_laws as fl
>>> table = {
...     "n_params": [1e6, 1e6, 1e6, 1e7, 1e7, 1e7, 1e8, 1e8, 1e8],
...     "d_ft_tokens": [1e5, 1e6, 1e7] * 3,
...     "loss_ft": [3.212, 2.871, 2.592, 2.834, 2.554, 2.331, 2.527, 2.300, 2.117],
... }
>>> fit = fl.fit(table, law="finetuning", bootstrap=100)
>>> fit.status
'converged'
>>> fit.predict(n_params=1e9, d_ft_tokens=1e7)["value"] < 2.117
True
"""

from ._curve import Bottom, Evaluation, UCurve, add_row, evaluation_steps
from ._fit import Comparison, Fit, Law, advise, compare, fit, laws
from ._loss import token_loss
from ._mixture import InjectedDataset, InjectionSampler, Mixture
from ._native import ForgettingLawsError, __version__
from ._plots import Plot
from ._schedule import (
    OPTIMIZERS,
    FinetuningSchedule,
    PretrainingSchedule,
    Schedule,
    weight_decay,
)
from ._study import Answer, Asked, Study, StudyRun

__all__ = [
    "OPTIMIZERS",
    "Answer",
    "Asked",
    "Bottom",
    "Comparison",
    "Evaluation",
    "FinetuningSchedule",
    "Fit",
    "ForgettingLawsError",
    "InjectedDataset",
    "InjectionSampler",
    "Law",
    "Mixture",
    "Plot",
    "PretrainingSchedule",
    "Schedule",
    "Study",
    "StudyRun",
    "UCurve",
    "__version__",
    "add_row",
    "advise",
    "compare",
    "evaluation_steps",
    "fit",
    "laws",
    "token_loss",
    "weight_decay",
]
