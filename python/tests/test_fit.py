import json
import math
import pathlib
import pickle
import signal
import threading
import time

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
    assert "  alpha  " in repr(fit) and "Eq. 7" in repr(fit)


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


@pytest.fixture(scope="module")
def near():
    return fl.fit(ROOT / "examples/losses.csv", domain="planted-near")


def test_the_report_is_the_commands(near):
    """docs/fit.md has what the command prints of this table."""
    guide = (ROOT / "docs/fit.md").read_text()
    printed = guide[guide.index("planted-near, forgetting: 125 runs") :]
    printed = printed[: printed.index("```")]
    report = near.report()
    assert report.startswith(printed)
    law, check, card = report[: -len("\n\n")].split("\n\n")
    assert check.startswith("planted-near, check of Eq. 7: B scales as D_ft^0.00687")
    assert card.startswith("report card\n  W02 ") and " questions answered" in card
    # Nobody asked for the column domain without the argument, which the card says.
    assert not any(warning.startswith("W05") for warning in near.warnings)
    assert len(near.warnings) == 3 and all(w in card for w in ("W02", "W03", "W11"))


def test_a_notebook_shows_parameters_and_escapes_names():
    rows = table()
    rows["domain"] = ["<b>"] * 36
    shown = fl.fit(rows, bootstrap=50)
    assert shown.domain == "<b>"
    html = shown._repr_html_()
    assert "&lt;b&gt;, forgetting: 36 runs" in html and "<b>" not in html
    assert f"{shown.params['alpha']:.6g}" in html and html.count("<tr>") == 5
    bare = fl.fit(table(), bootstrap=0)
    assert "low" not in bare._repr_html_()


def test_plots_are_the_commands_with_their_numbers(near, tmp_path):
    plots = near.plots()
    assert list(plots) == ["predicted", "residuals", "curves"]
    for plot in plots.values():
        assert plot.svg.startswith("<svg") or plot.svg.startswith("<?xml")
        assert plot.png.startswith(b"\x89PNG") and plot._repr_svg_() == plot.svg
        plot.write(tmp_path / "drawn")
    assert len(list((tmp_path / "drawn").iterdir())) == 9
    table = plots["predicted"].table()
    assert set(table["domain"]) == {"planted-near"} and len(table["observed"]) == 125
    runs = {name: table[name] for name in ("n_params", "d_ft_tokens", "p", "loss_pt0")}
    assert near.predict(**runs)["value"] == pytest.approx(table["predicted"], rel=1e-12)
    assert "run" in plots["curves"].table()["kind"]
    frame = pytest.importorskip("pandas") and plots["residuals"].to_dataframe()
    assert abs(frame["residual"]).mean() < 0.01 and "125 rows" in repr(plots["residuals"])


def test_a_table_of_several_domains_is_fitted_by_domain():
    both = {name: values + values for name, values in table().items()}
    both["loss_pt"] = both["loss_pt"][:36] + [2 * loss for loss in both["loss_pt"][36:]]
    both["domain"] = ["one"] * 36 + ["two"] * 36
    with pytest.raises(fl.ForgettingLawsError, match="the table has several, one, two; name one"):
        fl.fit(both, bootstrap=0)
    with pytest.raises(fl.ForgettingLawsError, match="the domains are one, two"):
        fl.fit(both, domain="three")
    one = fl.fit(both, domain="one", bootstrap=0)
    assert one.params == fl.fit(table(), bootstrap=0).params and one.domain == "one"


def test_predictions_are_the_laws_and_keep_the_shape(fit):
    one = fit.predict(n_params=2e8, d_ft_tokens=1e7, p=0.01, loss_pt0=2.8)
    assert one["value"] == pytest.approx(planted(2e8, 1e7, 0.01, 2.8), rel=0.01)
    law = fit.predict(n_params=2e8, d_ft_tokens=1e7, p=0.01, loss_pt0=2.8, interval="law")
    assert one["low"] < law["low"] < one["value"] == law["value"] < law["high"] < one["high"]
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
    assert again.report() == fit.report()
    file = json.loads(text)
    assert [group["law"] for group in file["groups"]] == ["forgetting"] and file["growths"]
    assert pickle.loads(pickle.dumps(fit)).params == fit.params
    # A file of several laws, as the command writes it.
    file["groups"].append({**file["groups"][0], "domain": "other"})
    several = json.dumps(file)
    assert fl.Fit.from_json(several, domain="other", law="forgetting").domain == "other"
    with pytest.raises(fl.ForgettingLawsError, match="choose one by law and domain: forgetting; other"):
        fl.Fit.from_json(several)
    with pytest.raises(fl.ForgettingLawsError, match="0 laws of the file are meant"):
        fl.Fit.from_json(several, law="additive")
    for broken in ("{}", "", "[1", text.replace('"format": 1', '"format": 99')):
        with pytest.raises(fl.ForgettingLawsError, match="^[^\n]+$"):
            fl.Fit.from_json(broken)


def test_advice_keeps_to_the_limit(fit):
    advice = fl.advise(fit, n_params=2e8, d_ft_tokens=1e7, loss_pt0=2.85, limit=0.1)
    assert advice["by_law"]["value"] < advice["p"] < 0.05
    far = fl.advise(fit, n_params=2e10, d_ft_tokens=1e7, loss_pt0=2.0, limit=0.1)
    assert any(warning.startswith("W09: ") for warning in far["warnings"])
    nats = fl.advise([fit], n_params=2e8, d_ft_tokens=1e7, loss_pt0=2.85, limit_nats=0.285)
    assert nats["p"] == advice["p"]
    with pytest.raises(ValueError, match="fitted laws = none"):
        fl.advise([], n_params=2e8, d_ft_tokens=1e7, loss_pt0=2.85)


def test_forms_are_ranked():
    comparison = fl.compare(table(), bootstrap=50)
    assert [form["form"] for form in comparison.forms][0] == "forgetting"
    assert comparison.preferred == "forgetting" and comparison.axes[:2] == ["size", "data"]
    assert comparison.report().startswith("forms of loss_pt ranked by the error of the increase")
    html = comparison._repr_html_()
    assert html.count("<tr>") == 1 + 5 + 2 and "forgetting *" in html
    with pytest.raises(fl.ForgettingLawsError, match="fewer than two of them can be compared"):
        fl.compare(table(), ["forgetting"])
    assert "forgetting" in [law.name for law in fl.laws()]
    bounded = fl.compare(table(), vocab_size=32_000, bootstrap=50)
    assert "forgetting-bounded-32000" in [form["form"] for form in bounded.forms]
    with pytest.raises(fl.ForgettingLawsError, match="vocab_size = 512: is only for laws = all-forgetting"):
        fl.compare(table(), ["forgetting", "forgetting-ceiling"], vocab_size=512)


def test_the_best_form_is_fitted_and_says_why():
    best = fl.fit(table(), "best-forgetting", vocab_size=32_000, bootstrap=50)
    assert best.comparison is not None and best.law == best.comparison.preferred == "forgetting"
    assert best.comparison.why.startswith("smallest error of the increase on held-out runs")
    assert best.params == fl.fit(table(), bootstrap=0).params
    assert "forms of loss_pt ranked" in best.report() and "forgetting-bounded-32000" in best.report()
    again = fl.Fit.from_json(best.to_json())
    assert again.comparison is not None and again.comparison.report() == best.comparison.report()
    named = fl.fit(table(), bootstrap=0)
    assert named.comparison is None and named.why == "no ranking of the forms for this loss chose it"
    assert best.why == again.why == best.comparison.why
    at = {"n_params": 2e8, "d_ft_tokens": 1e7, "p": 0.01}
    assert (best.predict(**at)["law"], best.predict(**at)["why"]) == ("forgetting", best.why)
    assert named.predict(**at)["why"] == named.why
    target = {**table(), "loss_ft": table()["loss_pt"]}
    assert fl.fit(target, "best-finetuning", bootstrap=20).law.startswith("finetuning")
    # Without p one form is left, and there is nothing to rank.
    alone = fl.fit({name: target[name] for name in ("n_params", "d_ft_tokens", "loss_ft")}, "best-finetuning")
    assert alone.law == "finetuning" and alone.comparison is None
    with pytest.raises(fl.ForgettingLawsError, match="vocab_size = 512: is only for law = best-forgetting"):
        fl.fit(table(), vocab_size=512)
    for wrong in (1, 2**32, "x", 1.5):
        with pytest.raises(fl.ForgettingLawsError, match="vocab_size = .*: must be a whole number"):
            fl.fit(table(), "best-forgetting", vocab_size=wrong)


def test_a_long_fit_says_how_far_it_is_and_lets_others_run(capsys):
    told, ran = [], []
    stop = threading.Event()

    def count():
        while not stop.wait(0.001):
            ran.append(1)

    other = threading.Thread(target=count)
    other.start()
    fl.fit(table(), bootstrap=3000, threads=1, progress=lambda done, of: told.append((done, of)))
    stop.set()
    other.join()
    assert told == sorted(told) and 0 < told[-1][0] <= told[-1][1] > 3000
    assert len(ran) > 10
    fl.fit(table(), bootstrap=3000, threads=1, progress=True)
    assert "small fits" in capsys.readouterr().err


def test_a_fit_stops_at_ctrl_c():
    class Alarm(Exception):
        pass

    def ring(*_):
        raise Alarm

    before = signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        begun = time.monotonic()
        with pytest.raises(Alarm):
            fl.fit(table(), bootstrap=10_000_000, threads=1)
        assert time.monotonic() - begun < 2
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    # What a progress function raises stops it too.
    with pytest.raises(ZeroDivisionError):
        fl.fit(table(), bootstrap=10_000_000, threads=1, progress=lambda done, of: 1 // 0)


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
        ({"p": np.zeros((36, 2))}, "p has the shape (36, 2)"),
        ({"p": [0.1, [1, 2]] + [0.0] * 34}, "row 2: p is [1, 2], which is not a number"),
        ({"p": [1j] * 36}, "row 1: p is 1j, which is not a number"),
        ({"p": np.array(["2026-01-01"] * 36, dtype="datetime64[D]")}, "row 1: p is"),
        ({"p": "0.1"}, "a column must be a sequence"),
        ({"weight": [-1.0] * 36}, "weight"),
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


def test_labels_of_every_kind_are_read():
    rows = table()
    for labels in (["a\ud800"] * 36, [7] * 36, [b"x"] * 36, ["ü"] * 36):
        assert fl.fit({**rows, "domain": labels}, bootstrap=0).domain
    assert fl.fit({**rows, "domain": [None] * 36}, bootstrap=0).domain == ""


def test_missing_numbers_are_none_nan_and_masked():
    whole = table()
    whole["loss_pt"][3] = None
    expected = fl.fit(whole, bootstrap=0)
    assert expected.n_runs == 35
    for missing in (float("nan"), np.float32("nan")):
        whole["loss_pt"][3] = missing
        assert fl.fit(whole, bootstrap=0).params == expected.params
    values = np.array(table()["loss_pt"])
    whole["loss_pt"] = np.ma.masked_array(values, mask=np.arange(36) == 3)
    assert fl.fit(whole, bootstrap=0).params == expected.params
    whole["loss_pt"] = [str(value) for value in table()["loss_pt"]]
    whole["loss_pt"][3] = None
    assert fl.fit(whole, bootstrap=0).params == expected.params


def test_numbers_of_every_width_are_read():
    whole = {name: np.array(values) for name, values in table().items()}
    expected = fl.fit(whole, bootstrap=0).params
    sizes = {**whole, "n_params": whole["n_params"].astype(">i8")}
    assert fl.fit(sizes, bootstrap=0).params == expected
    reversed_twice = {name: values[::-1].copy()[::-1] for name, values in whole.items()}
    assert fl.fit(reversed_twice, bootstrap=0).params == expected
    single = fl.fit({**whole, "loss_pt": whole["loss_pt"].astype(np.float32)}, bootstrap=0).params
    assert single == pytest.approx(expected, rel=1e-2)


def test_files_are_read_as_the_command_reads_them(tmp_path):
    csv = (ROOT / "examples/losses.csv").read_text()
    expected = fl.fit(ROOT / "examples/losses.csv", domain="planted-near", bootstrap=0).params
    written = tmp_path / "losses.tsv"
    written.write_text("# of May\n" + csv.replace(",", "\t"))
    assert fl.fit(written, domain="planted-near", bootstrap=0).params == expected
    header, *rows = csv.splitlines()
    twice = tmp_path / "twice.csv"
    twice.write_text("\n".join([header, *rows, rows[0]]))
    fitted = fl.fit(twice, domain="planted-near", bootstrap=0)
    assert fitted.params == expected
    assert any("repeats another in every column" in str(warning) for warning in fitted.warnings)
    pandas = pytest.importorskip("pandas")
    frame = pandas.read_csv(ROOT / "examples/losses.csv")
    frame.to_json(tmp_path / "losses.jsonl", orient="records", lines=True, double_precision=15)
    fitted = fl.fit(tmp_path / "losses.jsonl", domain="planted-near", bootstrap=0)
    assert fitted.params == expected


def test_rows_that_differ_in_an_unused_column_all_count(tmp_path):
    rows = {name: values + values[:10] for name, values in table().items()}
    rows["machine"] = ["a"] * 36 + ["b"] * 10
    path = tmp_path / "losses.csv"

    def written():
        path.write_text("\n".join(",".join(map(str, row)) for row in [rows, *zip(*rows.values())]))
        return path

    whole = fl.fit(rows, bootstrap=0)
    assert whole.n_rows == 46 and not any("W16" in warning for warning in whole.warnings)
    assert fl.fit(written(), bootstrap=0).params == whole.params
    # In a column that is missing in one of them, too.
    rows["machine"] = [None] * 36 + ["b"] * 10
    assert fl.fit(rows, bootstrap=0).n_rows == 46
    rows["machine"] = [float("nan")] * 46
    once = fl.fit(rows, bootstrap=0)
    assert once.n_rows == 36 and once.params == fl.fit(table(), bootstrap=0).params
    said = "W16: 10 of 46 rows repeat another in every column and are counted once: "
    assert once.warnings[0].startswith(said + "rows 37, 38, 39, 40, 41 and 5 more. If they are")
    rows["machine"] = [""] * 46
    read = fl.fit(written(), bootstrap=0)
    assert read.params == once.params and read.warnings[0].startswith(said + "lines 38, 39, 40, 41, 42 ")
    assert read.warnings[1:] == once.warnings[1:] and not any("W16" in w for w in once.warnings[1:])
    # Of the whole table, as the command counts them, and rows keep their numbers.
    rows["domain"] = ["one"] * 20 + ["two"] * 16 + ["one"] * 10
    assert fl.fit(rows, domain="one", law="forgetting", bootstrap=0).warnings[0].startswith("W16: 10 of 46")
    # A prediction has a number for each of the rows.
    assert whole.predict(rows)["value"].shape == (46,)


def test_files_that_hold_no_table_are_refused(tmp_path):
    path = tmp_path / "losses.csv"
    for content, said in (
        (b"\xff\xfe\x00p", "UTF-16 text"),
        (b"PAR1\x15\x84\x90", "it is a Parquet file"),
        (b"", "the file is empty"),
        (b"loss\n3.5 nats\n", "line 2: loss is \"3.5 nats\", which is not a number"),
        (b"x,y\n1,2\n", "its columns are x, y"),
    ):
        path.write_bytes(content)
        with pytest.raises(fl.ForgettingLawsError, match=said):
            fl.fit(path)
    path.write_text("\ufeffp,n_params\n0.1,1e6\n")
    with pytest.raises(fl.ForgettingLawsError, match="needs loss_pt"):
        fl.fit(path)


def test_options_outside_their_domain_are_refused(tmp_path):
    for options in ({"bootstrap": -1}, {"seed": 0.5}, {"law": "gravity"}, {"level": 2.0}, {"hold_out": "all"}, {"columns": {"x": "y"}}):
        with pytest.raises(fl.ForgettingLawsError):
            fl.fit(table(), **options)
    with pytest.raises(FileNotFoundError, match="the file of table cannot be used: No such file") as missing:
        fl.fit(tmp_path / "none.csv")
    assert missing.value.filename == str(tmp_path / "none.csv") and "none.csv" in str(missing.value)
    pandas = pytest.importorskip("pandas")
    twins = pandas.DataFrame([[1.0, 2.0]], columns=["p", "p"])
    with pytest.raises(ValueError, match="several columns are named p"):
        fl.fit(twins)


def test_predictions_outside_their_domain_are_refused(fit):
    for bad in (
        {"n_params": -1.0},
        {"p": 1.5},
        {"d_ft_tokens": math.nan},
        {"p": "much"},
        {"interval": "mean"},
    ):
        with pytest.raises(fl.ForgettingLawsError):
            fit.predict(**{"n_params": 1e8, "d_ft_tokens": 1e7, "p": 0.0, **bad})
    with pytest.raises(ValueError, match="do not fit together"):
        fit.predict(n_params=[1e8, 2e8], d_ft_tokens=[1e7] * 3, p=0.0)


def test_a_prediction_says_what_to_know(fit):
    known = fit.predict(n_params=41e6, d_ft_tokens=3e6, p=0.01)
    assert (known["loss_pt0"], known["loss_pt0_from"], known["warnings"]) == (3.3, "fitted", [])
    given = fit.predict(n_params=2e8, d_ft_tokens=3e6, p=0.01, loss_pt0=2.8)
    assert (given["loss_pt0"], given["loss_pt0_from"]) == (2.8, "given")
    both = fit.predict(n_params=[2e8, 2e10], d_ft_tokens=3e6, p=0.01)
    assert both["loss_pt0_from"].tolist() == ["interpolated", "extrapolated"]
    near, far = both["warnings"]
    assert near == [] and [warning[:3] for warning in far] == ["W09", "W18"]
    assert far[0].startswith("W09: n_params = 2e10 is outside the range 4.1e7 to 3.34e8")
    alone = fit.predict(n_params=2e10, d_ft_tokens=3e6, p=0.01)
    assert alone["warnings"] == far and alone["loss_pt0_from"] == "extrapolated"
    none = fit.predict(n_params=[], d_ft_tokens=3e6, p=0.01)
    assert (none.pop("law"), none.pop("why")) == (known["law"], known["why"])
    assert [column.shape for column in none.values()] == [(0,)] * 6
    assert far[1].endswith("Measure L_pt0 and give it as loss_pt0.")
    losses = [2 + 30 * n**-0.1 * d**-0.05 for n, d in zip(table()["n_params"], table()["d_ft_tokens"])]
    target = fl.fit({**table(), "loss_ft": losses}, "finetuning", bootstrap=0)
    known = target.predict(n_params=41e6, d_ft_tokens=3e6)
    assert math.isnan(known["loss_pt0"]) and known["loss_pt0_from"] is None


def test_a_prediction_takes_the_columns_of_a_table(fit):
    runs = {"N": [1e8, 2e8], "D": [1e7, 1e7], "p": [0.0, 0.05]}
    names = {"n_params": "N", "d_ft_tokens": "D"}
    expected = fit.predict(n_params=runs["N"], d_ft_tokens=runs["D"], p=runs["p"])["value"]
    assert fit.predict(runs, columns=names)["value"].tolist() == expected.tolist()
    with pytest.raises(fl.ForgettingLawsError, match="there is no table"):
        fit.predict(n_params=1e8, d_ft_tokens=1e7, p=0.0, columns=names)


def test_the_options_of_the_command_are_there():
    fit = fl.fit(
        table(), space="raw", penalty="squared", misfit=False, model_spread=0.08, bootstrap=20, sweep=True
    )
    (group,) = json.loads(fit.to_json())["groups"]
    assert (group["space"], group["penalty"], group["model_spread"]) == ("raw", "squared", 0.08)
    assert "misfit" not in group and len(group["sweep"]) == 12
    assert not any(warning.startswith("W11") for warning in fit.warnings)
    fit = fl.fit(table(), bootstrap=20, delta=0.01, prove=True)
    (group,) = json.loads(fit.to_json())["groups"]
    assert group["delta"] == 0.01 and group["proof"]["complete"]
    # What warnings advise has the names of Python.
    (spread,) = [warning for warning in fit.warnings if warning.startswith("W11")]
    assert "or give the spread as model_spread" in spread
    assert not any("--" in warning for warning in fit.warnings)
    for options, said in (
        ({"penalty": "absolute", "delta": 0.1}, "delta = 0.1: is only for the penalty huber"),
        ({"penalty": "cubic"}, "must be huber, squared or absolute"),
        ({"space": "cubic"}, "must be log or raw"),
        ({"model_spread": 8}, "must be a share from 0 to 1"),
        ({"law": "forgetting-ceiling", "prove": True}, "has no proof"),
    ):
        with pytest.raises(fl.ForgettingLawsError, match=said):
            fl.fit(table(), **options)


def test_advice_has_the_other_answers_of_the_command(fit):
    losses = [2 + 30 * n**-0.1 * d**-0.05 for n, d in zip(table()["n_params"], table()["d_ft_tokens"])]
    target = fl.fit({**table(), "loss_ft": losses}, "finetuning", bootstrap=50)
    asked = {"n_params": 2e8, "d_ft_tokens": 1e7, "limit": 0.1}
    advice = fl.advise([fit, target], **asked, target_loss=4.0, new_runs=2)
    assert advice["laws"] == [{"law": "forgetting", "why": fit.why}, {"law": "finetuning", "why": target.why}]
    assert advice["loss_pt0_from"] == "interpolated" and 2.7 < advice["loss_pt0"] < 3.0
    assert advice["asked_p"] == advice["p"] and advice["unanswered"] == {}
    assert advice["on_target"]["loss_ft"]["low"] < advice["on_target"]["loss_ft"]["high"]
    assert advice["worth_collecting"] and advice["n_for_target"] and advice["d_ft_for_target"]
    assert len(advice["best_new_runs"]["runs"]) == 2 and advice["larger_model"] is None
    alone = fl.advise(fit, **asked, p=0.02, new_runs=0)
    assert alone["asked_p"] == 0.02 and alone["p"] == advice["p"] and alone["best_new_runs"] is None
    epochs = fl.fit({**table(), "epochs": [10.0] * len(table()["p"])}, bootstrap=50)
    assert any("passes over the target data: 50, but 10 in" in text for text in fl.advise(epochs, **asked, epochs=50)["warnings"])
    assert not any("passes over" in text for text in fl.advise(epochs, **asked, epochs=20)["warnings"])
    assert alone["on_target"] is None and "finetuning" in alone["unanswered"]["on_target"]


def test_parquet_is_read(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.table(table()), tmp_path / "losses.parquet")
    expected = fl.fit(table(), bootstrap=0).params
    assert fl.fit(tmp_path / "losses.parquet", bootstrap=0).params == expected


def test_a_domain_may_be_a_number():
    both = {name: values + values for name, values in table().items()}
    for domains in ([1] * 36 + [2] * 36, [1.0] * 36 + [float("nan")] * 36, np.repeat([1, 2], 36)):
        both["domain"] = domains
        assert fl.fit(both, domain=1, bootstrap=0).n_rows == 36
    with pytest.raises(fl.ForgettingLawsError, match="the domains are 1, 2"):
        fl.fit(both, domain=3)


HUGE = 10**400


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda fit: fit.predict(n_params=1e8, d_ft_tokens=1e7), "p is missing: the forgetting law needs it"),
        (lambda fit: fit.predict(n_params=HUGE, d_ft_tokens=1e7, p=0), "n_params = 1000.*: must be numbers"),
        (lambda fit: fl.fit({**table(), "p": [HUGE] * 36}), "row 1: p is 1000.*, which is too large"),
        (lambda fit: fl.fit(table(), bootstrap=10**12), "bootstrap = 1000000000000: must be at most 10000000"),
        (lambda fit: fl.fit(table(), bootstrap=2**62), "bootstrap = .*: must be at most 10000000"),
        (lambda fit: fl.compare(table(), bootstrap=2**62), "bootstrap = .*: must be at most 10000000"),
        (lambda fit: fl.fit(table(), bootstrap=HUGE), "bootstrap = 1000.*: must be a whole number"),
        (lambda fit: fl.advise(fit, n_params=HUGE, d_ft_tokens=1e7), "n_params = 1000.*: must be a number"),
        (
            lambda fit: fl.advise(fit, n_params=1e8, d_ft_tokens=1e7, limit=0.01, limit_nats=0.05),
            "limit = 0.01: limit_nats = 0.05 is given too",
        ),
        (
            lambda fit: fl.fit({name: values for name, values in table().items() if name != "loss_pt"}),
            r"map another column to it \(columns loss_pt=NAME\)",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(fit, call, said):
    with pytest.raises(fl.ForgettingLawsError, match=said) as refusal:
        call(fit)
    assert len(str(refusal.value)) < 250 and "\n" not in str(refusal.value)
