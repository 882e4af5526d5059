"""Arguments of the wrong kind are refused by name, in the sentence that a number out of range gets."""

import forgetting_laws as fl
import pytest

ROWS = [
    (n, d, p, loss, loss + 6.0 * d**0.35 / ((1 + 829 * p) * n) ** 0.4)
    for n, loss in ((41e6, 3.3), (109e6, 3.0), (334e6, 2.7))
    for d in (3e5, 3e6, 3e7)
    for p in (0.0, 0.01, 0.05)
]
TABLE = dict(zip(("n_params", "d_ft_tokens", "p", "loss_pt0", "loss_pt"), zip(*ROWS)))
MIXTURE = {"steps": 1, "batch": 1, "target_sequences": 1, "pretraining_sequences": 1}
STUDY = {
    "n_params": 3e8, "d_ft_tokens": 3e6, "models": {"small": 4e7}, "amounts": [3e5], "fractions": [0.0],
}


@pytest.fixture(scope="module")
def fit():
    return fl.fit(TABLE, bootstrap=20)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda fit: fl.fit(TABLE, level="a"), "level = a: must be a number"),
        (lambda fit: fl.fit(TABLE, None), "law = None: must be the name of a law"),
        (lambda fit: fl.fit(TABLE, delta="0.1"), "delta = 0.1: must be a number"),
        (lambda fit: fl.compare(TABLE, "forgetting"), "laws = forgetting: fewer than two"),
        (lambda fit: fit.predict(n_params=1e8, d_ft_tokens=1e6, p=0, epochs="x"), "epochs = x: must be a number"),
        (lambda fit: fl.advise(fit, n_params=1e8, d_ft_tokens=1e6, p=2), "p = 2: must lie between 0 and 1"),
        (lambda fit: fl.advise(fit, n_params=1e8, d_ft_tokens=1e6, p="a"), "p = a: must be a number"),
        (lambda fit: fl.advise(fit, n_params=1e8, d_ft_tokens=1e6, worth=[]), r"worth = \[\]: must be a number"),
        (lambda fit: fl.advise(3, n_params=1e8, d_ft_tokens=1e6), "fits = 3: must be a Fit, or a list of them"),
        (lambda fit: fl.advise([fit, 3], n_params=1e8, d_ft_tokens=1e6), "fits = 3: must be a Fit, or a list"),
        (lambda fit: fl.advise(fit, n_params="a", d_ft_tokens=1e6), "n_params = a: must be a number"),
        (lambda fit: fl.compare(TABLE, 3), "laws = 3: must be a list"),
        (lambda fit: fl.fit(TABLE, columns=3), "columns = 3: must be a dict of columns by name"),
        (lambda fit: fl.Mixture(2, **MIXTURE), "p = 2: must lie between 0 and 1"),
        (lambda fit: fl.Mixture("a", **MIXTURE), "p = a: must be a number"),
        (lambda fit: fl.FinetuningSchedule(peak="a"), "peak = a: must be a number"),
        (lambda fit: fl.PretrainingSchedule(1e-3, 10, warmup="a"), "warmup = a: must be a number"),
        (lambda fit: fl.weight_decay("a", optimizer="torch.optim.AdamW"), "value = a: must be a number"),
        (lambda fit: fl.UCurve("a"), "loss_pt0 = a: must be a number"),
        (lambda fit: fl.UCurve(3.0).add(1, "a", 2.0), "loss_ft = a: must be a number"),
    ],
)
def test_what_is_no_number_is_refused_by_name(fit, call, said):
    with pytest.raises(fl.ForgettingLawsError, match="^" + said):
        call(fit)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"models": {}}, "models are missing: give at least one model"),
        ({"models": [1]}, r"models = \[1\]: must be a dict of N by name"),
        ({"amounts": 3}, "amounts = 3: must be a list"),
        ({"candidates": [1]}, "candidates: 1 must have a model, D_ft, p and a cost"),
        ({"models": {"small": "b"}}, "N of the model small = b: must be a number"),
        ({"amounts": ["a"]}, "amounts = a: must be a number"),
        ({"fractions": ["a"]}, "fractions = a: must be a number"),
        ({"limit": "a"}, "limit = a: must be a number"),
        ({"confidence": "a"}, "confidence = a: must be a number"),
        ({"candidates": [("small", 1)]}, r"candidates: \('small', 1\) must have a model, D_ft, p and a cost"),
    ],
)
def test_a_study_of_what_is_no_number_is_not_begun(tmp_path, change, said):
    with pytest.raises(fl.ForgettingLawsError, match="^" + said):
        fl.Study.new(tmp_path / "study.json", **{**STUDY, **change})
    assert not (tmp_path / "study.json").exists()


def test_losses_that_are_no_numbers_are_not_told(tmp_path):
    study = fl.Study.new(tmp_path / "study.json", **STUDY)
    (run,) = study.ask()
    with pytest.raises(fl.ForgettingLawsError, match="^loss_pt = a: must be a number"):
        study.tell(run, loss_pt0=3.0, loss_pt="a", loss_ft=2.0)
    with pytest.raises(fl.ForgettingLawsError, match="^p = a: must be a number"):
        study.add(n_params=4e7, d_ft_tokens=1e6, p="a", loss_pt=3.0)
    assert [run.state for run in study.runs] == ["asked"]
