"""The numbers of the command, to the last digit, where FORGETTING_LAWS_COMMAND names it."""

import csv
import json
import os
import subprocess

import forgetting_laws as fl
import pytest
from test_fit import table

COMMAND = os.environ.get("FORGETTING_LAWS_COMMAND")
pytestmark = pytest.mark.skipif(not COMMAND, reason="FORGETTING_LAWS_COMMAND is not set")


def run(*arguments):
    done = subprocess.run([COMMAND, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def losses():
    """Runs on two machines, of which some differ in nothing else, and some in nothing."""
    rows = table()
    rows["loss_ft"] = [2 + 30 * n**-0.1 * d**-0.05 for n, d in zip(rows["n_params"], rows["d_ft_tokens"])]
    rows = {name: values + values[:10] + values[:3] for name, values in rows.items()}
    rows["machine"] = ["a"] * 36 + ["b"] * 10 + ["a"] * 3
    return rows


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("command")
    rows = losses()
    with open(folder / "losses.csv", "w", newline="") as file:
        csv.writer(file).writerows([rows, *zip(*rows.values())])
    for law in ("forgetting", "finetuning"):
        options = ["--law", law, "--bootstrap", "100", "--out", folder / law]
        run("fit", folder / "losses.csv", *options)
    laws = ["--law", "forgetting,finetuning"]
    run("fit", folder / "losses.csv", *laws, "--bootstrap", "100", "--out", folder / "both")
    return folder


@pytest.mark.parametrize("law", ["forgetting", "finetuning"])
def test_a_fit_is_the_commands(folder, law):
    theirs = json.loads((folder / law / "law.json").read_text())
    ours = json.loads(fl.fit(folder / "losses.csv", law, bootstrap=100).to_json())
    for name in ("program", "commit"):
        theirs.pop(name), ours.pop(name)
    assert ours == theirs
    # A frame has no file, and rows instead of lines.
    ours = json.loads(fl.fit(losses(), law, bootstrap=100).to_json())
    warnings = [file.pop("input")["warnings"] for file in (ours, theirs)]
    assert warnings[0][0]["message"] == (
        "3 of 49 rows repeat another in every column and are counted once: rows 47, 48, 49"
    )
    assert warnings[1][0]["message"] == warnings[0][0]["message"].replace("rows 47, 48, 49", "lines 48, 49, 50")
    del ours["program"], ours["commit"]
    assert ours == json.loads(json.dumps(theirs).replace("lines 48, 49, 50", "rows 47, 48, 49"))


def test_options_are_the_commands(folder):
    options = ["--space", "raw", "--penalty", "huber", "--delta", "0.01", "--no-misfit", "--hold-out", "data"]
    options += ["--model-spread", "0.08", "--seed", "3", "--level", "0.8", "--bootstrap", "20", "--sweep"]
    out = folder / "options"
    run("fit", folder / "losses.csv", "--law", "forgetting", *options, "--out", out)
    fit = fl.fit(
        folder / "losses.csv", space="raw", delta=0.01, misfit=False, hold_out="data", model_spread=0.08,
        seed=3, level=0.8, bootstrap=20, sweep=True,
    )
    theirs = json.loads((out / "law.json").read_text())["groups"]
    assert json.loads(fit.to_json())["groups"] == theirs and len(theirs[0]["sweep"]) == 12


@pytest.mark.parametrize("n_params", [41e6, 2e8, 2e10])
def test_a_prediction_is_the_commands(folder, n_params):
    fit = fl.fit(losses(), bootstrap=100)
    asked = {"n_params": n_params, "d_ft_tokens": 1e7, "p": 0.002}
    options = ["--n-params", repr(n_params), "--d-ft", "1e7", "--p", "0.002", "--json"]
    (theirs,) = json.loads(run("predict", folder / "forgetting" / "law.json", *options))
    run_of, law = fit.predict(**asked), fit.predict(**asked, interval="law")
    assert [run_of[name] for name in ("value", "low", "high")] == [
        theirs[name] for name in ("value", "low", "high")
    ]
    assert [law["low"], law["high"]] == [theirs["law_low"], theirs["law_high"]]
    assert run_of["loss_pt0"] == theirs["asked"]["loss_pt0"]
    source = run_of["loss_pt0_from"]
    assert (None if source == "fitted" else source) == theirs["loss_pt0_from"]
    ids = [warning["id"] for warning in theirs["warnings"]]
    assert [warning[:3] for warning in run_of["warnings"]] == ids
    assert ("W18" in ids) == (n_params == 2e10)


def test_advice_is_the_commands(folder):
    fits = [fl.Fit.from_json((folder / law / "law.json").read_text()) for law in ("forgetting", "finetuning")]
    options = ["--n-params", "2e8", "--d-ft", "1e7", "--limit", "10%", "--target-loss", "5", "--json"]
    theirs = json.loads(run("advise", folder / "both" / "law.json", *options))
    ours = fl.advise(fits, n_params=2e8, d_ft_tokens=1e7, limit=0.1, target_loss=5.0)

    def in_sentences(value):
        if not isinstance(value, dict):
            return value
        return {
            name: [warning["id"] for warning in inner] if name == "warnings" else in_sentences(inner)
            for name, inner in value.items()
        }

    def by_id(value):
        if not isinstance(value, dict):
            return value
        return {
            name: [warning[:3] for warning in inner] if name == "warnings" else by_id(inner)
            for name, inner in value.items()
        }

    law = theirs["smallest_p"]["law"]
    assert law == ours["law"] == "forgetting"
    for name, value in in_sentences(theirs["smallest_p"]).items():
        assert by_id(ours)[name] == value, name
    for name in ("on_target", "n_for_target", "d_ft_for_target", "worth_collecting", "best_new_runs"):
        assert ours[name] is not None and by_id(ours)[name] == in_sentences(theirs[name]), name
    assert ours["asked_p"] == theirs["asked"]["p"] and ours["loss_pt0_from"] == theirs["loss_pt0_from"]
