import csv
import importlib.util
import json
import math
import pathlib
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import forgetting_laws as fl
import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[2]


def test_pretraining_warms_up_and_ends_at_a_hundredth():
    schedule = fl.PretrainingSchedule(2.0, 1000)
    assert schedule.lr(0) == pytest.approx(0.4) and schedule.lr(4) == pytest.approx(2.0)
    middle = 2.0 * (0.01 + 0.99 * (1 + math.cos(math.pi / 995)) / 2)
    assert schedule.lr(5) == pytest.approx(middle, rel=1e-14)
    assert schedule.lr(999) == pytest.approx(0.02) and schedule(10**9) == pytest.approx(0.01)
    rates = schedule.lr(np.arange(6).reshape(2, 3))
    assert rates.shape == (2, 3) and rates[1, 2] == schedule.lr(5) == 2.0 * schedule(5)
    # "Was reached at about 90% of the pretraining stage".
    assert schedule.crossing(1 / 30) == pytest.approx(0.902, abs=5e-4)
    assert schedule.crossing(0.001) is None
    assert pickle.loads(pickle.dumps(schedule)) == schedule


def test_finetuning_is_a_thirtieth_of_the_peak():
    schedule = fl.FinetuningSchedule(3e-3)
    assert schedule.lr(0) == schedule.lr(10**6) == pytest.approx(1e-4)
    warm = fl.FinetuningSchedule(3.0, ratio=0.5, warmup_steps=2)
    assert warm([0, 1, 2]).tolist() == [0.25, 0.5, 0.5]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: fl.PretrainingSchedule(0.0, 10), "peak = 0"),
        (lambda: fl.PretrainingSchedule(1.0, 0), "total_steps = 0"),
        (lambda: fl.PretrainingSchedule(1.0, -1), "total_steps = -1"),
        (lambda: fl.FinetuningSchedule(1.0, warmup_steps=-1), "warmup_steps = -1"),
        (lambda: fl.UCurve(3.0, min_steps=-1), "min_steps = -1"),
        (lambda: fl.evaluation_steps(-1), "steps = -1"),
        (lambda: fl.PretrainingSchedule(1.0, 10, warmup=2.0), "between 0 and 1"),
        (lambda: fl.FinetuningSchedule(1.0, ratio=-1.0), "ratio = -1"),
        (lambda: fl.FinetuningSchedule(1.0).lr(-1), "step = -1"),
        (lambda: fl.FinetuningSchedule(1.0)(0.5), "step = 0.5"),
    ],
)
def test_a_schedule_that_is_none_is_refused(make, said):
    with pytest.raises(fl.ForgettingLawsError, match=said):
        make()


def test_weight_decay_says_which_lambda_means_the_same():
    assert fl.weight_decay(0.1, optimizer="torch.optim.AdamW") == 0.1
    decoupled = {"semantics": "fully-decoupled", "peak": 1e-3}
    assert fl.weight_decay(1e-4, optimizer="optax.adamw", **decoupled) == pytest.approx(0.1)
    assert fl.weight_decay(0.1, optimizer="torch.optim.Adam", semantics="l2") == 0.1
    for wrong, said in (
        ({"optimizer": "torch.optim.Adam"}, "has no equivalent"),
        ({"optimizer": "torch.optim.AdamW", "semantics": "l2", "peak": 1.0}, "has no equivalent"),
        ({"optimizer": "optax.adamw", "semantics": "fully-decoupled"}, "peak is missing: give the peak"),
        ({"optimizer": "lion"}, "must be one of torch.optim.AdamW"),
        ({"optimizer": "torch.optim.AdamW", "semantics": "half"}, "must be l2, times-lr"),
    ):
        with pytest.raises(fl.ForgettingLawsError, match=said):
            fl.weight_decay(0.1, **wrong)


def golden():
    """golden/weight_decay/make.py has what it is: runs of PyTorch's and Optax's own optimisers."""
    return json.loads((ROOT / "golden/weight_decay/trajectories.json").read_text())


@pytest.mark.parametrize("semantics", ["times-lr", "fully-decoupled", "l2"])
def test_optimisers_of_torch_decay_as_was_stated(semantics):
    """Every library's trajectory of a meaning of λ is that of torch with the λ of the helper."""
    torch = pytest.importorskip("torch")
    name = "Adam" if semantics == "l2" else "AdamW"
    data = golden()
    for case in data["cases"]:
        peak = case["peak"]
        value = fl.weight_decay(
            case["weight_decay"], optimizer=f"torch.optim.{name}", semantics=semantics, peak=peak
        )
        theta = torch.nn.Parameter(torch.tensor(data["theta"], dtype=torch.float64))
        betas = (case["beta1"], case["beta2"])
        make = getattr(torch.optim, name)
        optimizer = make([theta], lr=peak, betas=betas, eps=case["eps"], weight_decay=value)
        multipliers = data["multipliers"]
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: (multipliers + [0.0])[step])
        steps = []
        for gradient in data["grads"]:
            theta.grad = torch.tensor(gradient, dtype=torch.float64)
            optimizer.step()
            scheduler.step()
            steps.append(theta.detach().tolist())
        same = [t for t in case["trajectories"] if t["semantics"] == semantics]
        assert len(same) >= 2
        for trajectory in same:
            for ours, theirs in zip(steps, trajectory["steps"]):
                assert ours == pytest.approx(theirs["theta"], rel=1e-9, abs=1e-12)


def test_sgd_of_torch_decays_by_the_rate_times_lambda():
    torch = pytest.importorskip("torch")
    value = fl.weight_decay(0.3, optimizer="torch.optim.SGD")
    theta = torch.nn.Parameter(torch.tensor([2.0], dtype=torch.float64))
    optimizer = torch.optim.SGD([theta], lr=0.1, weight_decay=value)
    theta.grad = torch.tensor([0.5], dtype=torch.float64)
    optimizer.step()
    assert theta.item() == pytest.approx(2.0 - 0.1 * 0.3 * 2.0 - 0.1 * 0.5)


OPTAX = """
import jax, optax
import forgetting_laws as fl
import numpy as np

jax.config.update("jax_enable_x64", True)
theta, nothing = jax.numpy.array([2.0]), jax.numpy.array([0.0])
peak = 1e-2
schedule = fl.PretrainingSchedule(peak, 10)
value = fl.weight_decay(1e-3, semantics="fully-decoupled", optimizer="optax.adamw", peak=peak)
rates = jax.numpy.array(schedule.lr(np.arange(10)))
optimizer = optax.adamw(lambda count: rates[count], weight_decay=value)
state = optimizer.init(theta)
expected = 2.0
for step in range(10):
    updates, state = optimizer.update(nothing, state, theta)
    theta = optax.apply_updates(theta, updates)
    expected *= 1 - schedule(step) * 1e-3
    print(float(theta[0]), expected)
"""


def test_optax_decays_as_was_stated():
    """In a process of its own: once JAX has run, the workers of a DataLoader cannot be forked safely."""
    for name in ("jax", "optax"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    told = subprocess.run([sys.executable, "-c", OPTAX], check=True, stdout=subprocess.PIPE, timeout=300)
    steps = [[float(number) for number in line.split()] for line in told.stdout.splitlines()]
    assert len(steps) == 10 and steps[-1][1] < 2.0
    for theta, expected in steps:
        assert theta == pytest.approx(expected, rel=1e-12)


def test_a_schedule_is_a_factor_of_torch():
    torch = pytest.importorskip("torch")
    for schedule in (fl.PretrainingSchedule(3e-3, 20), fl.FinetuningSchedule(3e-3, warmup_steps=5)):
        theta = torch.nn.Parameter(torch.zeros(1))
        optimizer = torch.optim.SGD([theta], lr=schedule.peak)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule)
        for step in range(20):
            assert optimizer.param_groups[0]["lr"] == pytest.approx(schedule.lr(step), rel=1e-15)
            if step == 10:
                # A checkpoint has plain numbers alone.
                kept = pickle.loads(pickle.dumps(scheduler.state_dict()))
                scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule)
                scheduler.load_state_dict(kept)
            optimizer.step()
            scheduler.step()


def test_a_u_curve_finds_its_bottom():
    curve = fl.UCurve(3.0, rise=0.5, factor=3.0, min_steps=20)
    assert curve.bottom is None and not curve.turned
    with pytest.raises(fl.ForgettingLawsError, match="no finite losses"):
        _ = curve.losses
    turned = []
    for step, loss_ft, loss_pt in [(0, 4.0, 3.1), (10, 3.0, 3.2), (20, 3.5, 3.3), (30, 3.6, 3.4)]:
        curve.add(step, loss_ft, loss_pt)
        turned.append(curve.turned)
    assert turned == [False, False, False, True]
    assert curve.bottom == fl.Bottom(10, 3.0, 3.2, True) and curve.stable
    assert curve.losses == {"loss_pt0": 3.0, "loss_pt": 3.2, "loss_ft": 3.0}
    row = curve.row(n_params=1e6, d_ft_tokens=1e5, p=0.01)
    assert row["interior"] is True and row["step"] == 10 and row["p"] == 0.01
    with pytest.raises(fl.ForgettingLawsError, match="must come after step 30"):
        curve.add(30, 3.0, 3.0)
    assert len(curve.evaluations) == 4
    curve.add(40, math.nan, 3.0)
    assert curve.turned and not curve.stable and curve.bottom.step == 10
    with pytest.raises(fl.ForgettingLawsError, match="rise = 0"):
        fl.UCurve(3.0, rise=0.0)
    assert fl.evaluation_steps(20, min_interval=10) == [0, 10, 20]


def test_rows_are_a_table_that_fit_reads(tmp_path):
    path = tmp_path / "runs.csv"

    def run(settings):
        i, (n_params, loss_pt0, d_ft_tokens, p) = settings
        rise = 6 * d_ft_tokens**0.35 / ((1 + 829 * p) * n_params) ** 0.4 * (1 + 0.002 * math.sin(i))
        curve = fl.UCurve(loss_pt0)
        for step, loss_ft in ((0, 5.0), (100, 3.0), (200, 3.5)):
            curve.add(step, loss_ft, loss_pt0 + rise * step / 100)
        fl.add_row(path, curve.row(run=f"run, {i}", n_params=n_params, d_ft_tokens=d_ft_tokens, p=p))

    settings = [
        (n, loss, d, p)
        for n, loss in ((4e7, 3.3), (1e8, 3.0), (3e8, 2.7))
        for d in (3e5, 3e6, 3e7)
        for p in (0.0, 0.01, 0.05)
    ]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(run, enumerate(settings)))
    run((3, settings[3]))  # once more: it takes its own place
    with open(path, newline="") as file:
        assert len(list(csv.DictReader(file))) == 27
    fit = fl.fit(path, bootstrap=0)
    assert fit.n_runs == 27 and fit.params["alpha"] == pytest.approx(0.4, rel=0.05)
    # A column that is new is empty in the rows before.
    fl.add_row(path, {"run": "other", "seed": 7})
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["seed"] == "" and rows[-1]["seed"] == "7" and rows[-1]["p"] == ""


def test_a_curve_shows_itself():
    curve = fl.UCurve(3.0)
    assert repr(curve) == "UCurve: L_pt0 = 3, 0 evaluations; bottom: none"
    curve.add(0, 4.0, 3.0)
    assert repr(curve) == "UCurve: L_pt0 = 3, 1 evaluation; bottom: step 0, L_ft = 4"


def test_a_file_that_a_row_cannot_be_added_to_stays_as_it_is(tmp_path):
    path = tmp_path / "runs.csv"
    for content, said in (
        ("run;p;loss_pt\na;0,1;3,5\n", "separated by ;"),
        ("run\tp\na\t0.1\n", "separated by tabs"),
        ("# of May\nrun,p\na,0.1\n", "do not stand in its first line"),
        ("run,p\na,0.1,7\n", "line 2: has 3 cells, and the header has 2"),
        ("run,p,p\na,0.1,7\n", "several columns are named p"),
        ('run,p\n"a,0.1\n', "is not a CSV file"),
        ("run,p\n\udcff,0.1\n", "is not UTF-8"),
    ):
        path.write_text(content, errors="surrogateescape")
        before = path.read_bytes()
        with pytest.raises(fl.ForgettingLawsError, match=said):
            fl.add_row(path, {"run": "b", "p": 0.2})
        assert path.read_bytes() == before
    with pytest.raises(fl.ForgettingLawsError, match="must end in .csv"):
        fl.add_row(tmp_path / "runs.jsonl", {"run": "b"})
    assert [file.name for file in tmp_path.iterdir()] == ["runs.csv"]


def test_a_byte_order_mark_stays_and_a_name_is_found_behind_it(tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text("\ufeffrun,p\na,0.1\nb\n", encoding="utf-8")
    path.chmod(0o640)
    fl.add_row(path, {"run": "a", "p": 0.2})
    assert path.read_text(encoding="utf-8") == "\ufeffrun,p\nb,\na,0.2\n"
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_process_that_is_killed_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "runs.csv"
    fl.add_row(path, {"run": "a", "p": 0.1})
    before = path.read_text()

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        fl.add_row(path, {"run": "b", "p": 0.2})
    assert path.read_text() == before and len(list(tmp_path.iterdir())) == 1
    monkeypatch.undo()
    # A link stays one.
    link = tmp_path / "link.csv"
    link.symlink_to(path)
    fl.add_row(link, {"run": "b", "p": 0.2})
    assert link.is_symlink() and path.read_text() == before + "b,0.2\n"
