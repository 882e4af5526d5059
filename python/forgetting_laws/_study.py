"""Ask and tell: which run to make next."""

from __future__ import annotations

import json
import os
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union, cast

from . import _html, _native
from ._checks import counted, file_of, listed, mapping, real, shown, whole
from ._native import ForgettingLawsError

Path = Union[str, "os.PathLike[str]"]


class Asked(NamedTuple):
    """A run to make."""

    run: int
    """Its number, for :meth:`Study.tell`."""
    model: str
    """The name of the model to start from."""
    n_params: float
    d_ft_tokens: float
    p: float
    cost: float
    """The cost, including its model if that must be pretrained."""
    makes_model: bool
    before: float
    """The mean standard deviation of the predicted ln of the increase in question."""
    after: float
    """The same, as expected after the run."""


def _number(run: Union[int, Asked]) -> int:
    number = run.run if isinstance(run, Asked) else run
    whole(run=number)
    return number


LOSSES = ("loss_pt0", "loss_pt", "loss_ft")


class _Refused(Exception):
    """What a training returned is not the losses of a run."""


def _losses(run: Asked, returned: Any) -> Dict[str, float]:
    """What a training returned, if it is losses and nothing else."""
    wanted = "train must return a mapping of loss_pt0, loss_pt and loss_ft"
    if not isinstance(returned, Mapping):
        raise _Refused(f"{wanted}, and for run {run.run} it returned {shown(returned)}")
    losses = dict(cast("Mapping[str, float]", returned))
    others = [str(name) for name in losses if name not in LOSSES]
    if others:
        given = ", ".join(f"{name}={losses[name]}" for name in LOSSES if name in losses)
        raise _Refused(
            f"{wanted} alone, and it returned {', '.join(others)} too; "
            f"study.tell({run.run}, {given}) records this run"
        )
    return losses


class StudyRun(NamedTuple):
    """A run of a study."""

    run: int
    model: str
    n_params: float
    d_ft_tokens: float
    p: float
    cost: float
    state: str
    """``open``, ``asked``, ``done`` or ``failed``."""
    loss_pt0: Optional[float]
    loss_pt: Optional[float]
    loss_ft: Optional[float]


class Answer:
    """The answer from the runs of a study.

    Attributes
    ----------
    verdict : str
        ``inject``, ``none_needed``, ``no_p``, ``unsure`` or ``not_shown``.
    p : float or None
        The p to use, if there is one.
    interval : (float, float) or None
        The interval of the p at which the law alone meets the limit.
    rises : list of (float, float, float, float)
        p, and the increase of the pretraining loss in nats: by the law, and the interval of a new run.
    lead : list of str
        The answer in sentences.
    warnings : list of str
    by_law : str
        The p at which the law alone meets the limit, with its interval, as a sentence; empty if the runs do
        not show it.
    deviation : float
        The standard deviation that the design expects, in ln of the increase in question.
    """

    def __init__(
        self, answer: Dict[str, Any], deviation: float, by_law: Optional[str] = None
    ) -> None:
        self.data = answer
        self.by_law = by_law or ""
        self.verdict: str = answer["verdict"]
        self.p: Optional[float] = answer["p"]
        self.lead: List[str] = answer["lead"]
        self.warnings: List[str] = answer["warnings"]
        self.deviation = deviation
        infinite = float("inf")
        self.interval: Optional[Tuple[float, float]] = None
        if answer["smallest_p"] is not None:
            of_law = answer["smallest_p"]["by_law"]
            low, high = of_law["low"], of_law["high"]
            self.interval = (
                infinite if low is None else low,
                infinite if high is None else high,
            )
        self.rises: List[Tuple[float, float, float, float]] = [
            (p, rise["value"], rise["low"], rise["high"]) for p, rise in answer["rises"]
        ]

    def __repr__(self) -> str:
        lines = self.lead + [self.by_law] * bool(self.by_law)
        return "\n".join(lines + [f"warning: {warning}" for warning in self.warnings])

    def _repr_html_(self) -> str:
        rises = [(f"{100 * p:g}%", *(f"{x:.4g}" for x in rise)) for p, *rise in self.rises]
        head = ["p", "increase of L_pt, nats", "low", "high"]
        first, *others = self.lead
        return (
            _html.paragraph(first, strong=True)
            + "".join(_html.paragraph(sentence) for sentence in others)
            + (_html.paragraph(self.by_law) if self.by_law else "")
            + (_html.table(head, rises) if rises else "")
            + _html.bullets(self.warnings)
        )


class Study:
    """A question, the candidate runs and their results, in one file.

    Any number of processes can share one file, including the command ``replication study``. Runs that were
    handed out and not yet told count as made when others are chosen.

    Parameters
    ----------
    path : path
        A file that :meth:`new` or ``replication study new`` wrote.

    Examples
    --------
    ::

        study = Study.new(
            "study.json", n_params=3.3e8, d_ft_tokens=3e6, limit=0.05,
            models={"small": 4.1e7, "middle": 1.1e8, "large": 3.3e8},
            amounts=[3e5, 1e6, 3e6], fractions=[0, 0.01, 0.05],
        )
        while runs := study.ask():
            run = runs[0]
            before, after, target = finetune(run.model, run.d_ft_tokens, run.p)
            study.tell(run, loss_pt0=before, loss_pt=after, loss_ft=target)
            print(study.answer())
    """

    def __init__(self, path: Path) -> None:
        self.path = os.fspath(path)
        self._read()

    @staticmethod
    def new(
        path: Path,
        *,
        n_params: float,
        d_ft_tokens: float,
        models: Dict[str, Union[float, Tuple[float, float]]],
        candidates: Optional[Sequence[Tuple[str, float, float, float]]] = None,
        amounts: Optional[Sequence[float]] = None,
        fractions: Optional[Sequence[float]] = None,
        limit: Optional[float] = None,
        limit_nats: Optional[float] = None,
        confidence: float = 0.9,
        p: Optional[Sequence[float]] = None,
        loss_pt0: Optional[float] = None,
        vocab_size: Optional[int] = None,
        passes: float = 10.0,
    ) -> Study:
        """Begins a study.

        Parameters
        ----------
        path : path
            The file to write, which must not exist.
        n_params, d_ft_tokens : float
            The model size and the amount of target data in question.
        models : dict of str to float or (float, float)
            Pretrained models by name: N, or N and the cost of pretraining it, by default 0.
        candidates : sequence of (model, d_ft_tokens, p, cost), optional
            The candidate runs.
        amounts, fractions : sequence of float, optional
            Instead of candidates: every model on these D_ft with these p, at a cost of 6·N·D_ft·passes
            FLOPs.
        limit, limit_nats : float, optional
            How much L_pt may increase: as a share of L_pt0, by default 0.05, or in nats per token.
        confidence : float
            The probability with which a new run must stay within the limit.
        p : sequence of float, optional
            The fractions in question, by default those of the runs.
        loss_pt0 : float, optional
            The pretraining loss of the model in question, by default derived from the sizes of the runs.
        vocab_size : int, optional
            The vocabulary size V of the models. The answer may then use the law
            ``forgetting-bounded-V``, whose increase ends at the loss of a uniform model.
        passes : float
            Passes of a run over the target data; only ratios of costs matter.
        """
        if limit is None and limit_nats is None:
            limit = 0.05
        real(n_params=n_params, d_ft_tokens=d_ft_tokens, limit=limit, limit_nats=limit_nats)
        real(confidence=confidence, loss_pt0=loss_pt0, passes=passes)
        mapping('N by name, as {"small": 4.1e7}', models=models)
        listed(candidates=candidates, amounts=amounts, fractions=fractions, p=p)
        if not models:
            raise ForgettingLawsError("models are missing: give at least one model and its N")
        priced: Dict[str, Tuple[float, float]] = {}
        for name, model in models.items():
            size, cost = model if isinstance(model, tuple) else (model, 0.0)
            real(**{f"N of the model {name}": size, f"cost of the model {name}": cost})
            priced[name] = float(size), float(cost)
        for of, numbers in (("amounts", amounts), ("fractions", fractions), ("p", p)):
            for number in () if numbers is None else numbers:
                real(**{of: number})
        if candidates is None:
            if amounts is None or fractions is None:
                raise ForgettingLawsError(
                    "candidates are missing: give the runs, or amounts and fractions"
                )
            candidates = [
                (name, d_ft, fraction, 6.0 * n * d_ft * passes)
                for name, (n, _) in priced.items()
                for d_ft in amounts
                for fraction in fractions
            ]
        for run in candidates:
            if not hasattr(run, "__len__") or len(run) != 4:
                raise ForgettingLawsError(
                    f"candidates: {shown(run)} must have a model, D_ft, p and a cost"
                )
            real(d_ft_tokens=run[1], p=run[2], cost=run[3])
        asked = sorted({run[2] for run in candidates}) if p is None else list(p)
        _native.study_new(
            os.fspath(path),
            n_params,
            d_ft_tokens,
            limit_nats,
            limit,
            confidence,
            asked,
            loss_pt0,
            vocab_size,
            [(name, n, cost) for name, (n, cost) in priced.items()],
            list(candidates),
        )
        return Study(path)

    def ask(self, count: int = 1) -> List[Asked]:
        """Hands out the most informative runs for their cost.

        Parameters
        ----------
        count : int
            Number of runs, to be made concurrently.

        Returns
        -------
        list of Asked
            The best first; fewer if fewer are left.
        """
        whole(count=count)
        return [Asked(**run) for run in json.loads(_native.study_ask(self.path, count))]

    def tell(
        self,
        run: Union[int, Asked],
        *,
        loss_pt0: Optional[float] = None,
        loss_pt: Optional[float] = None,
        loss_ft: Optional[float] = None,
    ) -> None:
        """Records the losses of a run.

        Parameters
        ----------
        run : int or Asked
        loss_pt0 : float, optional
            The pretraining loss of its model before finetuning, in nats per token; needed once per model.
        loss_pt, loss_ft : float, optional
            Both losses at the bottom of its U-curve, in nats per token.

        Raises
        ------
        ForgettingLawsError
            If there is no such run, or a loss is not a positive number.
        """
        real(loss_pt0=loss_pt0, loss_pt=loss_pt, loss_ft=loss_ft)
        _native.study_tell(self.path, _number(run), loss_pt0, loss_pt, loss_ft)

    def add(
        self,
        *,
        n_params: float,
        d_ft_tokens: float,
        p: float,
        model: Optional[str] = None,
        loss_pt0: Optional[float] = None,
        loss_pt: Optional[float] = None,
        loss_ft: Optional[float] = None,
    ) -> int:
        """Records a run that was made elsewhere.

        Parameters
        ----------
        n_params, d_ft_tokens, p : float
            N in parameters, D_ft in tokens, the injected fraction.
        model : str, optional
            Its model in the study; by default the one of that size.
        loss_pt0, loss_pt, loss_ft : float, optional
            As in :meth:`tell`.

        Returns
        -------
        int
            The number of the run: that of a run of the study with the same settings, or a new one.
        """
        real(n_params=n_params, d_ft_tokens=d_ft_tokens, p=p)
        real(loss_pt0=loss_pt0, loss_pt=loss_pt, loss_ft=loss_ft)
        return _native.study_add(
            self.path, model, n_params, d_ft_tokens, p, loss_pt0, loss_pt, loss_ft
        )

    def fail(self, run: Union[int, Asked], why: str) -> None:
        """Records that a run has no result; it is not handed out again."""
        _native.study_fail(self.path, _number(run), why)

    def release(self, run: Union[int, Asked]) -> None:
        """Takes a run back, so that it can be handed out again."""
        _native.study_release(self.path, _number(run))

    def answer(self, *, bootstrap: int = 1000, model_spread: Optional[float] = None) -> Answer:
        """What the results show so far.

        Parameters
        ----------
        bootstrap : int
            Number of bootstrap resamples of runs, for intervals.
        model_spread : float, optional
            How much the increase of L_pt varies between pretrained models of one size, such as 0.08. Runs
            of one model per size cannot show it.
        """
        whole(bootstrap=bootstrap)
        return Answer(*json.loads(_native.study_answer(self.path, bootstrap, model_spread)))

    def optimize(
        self,
        train: Callable[[Asked], Mapping[str, float]],
        *,
        budget: Optional[float] = None,
        runs: Optional[int] = None,
        narrow: Optional[float] = None,
        bootstrap: int = 1000,
    ) -> Answer:
        """Makes runs one after another, always the most informative one for its cost. Other processes may
        use the file at the same time.

        Parameters
        ----------
        train : callable
            Takes an :class:`Asked` and returns ``loss_pt0``, ``loss_pt`` and ``loss_ft``, as
            ``UCurve.losses`` does. If it raises, the run is recorded as failed and the error is raised
            again; if it returns anything else, the run is released.
        budget : float, optional
            The total cost of the runs, in the unit of the study; a run that would exceed it is not started.
        runs : int, optional
            The maximum number of runs. Without this and ``budget``, all runs are made.
        narrow : float, optional
            Stops when the interval of the p that meets the limit spans at most this factor.
        bootstrap : int
            Number of bootstrap resamples for the answer.

        Returns
        -------
        Answer
        """
        spent, made = 0.0, 0
        while runs is None or made < runs:
            asked = self.ask()
            if not asked:
                break
            (run,) = asked
            if budget is not None and spent + run.cost > budget:
                self.release(run)
                break
            try:
                self.tell(run, **_losses(run, train(run)))
            except _Refused as error:
                self.release(run)
                raise ForgettingLawsError(str(error)) from None
            except KeyboardInterrupt:
                self.release(run)
                raise
            except Exception as error:
                self.fail(run, f"{type(error).__name__}: {error}")
                raise
            spent, made = spent + run.cost, made + 1
            if narrow is not None:
                interval = self.answer(bootstrap=bootstrap).interval
                if interval is not None and interval[1] <= narrow * interval[0]:
                    break
        return self.answer(bootstrap=bootstrap)

    @property
    def best_p(self) -> Optional[float]:
        """The p to use, if the runs show one."""
        return self.answer().p

    @property
    def runs(self) -> List[StudyRun]:
        """The runs, by number."""
        data = self._read()
        sizes = {model["name"]: model["n_params"] for model in data["models"]}
        runs: List[StudyRun] = []
        for run in data["runs"]:
            # A word, or a word with what belongs to it.
            state: Union[str, Dict[str, Dict[str, float]]] = run["state"]
            name = state if isinstance(state, str) else next(iter(state))
            losses = {} if isinstance(state, str) or name != "done" else state[name]
            runs.append(
                StudyRun(
                    run["run"],
                    run["model"],
                    sizes[run["model"]],
                    run["d_ft_tokens"],
                    run["p"],
                    run["cost"],
                    name,
                    losses.get("loss_pt0"),
                    losses.get("loss_pt"),
                    losses.get("loss_ft"),
                )
            )
        return runs

    def to_dataframe(self) -> Any:
        """The runs as a pandas data frame; needs pandas."""
        import pandas  # type: ignore[import-untyped,unused-ignore]

        return pandas.DataFrame(self.runs, columns=StudyRun._fields)

    def _read(self) -> Dict[str, Any]:
        with file_of("path"):
            data: Dict[str, Any] = json.loads(_native.study_read(self.path))
        return data

    def __repr__(self) -> str:
        return f"Study({self.path!r}): {self._counts(self.runs)}"

    def _repr_html_(self) -> str:
        runs = self.runs

        def row(run: StudyRun) -> List[str]:
            losses = (run.loss_pt0, run.loss_pt, run.loss_ft)
            shown = ["" if loss is None else f"{loss:.4f}" for loss in losses]
            settings = [f"{run.d_ft_tokens:.4g}", f"{100 * run.p:g}%", f"{run.cost:.3g}"]
            return [str(run.run), run.model, *settings, run.state, *shown]

        head = ["run", "model", "D_ft", "p", "cost", "state", "L_pt0", "L_pt", "L_ft"]
        question = self._read()["question"]
        return (
            _html.paragraph(f"{self.path}: {self._counts(runs)}", strong=True)
            + _html.paragraph(
                f"Asked: N = {question['n_params']:.4g}, D_ft = {question['d_ft_tokens']:.4g}"
            )
            + _html.table(head, [row(run) for run in runs if run.state != "open"])
        )

    @staticmethod
    def _counts(runs: Sequence[StudyRun]) -> str:
        states = [run.state for run in runs]
        count = {state: states.count(state) for state in ("done", "asked", "open", "failed")}
        return (
            f"{counted(count['done'], 'run')} made, {count['asked']} under way, {count['open']} left, "
            f"{count['failed']} failed"
        )
