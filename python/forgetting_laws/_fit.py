"""Fits of the laws, predictions and advice."""

from __future__ import annotations

import json
import sys
from typing import (
    Any,
    Callable,
    Dict,
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
from ._checks import whole
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
        self.warnings: List[str] = [f"{words}. {remedy}" for words, remedy in native.warnings()]

    def predict(
        self,
        table: Any = None,
        *,
        n_params: Optional[Numbers] = None,
        d_ft_tokens: Optional[Numbers] = None,
        p: Optional[Numbers] = None,
        loss_pt0: Optional[Numbers] = None,
        d_tokens: Optional[Numbers] = None,
        interval: str = "run",
    ) -> Dict[str, Any]:
        """Predicts the losses of other runs.

        Parameters
        ----------
        table : table, optional
            Runs as columns, instead of the keywords.
        n_params, d_ft_tokens, p, loss_pt0, d_tokens : float or array of float
            N in parameters, D_ft in tokens, the injected fraction, the pretraining loss before
            finetuning in nats per token (by default interpolated between the fitted sizes), and D in
            tokens, as far as the law reads them; broadcast against each other.
        interval : {"run", "law"}
            The interval of a new run, which accounts for the misfit of the law, or that of the law itself.

        Returns
        -------
        dict of str to float or ndarray
            ``value``: the loss in nats per token; ``low`` and ``high``: the ends of the interval, NaN
            without a bootstrap. Floats for scalars; otherwise arrays of the broadcast shape, (rows,) for a
            table.

        Raises
        ------
        ForgettingLawsError
            If an input that the law reads is missing or outside its domain.
        """
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
            found = _table.numbers(table)
            known = {name: found[name] for name in INPUTS if name in found}
            twice = [name for name in known if inputs[name] is not None]
            if twice:
                raise ForgettingLawsError(f"{twice[0]} stands in the table and as a keyword")
            inputs.update(known)
        arrays: List[npt.NDArray[np.float64]] = []
        for name, value in inputs.items():
            try:
                arrays.append(np.asarray(np.nan if value is None else value, dtype=np.float64))
            except (TypeError, ValueError):
                raise ForgettingLawsError(f"{name} = {value!r}: must be numbers") from None
        try:
            shaped = np.broadcast_arrays(*arrays)
        except ValueError as error:
            raise ForgettingLawsError(f"the inputs do not fit together: {error}") from None
        shape = shaped[0].shape
        rows = np.stack([array.ravel() for array in shaped], axis=1)
        if "loss_pt0" in self._native.inputs():
            unknown = np.isnan(rows[:, 3])
            sizes = np.ascontiguousarray(rows[unknown, 0])
            rows[unknown, 3] = np.frombuffer(self._native.loss_pt0_at(sizes.tobytes()))
        predicted = np.frombuffer(self._native.predict(rows.tobytes()))
        first = 1 if interval == "run" else 3
        columns = {"value": 0, "low": first, "high": first + 1}

        def shaped_as_given(j: int) -> Any:
            column = cast("Any", predicted)[j::5].copy()
            return float(column[0]) if shape == () else column.reshape(shape)

        return {name: shaped_as_given(j) for name, j in columns.items()}

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
        rows = f"{self.n_runs} runs"
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
    columns: Optional[Mapping[str, str]] = None,
    domain: Optional[str] = None,
    bootstrap: int = 1000,
    level: float = 0.9,
    seed: int = 0,
    hold_out: Optional[str] = "size",
    threads: int = 0,
    progress: Progress = False,
) -> Fit:
    """Fits a law to a table of losses.

    Ctrl-C stops it, and other threads of Python run meanwhile.

    Parameters
    ----------
    table : table
        A pandas or polars data frame, a pyarrow table, a dict of columns, or the path of a .csv, .tsv,
        .jsonl or .json file, with one row per run. Columns are found by name: ``n_params``,
        ``d_ft_tokens``, ``d_tokens``, ``p``, ``loss_pt0``, ``loss_pt``, ``loss_ft``, ``loss``, as far as
        the law needs them, and optionally ``domain``, ``run``, ``seed``, ``parent_id``, ``weight``,
        ``epochs``, ``interior``. Losses are in nats per token, sizes in parameters and tokens, p is a
        fraction. None and NaN mean not known.
    law : str
        The name of one of :func:`laws`.
    columns : mapping of str to str, optional
        Other columns for these names: ``{"n_params": "Model_Size"}``. Mapping a name to itself,
        ``{"run": "run"}``, says that the column is intended.
    domain : str, optional
        Which rows, if the table has several domains.
    bootstrap : int
        Number of bootstrap resamples of runs, for intervals; 0 for none.
    level : float
        The level of the intervals.
    seed : int
        Seed of the resamples.
    hold_out : {"size", "data", "p", "largest", None}
        Which runs are held out, to measure errors on runs that the law was not fitted to.
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
    given = _table.given(table, columns, domain)
    native = _native.fit_law(
        given, law, bootstrap, level, seed, hold_out, threads, _told(progress)
    )
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

    def __init__(self, data: Dict[str, Any], text: str, preferred: Optional[Tuple[str, str]]) -> None:
        self._text = text
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
    laws: Sequence[str] = ("forgetting", "forgetting-times-tokens", "forgetting-plus-tokens"),
    *,
    columns: Optional[Mapping[str, str]] = None,
    domain: Optional[str] = None,
    bootstrap: int = 1000,
    level: float = 0.9,
    seed: int = 0,
    threads: int = 0,
    progress: Progress = False,
) -> Comparison:
    """Ranks the forms for one loss by their errors on runs held out along every axis.

    The parameters are those of :func:`fit`; ``laws`` has at least two laws that predict the same loss.

    Raises
    ------
    ForgettingLawsError
        If fewer than two of the laws can be compared on the table.
    """
    whole(bootstrap=bootstrap, seed=seed, threads=threads)
    given = _table.given(table, columns, domain)
    found = _native.rank_laws(
        given, list(laws), bootstrap, level, seed, threads, _told(progress)
    )
    _ended(progress)
    if found is None:
        raise ForgettingLawsError(
            f"laws = {', '.join(laws)}: fewer than two of them can be compared on this table; give "
            "forms of one loss whose columns it has, and runs of several sizes, D_ft or p"
        )
    data, text, preferred = found
    return Comparison(json.loads(data), text, preferred)


def advise(
    fits: Union[Fit, Sequence[Fit]],
    *,
    n_params: float,
    d_ft_tokens: float,
    loss_pt0: Optional[float] = None,
    limit: Optional[float] = None,
    limit_nats: Optional[float] = None,
    confidence: float = 0.9,
) -> Dict[str, Any]:
    """The smallest p that keeps the forgetting of a new run within a limit.

    Parameters
    ----------
    fits : Fit or sequence of Fit
        The first law of forgetting among them is used; it needs a bootstrap.
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

    Returns
    -------
    dict
        ``p``: the smallest p, None if even 1 is not enough; ``by_law``: the p of the law alone with its
        interval; ``rise`` and ``rise_without``: the increase of a new run at that p and without injection,
        in nats; ``warnings``: list of str.
    """
    asked = [fits] if isinstance(fits, Fit) else list(fits)
    if limit is None and limit_nats is None:
        limit = 0.01
    if loss_pt0 is None:
        size = np.array([n_params], dtype=np.float64).tobytes()
        found = [float(np.frombuffer(fit._native.loss_pt0_at(size))[0]) for fit in asked]
        loss_pt0 = next((loss for loss in found if loss == loss), float("nan"))
    at = [n_params, d_ft_tokens, 0.0, loss_pt0, float("nan")]
    natives = [fit._native for fit in asked]
    answer: Dict[str, Any] = json.loads(
        _native.smallest_p(natives, at, limit_nats, limit, confidence)
    )
    answer["warnings"] = ["{id}: {message}. {remedy}".format(**w) for w in answer["warnings"]]
    return answer
