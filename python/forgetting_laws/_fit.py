"""Fits of the laws, predictions and advice."""

from __future__ import annotations

import json
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np
import numpy.typing as npt

from . import _native
from ._native import ForgettingLawsError
from ._table import columns as _columns

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
    params : dict of str to float
        The parameters at the optimum.
    intervals : dict of str to (float, float)
        Their intervals from the bootstrap, empty without.
    status : str
        ``converged``, ``at_bound``, ``not_converged`` or ``not_identified``.
    mre : float
        The mean relative error on the fitted rows.
    mre_held_out : float or None
        The same on rows that were held out.
    warnings : list of str
        What should be known before the fit is relied on, each with its identifier and what to do.
    """

    def __init__(self, native: _native.Fit) -> None:
        self._native = native
        self._data: Dict[str, Any] = json.loads(native.to_json())
        self.law: str = self._data["law"]
        self.equation: str = self._data["equation"]
        self.status: str = self._data["status"]
        self.mre: float = _float(self._data["mre"])
        self.mre_held_out: Optional[float] = self._data["mre_held_out"]
        params: Dict[str, Dict[str, Optional[float]]] = self._data["params"]
        self.params: Dict[str, float] = {
            name: _float(param["value"]) for name, param in params.items()
        }
        self.intervals: Dict[str, Tuple[float, float]] = {
            name: (param["low"], param["high"])
            for name, param in params.items()
            if param["low"] is not None and param["high"] is not None
        }
        self.warnings: List[str] = [
            f"{words}. {remedy}" for words, remedy in native.warnings()
        ]

    def predict(
        self,
        table: Any = None,
        *,
        n_params: Optional[Numbers] = None,
        d_ft_tokens: Optional[Numbers] = None,
        p: Optional[Numbers] = None,
        loss_pt0: Optional[Numbers] = None,
        d_tokens: Optional[Numbers] = None,
    ) -> Dict[str, Any]:
        """What the law says of other runs.

        Parameters
        ----------
        table : table, optional
            Runs as columns, in place of the keywords.
        n_params, d_ft_tokens, p, loss_pt0, d_tokens : float or array of float
            N in parameters, D_ft in tokens, the injected fraction, the pretraining loss before
            finetuning in nats per token (by default interpolated between the fitted sizes), and D in
            tokens, as far as the law reads them; broadcast against each other.

        Returns
        -------
        dict of str to float or ndarray
            ``value``: the loss in nats per token; ``low`` and ``high``: the interval of a new run, which
            knows how far the law is wrong away from the fitted runs; ``law_low`` and ``law_high``: that of
            the law itself. NaN without a bootstrap. Arrays have the shape of the inputs.
        """
        given: Dict[str, Any] = {
            "n_params": n_params,
            "d_ft_tokens": d_ft_tokens,
            "p": p,
            "loss_pt0": loss_pt0,
            "d_tokens": d_tokens,
        }
        if table is not None:
            _, numbers, _ = _columns(table)
            known = {name: numbers[name] for name in INPUTS if name in numbers}
            twice = [name for name in known if given[name] is not None]
            if twice:
                raise ForgettingLawsError(f"{twice[0]} stands in the table and as a keyword")
            given.update(
                (name, [float("nan") if x is None else x for x in values])
                for name, values in known.items()
            )
        arrays = [
            np.asarray(np.nan if given[name] is None else given[name], dtype=np.float64)
            for name in INPUTS
        ]
        try:
            shaped = np.broadcast_arrays(*arrays)
        except ValueError as error:
            raise ForgettingLawsError(f"the inputs do not fit together: {error}") from None
        shape = shaped[0].shape
        rows: List[List[float]] = np.stack([array.ravel() for array in shaped], axis=1).tolist()
        if "loss_pt0" in self._native.inputs():
            for row in rows:
                if row[3] != row[3] and row[0] > 0:
                    found = self._native.loss_pt0_at(row[0])
                    row[3] = float("nan") if found is None else found
        predictions = json.loads(self._native.predict(rows))

        def column(name: str) -> Any:
            values = np.array([_float(prediction[name], np.nan) for prediction in predictions])
            return float(values[0]) if shape == () else values.reshape(shape)

        return {name: column(name) for name in ("value", "low", "high", "law_low", "law_high")}

    def to_json(self) -> str:
        """The fit as text, as it stands in the command's ``law.json``."""
        return self._native.to_json()

    @staticmethod
    def from_json(text: str) -> Fit:
        """The fit that :meth:`to_json` wrote."""
        return Fit(_native.Fit.from_json(text))

    def __repr__(self) -> str:
        def parameter(name: str) -> str:
            value = f"{name} = {self.params[name]:.6g}"
            if name in self.intervals:
                low, high = self.intervals[name]
                value += f" [{low:.6g}, {high:.6g}]"
            return value

        lines = [f"{self.law}: {self.equation}"]
        lines.append(f"  status {self.status}, {self._data['n_runs']} runs")
        lines += [f"  {parameter(name)}" for name in self.params]
        errors = f"  MRE {100 * self.mre:.3g}%"
        if self.mre_held_out is not None:
            errors += f", on held-out runs {100 * self.mre_held_out:.3g}%"
        lines.append(errors)
        lines += [f"  {warning}" for warning in self.warnings]
        return "\n".join(lines)


def _float(value: Optional[float], missing: float = float("inf")) -> float:
    """JSON has no infinity and says null."""
    return missing if value is None else float(value)


def fit(
    table: Any,
    law: str = "forgetting",
    *,
    columns: Optional[Dict[str, str]] = None,
    bootstrap: int = 1000,
    level: float = 0.9,
    seed: int = 0,
    hold_out: Optional[str] = "size",
    threads: int = 0,
) -> Fit:
    """Fits a law to a table of losses.

    Parameters
    ----------
    table : table
        A frame of pandas, polars or pyarrow, a dict of columns, or the path of a CSV file, with a row a
        run. Columns are found by name: ``n_params``, ``d_ft_tokens``, ``d_tokens``, ``p``, ``loss_pt0``,
        ``loss_pt``, ``loss_ft``, ``loss``, as far as the law needs them, and optionally ``run``, ``seed``,
        ``parent_id``, ``weight``, ``epochs``. None and NaN are values that are not known. All rows are
        fitted together.
    law : str
        The name of one of :func:`laws`.
    columns : dict of str to str, optional
        Other columns that are taken for these names: ``{"n_params": "Model_Size"}``.
    bootstrap : int
        Resamples of runs that intervals come from; 0 for none.
    level : float
        What share of the resamples an interval holds.
    seed : int
        Of the resamples.
    hold_out : {"size", "data", "p", "largest", None}
        Which runs are held out to see what the law says of runs that it was not fitted to.
    threads : int
        0 for one a core; nothing but the time depends on it.

    Raises
    ------
    ForgettingLawsError
        A ValueError, if the table lacks what the law needs; it says what, and in which row.
    """
    rows, numbers, labels = _columns(table, columns)
    native = _native.fit_law(
        rows, numbers, labels, law, bootstrap, level, seed, hold_out, threads
    )
    return Fit(native)


def rank(
    table: Any,
    laws: Sequence[str] = ("forgetting", "forgetting-times-tokens", "forgetting-plus-tokens"),
    *,
    columns: Optional[Dict[str, str]] = None,
    bootstrap: int = 1000,
) -> Optional[Dict[str, Any]]:
    """Ranks forms of the law of one loss by their errors on held-out runs, on every axis.

    Returns None where fewer than two of them can be compared; else ``forms`` has them, the best first,
    and ``baselines`` the models that know nothing.
    """
    rows, numbers, labels = _columns(table, columns)
    ranking: Optional[Dict[str, Any]] = json.loads(
        _native.rank_laws(rows, numbers, labels, list(laws), bootstrap)
    )
    return ranking


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
    """The smallest p with which a new run keeps to a limit of forgetting.

    Parameters
    ----------
    fits : Fit or sequence of Fit
        Of these the first law of forgetting is asked; it needs a bootstrap.
    n_params, d_ft_tokens : float
        The model and the amount of target data.
    loss_pt0 : float, optional
        The pretraining loss before finetuning; by default interpolated between the fitted sizes.
    limit : float, optional
        How much L_pt may rise, as a share of L_pt0; 0.01 by default.
    limit_nats : float, optional
        The same in nats per token, in its place.
    confidence : float
        The probability with which a new run must keep to it.

    Returns
    -------
    dict
        ``p``: the smallest that does, None where even 1 does not; ``by_law``: the p of the law alone with
        its interval; ``rise`` and ``rise_without``: the increase of a new run at that p and without
        injection, in nats; ``warnings``.
    """
    asked = [fits] if isinstance(fits, Fit) else list(fits)
    if limit is None and limit_nats is None:
        limit = 0.01
    if loss_pt0 is None:
        found = (fit._native.loss_pt0_at(n_params) for fit in asked)
        loss_pt0 = next((loss for loss in found if loss is not None), float("nan"))
    at = [n_params, d_ft_tokens, 0.0, loss_pt0, float("nan")]
    natives = [fit._native for fit in asked]
    answer: Dict[str, Any] = json.loads(
        _native.smallest_p(natives, at, limit_nats, limit, confidence)
    )
    return answer
