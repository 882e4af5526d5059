import concurrent.futures
import doctest
import math
import signal
import time

import forgetting_laws as fl
import pytest
from forgetting_laws import Study, _curve, _fit, _mixture, _schedule

AMOUNTS, FRACTIONS = (3e5, 1e6, 3e6), (0.0, 0.01, 0.05)


def finetune(n_params, d_ft_tokens, p):
    before = 2 + 20 * n_params**-0.15
    rise = 6 * d_ft_tokens**0.35 / ((1 + 829 * p) * n_params) ** 0.4
    ripple = 1 + 0.001 * math.sin(n_params + 7 * d_ft_tokens + 1e6 * p)
    return before, (before + rise) * ripple


def begin(path):
    return Study.new(
        path,
        n_params=3.3e8,
        d_ft_tokens=3e6,
        limit=0.1,
        models={"small": 4.1e7, "middle": 1.1e8, "large": (3.3e8, 0.0)},
        amounts=AMOUNTS,
        fractions=FRACTIONS,
    )


def test_a_loop_finds_the_planted_answer(tmp_path):
    study = begin(tmp_path / "study.json")
    assert study.answer(bootstrap=50).verdict == "not_shown" and study.best_p is None
    assert repr(study.answer()) == "The runs do not show which p to use: no run has a result yet."
    for _ in range(14):
        (run,) = study.ask()
        assert run.after < run.before
        before, after = finetune(run.n_params, run.d_ft_tokens, run.p)
        study.tell(run, loss_pt0=before, loss_pt=after)
    answer = study.answer(bootstrap=100)
    # The law itself meets 10% of L_pt0 at p = 0.17%.
    assert answer.verdict == "inject" and 0.0016 < answer.p < 0.0034
    low, high = answer.interval
    assert low <= high <= answer.p
    assert answer.by_law.startswith("By the law alone p = 0.") and answer.by_law in repr(answer)
    assert answer.by_law in answer._repr_html_()
    assert answer.lead[0].startswith("Inject p = ") and answer.lead[0] in repr(answer)
    assert [rise[0] for rise in answer.rises] == list(FRACTIONS)
    assert "14 runs made, 0 under way, 13 left" in repr(study)
    html = study._repr_html_()
    assert "14 runs made" in html and html.count("<tr>") == 1 + 14
    assert f"<strong>{answer.lead[0][:20]}" in answer._repr_html_()
    assert answer._repr_html_().count("<tr>") == 1 + len(FRACTIONS)
    # Another process, or the command, opens the same file.
    assert Study(tmp_path / "study.json").runs == study.runs
    assert [run.state for run in study.runs].count("done") == 14


def test_optimize_makes_runs_until_the_budget_is_spent(tmp_path):
    study, made = begin(tmp_path / "study.json"), []

    def train(run):
        made.append(run)
        before, after = finetune(run.n_params, run.d_ft_tokens, run.p)
        return {"loss_pt0": before, "loss_pt": after}

    answer = study.optimize(train, runs=10, bootstrap=100)
    assert len(made) == 10 and answer.verdict == study.answer(bootstrap=100).verdict
    spent = sum(run.cost for run in made)
    study.optimize(train, budget=spent / 2, bootstrap=50)
    assert sum(run.cost for run in made[10:]) <= spent / 2
    states = [run.state for run in study.runs]
    assert states.count("done") == len(made) and "asked" not in states
    # It ends where the interval is narrow enough.
    count = len(made)
    study.optimize(train, narrow=1e9, bootstrap=50)
    assert len(made) == count + 1

    def out_of_memory(run):
        raise MemoryError("of the device")

    with pytest.raises(MemoryError):
        study.optimize(out_of_memory)
    assert [run.state for run in study.runs].count("failed") == 1

    def interrupted(run):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        study.optimize(interrupted)
    assert "asked" not in [run.state for run in study.runs]


def test_what_is_no_losses_is_refused_before_it_is_recorded(tmp_path):
    study = begin(tmp_path / "study.json")

    def train(run):
        return {"loss_pt0": 3.5, "loss_pt": 3.75, "accuracy": 0.5}

    said = r"returned accuracy too; study.tell\(\d+, loss_pt0=3.5, loss_pt=3.75\) records this run"
    with pytest.raises(fl.ForgettingLawsError, match=said):
        study.optimize(train)
    with pytest.raises(fl.ForgettingLawsError, match="must return a mapping .* it returned 3.5"):
        study.optimize(lambda run: 3.5)
    assert {run.state for run in study.runs} == {"open"}
    # The losses of a finished run are not lost.
    (run,) = study.ask()
    study.tell(run, loss_pt0=3.5, loss_pt=3.75)
    assert "1 run made" in repr(study)
    with pytest.raises(fl.ForgettingLawsError, match="it was told its losses; release it first"):
        study.fail(run, "out of memory")
    assert study.runs[run.run - 1].loss_pt == 3.75


def test_asking_stops_at_ctrl_c(tmp_path):
    class Alarm(Exception):
        pass

    def ring(*_):
        raise Alarm

    grid = {"amounts": [1e5 * i for i in range(1, 120)], "fractions": [i / 100 for i in range(40)]}
    study = Study.new(
        tmp_path / "study.json", n_params=3.3e8, d_ft_tokens=3e6, models={"small": 4e7, "large": 3e8}, **grid
    )
    before = signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        begun = time.monotonic()
        with pytest.raises(Alarm):
            study.ask(5000)
        assert time.monotonic() - begun < 5
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert "asked" not in {run.state for run in study.runs}


def test_workers_side_by_side_get_different_runs(tmp_path):
    path = tmp_path / "study.json"
    begin(path)

    def work(_):
        mine = []
        while runs := Study(path).ask():
            run = runs[0]
            before, after = finetune(run.n_params, run.d_ft_tokens, run.p)
            Study(path).tell(run, loss_pt0=before, loss_pt=after)
            mine.append(run.run)
        return mine

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        everything = sum(pool.map(work, range(3)), [])
    assert sorted(everything) == list(range(1, 28))
    assert all(run.state == "done" for run in Study(path).runs)


def test_runs_made_elsewhere_failures_and_releases(tmp_path):
    study = begin(tmp_path / "study.json")
    before, after = finetune(1.1e8, 1e6, 0.01)
    made = {"n_params": 1.1e8, "d_ft_tokens": 1e6, "loss_pt0": before, "loss_pt": after}
    assert study.add(p=0.01, **made) == 14
    assert study.add(p=0.02, **made) == 28
    first, second = study.ask(2)
    study.fail(first, "out of memory")
    study.release(second.run)
    assert study.runs[second.run - 1].state == "open"
    left = [run.run for run in study.ask(100)]
    assert len(left) == 25 and second.run in left and first.run not in left
    states = {run.run: run.state for run in study.runs}
    assert (states[14], states[28], states[first.run], states[second.run]) == (
        "done",
        "done",
        "failed",
        "asked",
    )
    pandas = pytest.importorskip("pandas")
    frame = study.to_dataframe()
    assert isinstance(frame, pandas.DataFrame) and len(frame) == 28


def test_what_is_wrong_is_a_sentence(tmp_path):
    path = tmp_path / "study.json"
    with pytest.raises(FileNotFoundError, match="the file of path cannot be used: .*study.json"):
        Study(path)
    study = begin(path)
    with pytest.raises(fl.ForgettingLawsError, match="is there already"):
        begin(path)
    with pytest.raises(fl.ForgettingLawsError, match="amounts and fractions"):
        Study.new(tmp_path / "b", n_params=1e8, d_ft_tokens=1e6, models={"a": 1e8})
    with pytest.raises(fl.ForgettingLawsError, match="bootstrap = .*: must be at most 10000000"):
        study.answer(bootstrap=2**62)
    with pytest.raises(fl.ForgettingLawsError, match="not both"):
        Study.new(
            tmp_path / "b",
            n_params=1e8,
            d_ft_tokens=1e6,
            models={"a": 1e8},
            candidates=[("a", 1e6, 0.0, 1.0)],
            limit=0.1,
            limit_nats=0.1,
        )
    with pytest.raises(fl.ForgettingLawsError, match="1 to 27"):
        study.tell(28, loss_ft=3.0)
    for call in (study.release, lambda run: study.fail(run, "why"), lambda run: study.tell(run)):
        with pytest.raises(fl.ForgettingLawsError, match="run = -1"):
            call(-1)
    with pytest.raises(fl.ForgettingLawsError, match="diverged"):
        study.tell(1, loss_ft=float("nan"))
    path.write_text("{}")
    with pytest.raises(fl.ForgettingLawsError, match="is not a study"):
        study.ask()


@pytest.mark.parametrize("module", [fl, _curve, _fit, _mixture, _schedule])
def test_examples_in_the_documentation(module):
    assert doctest.testmod(module).failed == 0
