"""What calls from Python cost, in seconds of CPU time of all threads; medians of several.

    python python/benches/measure.py

needs the package, and PyTorch, pandas, polars and pyarrow for the lines that name them.
"""

import importlib.util
import statistics
import time

import forgetting_laws as fl
import numpy as np
from forgetting_laws import _native, _table
from forgetting_laws._fit import Options


def seconds(call, times):
    taken = []
    for _ in range(times):
        begun = time.process_time()
        call()
        taken.append(time.process_time() - begun)
    return statistics.median(taken)


def planted(rows):
    """Losses of Equation 7 with noise, all settings different."""
    i = np.arange(rows)
    n_params = 4e7 * 1.5 ** (i % 5) * (1 + 1e-9 * i)
    d_ft_tokens = 3e5 * 3.0 ** (i // 5 % 5)
    p = np.array([0.0, 0.001, 0.005, 0.01, 0.05])[i // 25 % 5]
    loss_pt0 = 2 + 20 * n_params**-0.15
    rise = 6 * d_ft_tokens**0.35 / ((1 + 829 * p) * n_params) ** 0.4
    loss_pt = (loss_pt0 + rise) * (1 + 0.004 * np.sin(2.4 * i))
    columns = (n_params, d_ft_tokens, p, loss_pt0, loss_pt)
    return dict(zip(("n_params", "d_ft_tokens", "p", "loss_pt0", "loss_pt"), columns))


OPTIONS = Options(
    bootstrap=0, level=0.9, seed=0, hold_out=None, space="log", penalty="huber", delta=None, misfit=True,
    model_spread=None, threads=1,
)


def fits():
    options = {"bootstrap": 0, "hold_out": None, "threads": 1}
    for kind, table in (
        ("arrays", planted(500)),
        ("lists", {name: values.tolist() for name, values in planted(500).items()}),
    ):
        given = _table.given(table)
        native = _native.fit_law(given, "forgetting", OPTIONS, False, False, None)
        whole = seconds(lambda: fl.fit(table, **options), 21)
        # Its parts, since their difference to the whole would be within the noise: the columns, the
        # library's table, and what Python asks of the fit.
        parts = (lambda: _table.given(table), lambda: read(given), lambda: fl.Fit(native))
        above = sum(seconds(part, 101) for part in parts)
        print(f"fit of 500 rows, {kind}: {1e3 * whole:.2f} ms, of which {1e3 * above:.2f} ms Python")


def read(given):
    """Has the library make its table: a law whose columns it lacks is refused after that."""
    try:
        _native.fit_law(given, "additive", OPTIONS, False, False, None)
    except fl.ForgettingLawsError:
        pass


def frames():
    table = planted(1_000_000)
    kinds = {"NumPy": lambda: table}
    for name, make in (
        ("pandas", lambda module: module.DataFrame(table)),
        ("polars", lambda module: module.DataFrame(table)),
        ("pyarrow", lambda module: module.table(table)),
    ):
        if importlib.util.find_spec(name):
            frame = make(importlib.import_module(name))
            kinds[name] = lambda frame=frame: frame
    kinds["lists"] = lambda: {name: values.tolist() for name, values in table.items()}
    for name, make in kinds.items():
        frame = make()
        print(f"five columns of a million rows, {name}: {seconds(lambda: _table.given(frame), 5):.3f} s")
    given = _table.given(table)
    print(f"  and into the library's table: {seconds(lambda: read(given), 3):.3f} s")


def samplers():
    count, batch = 1_000_000, 32
    steps = count // batch
    settings = {"steps": steps, "batch": batch, "target_sequences": 50_000}
    for kind in ("exact", "independent"):
        mixture = fl.Mixture(0.01, sampler=kind, pretraining_sequences=20_000, **settings)
        taken = seconds(lambda: sum(1 for _ in fl.InjectionSampler(mixture)), 5)
        print(f"InjectionSampler, {kind}: {steps * batch / taken / 1e6:.2f} million indices/s")
        taken = seconds(lambda: mixture.indices(0, count), 5)
        print(f"Mixture.indices, {kind}: {count / taken / 1e6:.2f} million indices/s")
    if importlib.util.find_spec("torch"):
        from torch.utils.data import BatchSampler, WeightedRandomSampler

        weights = [0.99 / 50_000] * 50_000 + [0.01 / 20_000] * 20_000
        torchs = BatchSampler(WeightedRandomSampler(weights, steps * batch), batch, drop_last=True)
        taken = seconds(lambda: sum(1 for _ in torchs), 5)
        print(f"torch's WeightedRandomSampler: {steps * batch / taken / 1e6:.2f} million indices/s")


if __name__ == "__main__":
    fits()
    frames()
    samplers()
