"""Fits of the laws, predictions and advice."""

from __future__ import annotations

import json
import sys
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

from . import _html, _native, _table
from ._checks import counted, listed, real, share, shown, whole
from ._native import ForgettingLawsError
from ._plots import Plot

Numbers = Union[float, Sequence[float], "npt.NDArray[np.float64]"]
INPUTS = ("n_params", "d_ft_tokens", "p", "loss_pt0", "d_tokens")


class Law(NamedTuple):
    """A form of a law."""

    name: str
    equation: str
    loss: str
    """The column that it predicts."""
    inputs: List[str]
    """The columns that it reads."""
    parameters: List[str]


def laws() -> List[Law]:
    """Every law that can be fitted."""
    return [Law(*law) for law in _native.law_list()]


NOT_RANKED = "no ranking of the forms for this loss chose it"


class Fit:
    """A fitted law: :func:`fit` makes one.

    Attributes
    ----------
    law : str
        The name of the law.
    equation : str
    domain : str
        The domain of the rows; empty if they name none or several.
    params : dict of str to float
        The parameters at the optimum.
    intervals : dict of str to (float, float)
        Their bootstrap intervals; empty without a bootstrap.
    status : str
        ``converged``, ``at_bound``, ``not_converged`` or ``not_identified``.
    mre : float
        The mean relative error on the fitted rows, as a share.
    mre_held_out : float or None
        The same on held-out rows.
    n_rows, n_runs : int
        The number of fitted rows, and of the runs that they belong to.
    warnings : list of str
        What to know before relying on the fit, each with its identifier and remedy.
    comparison : Comparison or None
        How the forms for this loss rank, if the law was chosen among them.
    why : str
        Why this law: the reason of the comparison, or that none chose it.
    """

    def __init__(self, native: _native.Fit) -> None:
        self._native = native
        self.law, self.equation, self.domain = native.name()
        self.status, self.mre, self.mre_held_out, self.n_rows, self.n_runs = native.summary()
        params = native.params()
        self.params: Dict[str, float] = {name: value for name, value, _ in params}
        self.intervals: Dict[str, Tuple[float, float]] = {
            name: interval for name, _, interval in params if interval is not None
        }
        self.warnings: List[str] = native.warnings()
        ranking = native.ranking()
        self.comparison: Optional[Comparison] = Comparison(*ranking) if ranking else None
        chosen = self.comparison is not None and self.comparison.preferred == self.law
        self.why: str = self.comparison.why if self.comparison and chosen else NOT_RANKED

    def predict(
        self,
        table: Any = None,
        *,
        columns: Optional[Mapping[str, str]] = None,
        n_params: Optional[Numbers] = None,
        d_ft_tokens: Optional[Numbers] = None,
        p: Optional[Numbers] = None,
        loss_pt0: Optional[Numbers] = None,
        d_tokens: Optional[Numbers] = None,
        epochs: Optional[float] = None,
        interval: str = "run",
    ) -> Dict[str, Any]:
        """Predicts the losses of other runs.

        Parameters
        ----------
        table : table, optional
            Runs as columns, instead of the keywords.
        columns : mapping of str to str, optional
            Other columns of the table, as for :func:`fit`.
        n_params, d_ft_tokens, p, loss_pt0, d_tokens : float or array of float
            N in parameters, D_ft in tokens, the injected fraction, the pretraining loss before
            finetuning in nats per token (by default interpolated between the fitted sizes), and D in
            tokens, as far as the law reads them; broadcast against each other.
        epochs : float, optional
            Passes over the target data; warns if it differs greatly from that of the fitted runs.
        interval : {"run", "law"}
            The interval of a new run, which accounts for the misfit of the law, or that of the law itself.

        Returns
        -------
        dict of str to float or ndarray
            ``value``: the loss in nats per token; ``low`` and ``high``: the ends of the interval, NaN
            without a bootstrap; ``law``, and ``why`` this one; ``loss_pt0``: the L_pt0 in nats per token that was used, NaN if the law
            reads none; ``loss_pt0_from``: whether it is ``given``, that of a ``fitted`` size,
            ``interpolated`` or ``extrapolated``, None if the law reads none; ``warnings``: a list of what to
            know before relying on the prediction, each with its identifier and remedy. Scalars for
            scalars; otherwise arrays of the broadcast shape, (rows,) for a table.

        Raises
        ------
        ForgettingLawsError
            If an input that the law reads is missing or outside its domain.
        """
        real(epochs=epochs)
        if interval not in ("run", "law"):
            raise ForgettingLawsError(f"interval = {interval}: must be run or law")
        inputs: Dict[str, Optional[Numbers]] = {
            "n_params": n_params,
            "d_ft_tokens": d_ft_tokens,
            "p": p,
            "loss_pt0": loss_pt0,
            "d_tokens": d_tokens,
        }
        if table is not None:
            found = _table.numbers(table, columns)
            known = {name: found[name] for name in INPUTS if name in found}
            twice = [name for name in known if inputs[name] is not None]
            if twice:
                raise ForgettingLawsError(f"{twice[0]} stands in the table and as a keyword")
            inputs.update(known)
        elif columns:
            raise ForgettingLawsError("columns: there is no table whose columns they are")
        arrays: List[npt.NDArray[np.float64]] = []
        for name, value in inputs.items():
            if value is None and name in self._native.inputs() and name != "loss_pt0":
                raise ForgettingLawsError(f"{name} is missing: the {self.law} law needs it")
            try:
                arrays.append(np.asarray(np.nan if value is None else value, dtype=np.float64))
            except (TypeError, ValueError, OverflowError):
                raise ForgettingLawsError(f"{name} = {shown(value)}: must be numbers") from None
        try:
            shaped = np.broadcast_arrays(*arrays)
        except ValueError as error:
            raise ForgettingLawsError(f"the inputs do not fit together: {error}") from None
        shape = shaped[0].shape
        rows = np.stack([array.ravel() for array in shaped], axis=1)
        numbers, warnings, which, sources = self._native.predict(rows.tobytes(), epochs)
        predicted = np.frombuffer(numbers)
        first = 1 if interval == "run" else 3
        columns_of = {"value": 0, "low": first, "high": first + 1, "loss_pt0": 5}

        def shaped_as_given(column: Any) -> Any:
            return column[0] if shape == () else column.reshape(shape)

        answer: Dict[str, Any] = {}
        for name, j in columns_of.items():
            column = shaped_as_given(cast("Any", predicted)[j::6].copy())
            answer[name] = float(column) if shape == () else column
        answer["law"], answer["why"] = self.law, self.why
        answer["loss_pt0_from"] = shaped_as_given(np.array(sources, dtype=object))
        lists = np.empty(len(warnings), dtype=object)
        for i, said in enumerate(warnings):
            lists[i] = said
        answer["warnings"] = shaped_as_given(lists[np.frombuffer(which).astype(np.intp)])
        return answer

    def report(self) -> str:
        """The text that ``replication fit`` prints for this law: parameters, errors on fitted and on
        held-out runs next to those of baselines, whether B grows with D_ft, and the report card.

        The check of B is a separate fit, made at the first call.
        """
        return self._native.report()

    def plots(self) -> Dict[str, Plot]:
        """The plots of ``replication fit``, by name: ``predicted`` against observed losses, ``residuals``,
        and the law's ``curves`` over the runs; each with its SVG, PNG and numbers."""
        return {drawn[0]: Plot(*drawn) for drawn in self._native.drawings()}

    def to_json(self) -> str:
        """The command's ``law.json`` with this law, which ``replication predict`` and ``advise`` read."""
        return self._native.to_json()

    @staticmethod
    def from_json(text: str, *, law: Optional[str] = None, domain: Optional[str] = None) -> Fit:
        """A law from a ``law.json`` of this package or of the command.

        Parameters
        ----------
        text : str
            The content of the file.
        law, domain : str, optional
            Which law, if the file has several.
        """
        return Fit(_native.Fit.from_json(text, law, domain))

    def __reduce__(self) -> Tuple[Any, ...]:
        return Fit.from_json, (self.to_json(),)

    def _heading(self) -> str:
        name = f"{self.domain}, {self.law}" if self.domain else self.law
        rows = counted(self.n_runs, "run")
        if self.n_rows != self.n_runs:
            rows = f"{self.n_rows} rows of {rows}"
        return f"{name}: {rows}, {self.status}"

    def _errors(self) -> str:
        errors = f"MRE {100 * self.mre:.3g}%"
        if self.mre_held_out is not None:
            errors += f", on held-out runs {100 * self.mre_held_out:.3g}%"
        return errors

    def __repr__(self) -> str:
        lines = [self._heading(), f"  {self.equation}"]
        for name, value in self.params.items():
            low_high = self.intervals.get(name)
            ends = f"  [{low_high[0]:.6g}, {low_high[1]:.6g}]" if low_high else ""
            lines.append(f"  {name:<9} {value:>12.6g}{ends}")
        lines.append(f"  {self._errors()}")
        lines += [f"  {warning}" for warning in self.warnings]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        def row(name: str, value: float) -> Tuple[str, ...]:
            ends = self.intervals.get(name)
            return (name, f"{value:.6g}", *(f"{end:.6g}" for end in ends or ()))

        head = ("parameter", "value", "low", "high")[: 4 if self.intervals else 2]
        return (
            _html.paragraph(self._heading(), strong=True)
            + _html.paragraph(self.equation)
            + _html.table(head, [row(name, value) for name, value in self.params.items()])
            + _html.paragraph(self._errors())
            + _html.bullets(self.warnings)
        )


class Options(NamedTuple):
    """The options of a fit in the form that the native module takes."""

    bootstrap: int
    level: float
    seed: int
    hold_out: Optional[str]
    space: str
    penalty: str
    delta: Optional[float]
    misfit: bool
    model_spread: Optional[float]
    threads: int


def _law_names(*names: str) -> None:
    """Refuses what is no name of a law before the native module finds that it is no text."""
    for name in names:
        if not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ForgettingLawsError(f"law = {shown(name)}: must be the name of a law; fl.laws() lists them")


def _vocabulary(size: Optional[int]) -> None:
    if size is None:
        return
    whole(vocab_size=size)
    if not 2 <= size < 2**32:
        raise ForgettingLawsError(f"vocab_size = {shown(size)}: must be a whole number from 2 to 4294967295")


Progress = Union[bool, Callable[[int, int], object]]


def _told(progress: Progress) -> Optional[Callable[[int, int], object]]:
    """The function that is called with the number of parts done and their total."""
    if not isinstance(progress, bool):
        return progress
    return _on_standard_error if progress else None


def _on_standard_error(done: int, of: int) -> None:
    print(f"\r{done} of {of} small fits ", end="", file=sys.stderr, flush=True)


def _ended(progress: Progress) -> None:
    if progress is True:
        print(file=sys.stderr)


def fit(
    table: Any,
    law: str = "forgetting",
    *,
    vocab_size: Optional[int] = None,
    columns: Optional[Mapping[str, str]] = None,
    domain: Optional[_table.Label] = None,
    bootstrap: int = 1000,
    level: float = 0.9,
    seed: int = 0,
    hold_out: Optional[str] = "size",
    space: str = "log",
    penalty: str = "huber",
    delta: Optional[float] = None,
    misfit: bool = True,
    model_spread: Optional[float] = None,
    prove: bool = False,
    sweep: bool = False,
    threads: int = 0,
    progress: Progress = False,
) -> Fit:
    """Fits a law to a table of losses.

    Ctrl-C stops it, and other threads of Python run meanwhile.

    Parameters
    ----------
    table : table
        A pandas or polars data frame, a pyarrow table, a dict of columns, or the path of a .csv, .tsv,
        .jsonl, .json or .parquet file, with one row per run. Rows that are equal in every column, also in
        those that are not used, are counted once, with a warning. Columns are found by name: ``n_params``,
        ``d_ft_tokens``, ``d_tokens``, ``p``, ``loss_pt0``, ``loss_pt``, ``loss_ft``, ``loss``, as far as
        the law needs them, and optionally ``domain``, ``run``, ``seed``, ``parent_id``, ``weight``,
        ``epochs``, ``interior``. Losses are in nats per token, sizes in parameters and tokens, p is a
        fraction. None and NaN mean not known.
    law : str
        The name of one of :func:`laws`; the default is the paper's Equation 7, whatever the table prefers
        (the command's default is to rank all forms). ``best-forgetting`` and
        ``best-finetuning`` rank every form for L_pt or L_ft by its errors on held-out runs, as
        :func:`compare` does, and fit the preferred one; with too few runs to rank them it is the paper's.
    vocab_size : int, optional
        Vocabulary size, with ``best-forgetting``: the forms then include one whose increase is bounded by the
        loss of a uniform model.
    columns : mapping of str to str, optional
        Other columns for these names: ``{"n_params": "Model_Size"}``. Mapping a name to itself,
        ``{"run": "run"}``, says that the column is intended.
    domain : str or number, optional
        Which rows, if the table has several domains.
    bootstrap : int
        Number of bootstrap resamples of runs, for intervals; 0 for none.
    level : float
        The level of the intervals.
    seed : int
        Seed of the resamples.
    hold_out : {"size", "data", "p", "largest", None}
        Which runs are held out, to measure errors on runs that the law was not fitted to.
    space : {"log", "raw"}
        Whether residuals are those of log losses or of raw losses.
    penalty : {"huber", "squared", "absolute"}
        The penalty on a residual.
    delta : float, optional
        The residual at which the Huber penalty changes from squared to linear, by default 0.001.
    misfit : bool
        Whether intervals of new runs account for the misfit of the law.
    model_spread : float, optional
        How much the increase of L_pt varies between pretrained models of one size, as a share: 0.08. A
        table with one model per size cannot show it.
    prove : bool
        Proves by branch and bound that no other parameters are better by more than 0.1%; in the report and
        in :meth:`Fit.to_json`.
    sweep : bool
        Fits also with other penalties, deltas and spaces; in the report and in :meth:`Fit.to_json`.
    threads : int
        0 for one per core; only the time depends on it.
    progress : bool or callable
        True shows the progress on standard error; a function is called about twenty times a second with the
        number of small fits done and their total so far.

    Returns
    -------
    Fit

    Raises
    ------
    ForgettingLawsError
        A ValueError, if the table lacks what the law needs; it says what, and in which row.
    OSError
        If a file cannot be read.
    """
    whole(bootstrap=bootstrap, seed=seed, threads=threads)
    real(level=level, delta=delta, model_spread=model_spread)
    _vocabulary(vocab_size)
    _law_names(law)
    given = _table.given(table, columns, domain)
    options = Options(
        bootstrap, level, seed, hold_out, space, penalty, delta, misfit, model_spread, threads
    )
    native = _native.fit_law(given, law, vocab_size, options, prove, sweep, _told(progress))
    _ended(progress)
    return Fit(native)


class Comparison:
    """Forms of the law of one loss, ranked by their errors on held-out runs: :func:`compare` makes one.

    Attributes
    ----------
    forms : list of dict
        The forms, the best first: ``form``, ``parameters`` (how many), ``mean`` (errors as shares, ``mre``
        and ``rise_error``, over the axes but the largest), ``errors`` (those of each of ``axes``),
        ``behind`` (the interval of the difference between its error of the increase and the best form's),
        ``tied`` with the best, and ``supported`` against the baselines.
    baselines : list of dict
        The same for the baselines: no change, and a log-linear regression.
    axes : list of str
        What was held out: sizes, amounts of data, fractions p, the largest size with the most data.
    preferred : str or None
        The form to rely on, and ``why``.
    n_runs : int
    """

    def __init__(self, ranking: str, text: str, preferred: Optional[Tuple[str, str]]) -> None:
        self._text = text
        data: Dict[str, Any] = json.loads(ranking)
        self.forms: List[Dict[str, Any]] = data["forms"]
        self.baselines: List[Dict[str, Any]] = data["baselines"]
        self.axes: List[str] = data["axes"]
        self.n_runs: int = data["n_runs"]
        self.loss: str = data["loss"]
        self.preferred: Optional[str] = preferred[0] if preferred else None
        self.why: str = preferred[1] if preferred else ""

    def report(self) -> str:
        """The text that ``replication fit`` prints for the forms."""
        return self._text

    def __repr__(self) -> str:
        return self._text.rstrip()

    def _repr_html_(self) -> str:
        def percent(share: Optional[float]) -> str:
            return "–" if share is None else f"{100 * share:.3g}%"

        def row(form: Dict[str, Any]) -> List[str]:
            errors = [percent(errors["rise_error"]) for errors in form["errors"]]
            mean = form["mean"]
            name = form["form"] + (" *" if form["tied"] and form in self.forms else "")
            return [name, *errors, percent(mean["rise_error"]), percent(mean["mre"])]

        law = f"{self.preferred}: {self.why}" if self.preferred else "no form can be relied on"
        return (
            _html.paragraph(
                f"Forms of {self.loss} by the error of the increase on held-out runs, {self.n_runs} runs",
                strong=True,
            )
            + _html.table(
                ["form", *self.axes, "mean", "MRE"],
                [row(form) for form in self.forms + self.baselines],
            )
            + _html.paragraph("* cannot be told apart from the best; mean: over all axes except the largest")
            + _html.paragraph(law)
        )


def compare(
    table: Any,
    laws: Union[str, Sequence[str]] = "all-forgetting",
    *,
    vocab_size: Optional[int] = None,
    columns: Optional[Mapping[str, str]] = None,
    domain: Optional[_table.Label] = None,
    bootstrap: int = 1000,
    level: float = 0.9,
    seed: int = 0,
    space: str = "log",
    penalty: str = "huber",
    delta: Optional[float] = None,
    threads: int = 0,
    progress: Progress = False,
) -> Comparison:
    """Ranks the forms for one loss by their errors on runs held out along every axis.

    ``laws`` is ``all-forgetting``, ``all-finetuning``, or at least two laws that predict the same loss. With
    ``vocab_size``, ``all-forgetting`` has the form that is bounded by the loss of a uniform model too. The other
    parameters are those of :func:`fit`.

    Raises
    ------
    ForgettingLawsError
        If fewer than two of the laws can be compared on the table.
    """
    whole(bootstrap=bootstrap, seed=seed, threads=threads)
    real(level=level, delta=delta)
    _vocabulary(vocab_size)
    laws = [laws] if isinstance(laws, str) else laws
    listed(laws=laws)
    laws = list(laws)
    _law_names(*laws)
    given = _table.given(table, columns, domain)
    options = Options(
        bootstrap, level, seed, None, space, penalty, delta, True, None, threads
    )
    found = _native.rank_laws(given, laws, vocab_size, options, _told(progress))
    _ended(progress)
    if found is None:
        raise ForgettingLawsError(
            f"laws = {', '.join(laws)}: fewer than two of them can be compared on this table; give "
            "forms of one loss whose columns it has, and runs of several sizes, D_ft or p"
        )
    return Comparison(*found)


def advise(
    fits: Union[Fit, Sequence[Fit]],
    *,
    n_params: float,
    d_ft_tokens: float,
    loss_pt0: Optional[float] = None,
    limit: Optional[float] = None,
    limit_nats: Optional[float] = None,
    confidence: float = 0.9,
    p: Optional[float] = None,
    epochs: Optional[float] = None,
    target_loss: Optional[float] = None,
    worth: float = 0.01,
    d_tokens: Optional[float] = None,
    larger: float = 2.0,
    new_runs: int = 3,
) -> Dict[str, Any]:
    """What ``replication advise`` answers: the smallest p that keeps the forgetting of a new run within a
    limit, what it does to the target, and which data, models and runs are worth their cost.

    Parameters
    ----------
    fits : Fit or sequence of Fit
        Laws of one domain, with a bootstrap. The first law of forgetting among them is used, and for the
        loss on the target the first of ``finetuning`` and ``finetuning-p``.
    n_params, d_ft_tokens : float
        The model, in parameters, and the amount of target data, in tokens.
    loss_pt0 : float, optional
        The pretraining loss before finetuning, in nats per token; by default interpolated between the
        fitted sizes.
    limit : float, optional
        How much L_pt may increase, as a share of L_pt0; 0.01 by default.
    limit_nats : float, optional
        The same in nats per token, instead of ``limit``.
    confidence : float
        The probability with which a new run must stay within the limit.
    p : float, optional
        The fraction for the other answers; by default the smallest p.
    epochs : float, optional
        Passes over the target data; a warning says if the runs made far more or fewer.
    target_loss : float, optional
        The desired loss on the target, in nats per token, for ``n_for_target`` and ``d_ft_for_target``.
    worth : float
        The smallest gain for which doubling the target data is worthwhile, in nats per token.
    d_tokens : float, optional
        Pretraining tokens of the model, for ``larger_model``.
    larger : float
        The size of that larger model, as a multiple of N.
    new_runs : int
        Number of runs to propose as ``best_new_runs``.

    Returns
    -------
    dict
        ``p``: the smallest p, None if even 1 is not enough; ``by_law``: the p of the law alone with its
        interval, None where no p is enough; ``rise`` and ``rise_without``: the increase of a new run at that p and without injection,
        in nats; ``loss_pt0``, and ``loss_pt0_from``: ``given``, ``fitted``, ``interpolated`` or ``extrapolated``;
        ``laws``: the ``law`` of each loss that was asked, and ``why`` this one; ``warnings``: list of str.
        Further answers at ``asked_p``, None where they were not asked for or the laws cannot answer:
        ``on_target``, ``n_for_target``, ``d_ft_for_target``, ``worth_collecting``, ``larger_model`` and
        ``best_new_runs``. ``unanswered`` says why, by question.

    Raises
    ------
    ForgettingLawsError
        If there is no law of forgetting with a bootstrap, or a number lies outside its domain.
    """
    whole(new_runs=new_runs)
    real(limit=limit, limit_nats=limit_nats, confidence=confidence, epochs=epochs, target_loss=target_loss)
    real(worth=worth, larger=larger)
    share(p=p)
    real(n_params=n_params, d_ft_tokens=d_ft_tokens, loss_pt0=loss_pt0, d_tokens=d_tokens)
    asked = list(fits) if isinstance(fits, Iterable) else [fits]
    for fit in asked:
        if not isinstance(fit, Fit):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ForgettingLawsError(f"fits = {shown(fit)}: must be a Fit, or a list of them, as fl.fit returns")
    if limit is None and limit_nats is None:
        limit = 0.01
    row = (n_params, d_ft_tokens, 0.0, loss_pt0, d_tokens)
    at = [float("nan") if value is None else float(value) for value in row]
    natives = [fit._native for fit in asked]
    questions = Questions(p, epochs, target_loss, worth, larger, new_runs)
    answer: Dict[str, Any] = json.loads(
        _native.advise(natives, at, limit_nats, limit, confidence, questions)
    )
    target: Dict[str, Any] = answer["on_target"] or {}
    used = [name for name in (answer["law"], target.get("law")) if name]
    answer["laws"] = [
        {"law": name, "why": next(fit.why for fit in asked if fit.law == name)} for name in used
    ]
    return answer


class Questions(NamedTuple):
    """What is asked beside the smallest p, in the form that the native module takes."""

    p: Optional[float]
    epochs: Optional[float]
    target_loss: Optional[float]
    worth: float
    larger: float
    new_runs: int
