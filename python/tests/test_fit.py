import json
import math
import pathlib

import forgetting_laws as fl
import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[2]
A, B, ALPHA, BETA = 6.0, 829.0, 0.4, 0.35


def planted(n_params, d_ft_tokens, p, loss_pt0):
    """Equation 7."""
    return loss_pt0 + A * d_ft_tokens**BETA / ((1 + B * p) * n_params) ** ALPHA


def table():
    rows = [
        (n, d, p, loss, planted(n, d, p, loss) * (1 + 0.002 * math.sin(i * 2.4)))
        for i, ((n, loss), d, p) in enumerate(
            (model, d, p)
            for model in ((41e6, 3.3), (109e6, 3.0), (334e6, 2.7))
            for d in (3e5, 3e6, 3e7)
            for p in (0.0, 0.001, 0.01, 0.05)
        )
    ]
    names = ("n_params", "d_ft_tokens", "p", "loss_pt0", "loss_pt")
    return {name: [row[i] for row in rows] for i, name in enumerate(names)}


@pytest.fixture(scope="module")
def fit():
    return fl.fit(table(), bootstrap=100)


def test_the_planted_law_is_found(fit):
    assert (fit.law, fit.status) == ("forgetting", "converged")
    assert list(fit.params) == ["A", "B", "alpha", "beta"]
    for name, value in zip(fit.params, (A, B, ALPHA, BETA)):
        low, high = fit.intervals[name]
        assert low < fit.params[name] < high
        assert fit.params[name] == pytest.approx(value, rel=0.1)
    assert fit.mre < 0.003 and fit.mre_held_out < 0.01
    assert "alpha = " in repr(fit) and "Eq. 7" in repr(fit)


def test_frames_lists_and_arrays_give_the_same_fit():
    whole = table()
    expected = fl.fit(whole, bootstrap=0).params
    # Every second element of an array: not contiguous.
    arrays = {name: np.repeat(values, 2)[::2] for name, values in whole.items()}
    assert fl.fit(arrays, bootstrap=0).params == expected
    single = {name: np.array(values, dtype=object) for name, values in whole.items()}
    assert fl.fit(single, bootstrap=0).params == expected
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(whole)
    assert fl.fit(frame, bootstrap=0).params == expected
    renamed = frame.rename(columns={"n_params": "Model Size"}).convert_dtypes()
    assert fl.fit(renamed, columns={"n_params": "Model Size"}, bootstrap=0).params == expected


def test_a_csv_file_gives_the_numbers_of_the_readme():
    lines = (ROOT / "examples/losses.csv").read_text().splitlines()
    header = lines[0].split(",")
    near = [dict(zip(header, line.split(","))) for line in lines if line.startswith("planted-near")]
    frame = {name: [row[name] or None for row in near] for name in header}
    params = fl.fit(frame, law="forgetting").params
    shown = {name: f"{value:.6g}" for name, value in params.items()}
    readme = (ROOT / "README.md").read_text()
    for name, value in shown.items():
        assert any(line.split()[:2] == [name, value] for line in readme.splitlines()), (name, value)


def test_predictions_are_the_laws_and_keep_the_shape(fit):
    one = fit.predict(n_params=2e8, d_ft_tokens=1e7, p=0.01, loss_pt0=2.8)
    assert one["value"] == pytest.approx(planted(2e8, 1e7, 0.01, 2.8), rel=0.01)
    assert one["low"] < one["law_low"] < one["value"] < one["law_high"] < one["high"]
    grid = fit.predict(n_params=np.array([[1e8], [2e8]]), d_ft_tokens=1e7, p=[0.0, 0.01, 0.05])
    assert grid["value"].shape == (2, 3)
    assert (np.diff(grid["value"], axis=1) < 0).all()
    # L_pt0 of a fitted size is its own.
    known = fit.predict(n_params=109e6, d_ft_tokens=3e6, p=0.0)["value"]
    assert known == fit.predict(n_params=109e6, d_ft_tokens=3e6, p=0.0, loss_pt0=3.0)["value"]
    rows = fit.predict({"n_params": [1e8, 2e8], "d_ft_tokens": [1e7, 1e7], "p": [0.0, 0.05]})
    assert rows["value"].tolist() == [grid["value"][0, 0], grid["value"][1, 2]]
    bare = fl.fit(table(), bootstrap=0).predict(n_params=2e8, d_ft_tokens=1e7, p=0.01)
    assert math.isnan(bare["low"])


def test_a_fit_is_text_and_back(fit):
    text = fit.to_json()
    again = fl.Fit.from_json(text)
    assert again.to_json() == text and again.params == fit.params
    assert json.loads(text)["law"] == "forgetting"
    with pytest.raises(fl.ForgettingLawsError):
        fl.Fit.from_json("{}")


def test_advice_keeps_to_the_limit(fit):
    advice = fl.advise(fit, n_params=2e8, d_ft_tokens=1e7, loss_pt0=2.85, limit=0.1)
    assert advice["by_law"]["value"] < advice["p"] < 0.05
    nats = fl.advise([fit], n_params=2e8, d_ft_tokens=1e7, loss_pt0=2.85, limit_nats=0.285)
    assert nats["p"] == advice["p"]
    with pytest.raises(ValueError, match="fitted laws = none"):
        fl.advise([], n_params=2e8, d_ft_tokens=1e7, loss_pt0=2.85)


def test_forms_are_ranked():
    ranking = fl.rank(table(), bootstrap=50)
    assert {form["form"] for form in ranking["forms"]} >= {"forgetting"}
    assert fl.rank(table(), ["forgetting"]) is None
    assert "forgetting" in [law.name for law in fl.laws()]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"loss_pt": [None] * 36}, "needs loss_pt"),
        ({"p": ["a lot"] + [0.0] * 35}, "row 1: p is 'a lot', which is not a number"),
        ({"p": [2.0] * 36}, "p must lie between 0 and 1"),
        ({"p": [0.01] * 36}, "distinct values of p = 1"),
        ({"n_params": [float("inf")] * 36}, "n_params must be a number above 0"),
        ({"n_params": [1e6]}, "has 36 rows, and the columns before it have 1"),
        ({"n_params": 5}, "a column must be a sequence"),
        ({"n_params": [math.nan] * 36}, "needs n_params"),
    ],
)
def test_hostile_tables_are_refused_in_a_sentence(change, said):
    with pytest.raises(fl.ForgettingLawsError, match="^[^\n]+$") as refusal:
        fl.fit({**table(), **change}, bootstrap=0)
    assert said in str(refusal.value)


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ({}, "no rows"),
        ({"size": [1.0]}, "its columns are size"),
        ({"n_params": []}, "no rows"),
        (7, "a int is no table"),
    ],
)
def test_what_is_no_table_is_refused(broken, said):
    with pytest.raises(ValueError, match=said):
        fl.fit(broken)


def test_options_outside_their_domain_are_refused(tmp_path):
    for options in ({"law": "gravity"}, {"level": 2.0}, {"hold_out": "all"}, {"columns": {"x": "y"}}):
        with pytest.raises(fl.ForgettingLawsError):
            fl.fit(table(), **options)
    with pytest.raises(OSError):
        fl.fit(tmp_path / "none.csv")
    pandas = pytest.importorskip("pandas")
    twins = pandas.DataFrame([[1.0, 2.0]], columns=["p", "p"])
    with pytest.raises(ValueError, match="several columns are named p"):
        fl.fit(twins)


def test_predictions_outside_their_domain_are_refused(fit):
    for bad in ({"n_params": -1.0}, {"p": 1.5}, {"d_ft_tokens": math.nan}):
        with pytest.raises(fl.ForgettingLawsError):
            fit.predict(**{"n_params": 1e8, "d_ft_tokens": 1e7, "p": 0.0, **bad})
    with pytest.raises(ValueError, match="do not fit together"):
        fit.predict(n_params=[1e8, 2e8], d_ft_tokens=[1e7] * 3, p=0.0)
