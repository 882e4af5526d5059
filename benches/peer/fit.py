"""The forgetting law fitted as the field does: L-BFGS-B from a grid of starts, analytic gradient.

Reads the table that `cargo bench -p benches --profile dev --bench fit` writes to FIT_TABLE, and
prints for growing grids how long a fit takes and which objective the best start reached, relative
to the one that the library reached.

    pip install numpy scipy
    FIT_TABLE=table.csv cargo bench -p benches --profile dev --bench fit
    python benches/peer/fit.py table.csv
"""

import itertools
import sys
import time

import numpy as np
from scipy.optimize import minimize

DELTA = 1e-3


def load(path):
    with open(path) as file:
        reached = float(file.readline().removeprefix("# "))
        columns = np.loadtxt(file, delimiter=",", skiprows=1).T
    return reached, columns


def objective(theta, ln_n, ln_d, p, base, ln_loss):
    """The sum of Huber penalties of the log residuals, and its gradient, for
    theta = (ln A, ln B, alpha, beta)."""
    ln_a, ln_b, alpha, beta = theta
    b = np.exp(ln_b)
    ln_size = ln_n + np.log1p(b * p)
    rise = np.exp(ln_a + beta * ln_d - alpha * ln_size)
    loss = base + rise
    r = np.log(loss) - ln_loss
    size = np.abs(r)
    value = np.where(size <= DELTA, 0.5 * r * r, DELTA * (size - 0.5 * DELTA)).sum()
    slope = np.clip(r, -DELTA, DELTA) * rise / loss
    by_b = -alpha * b * p / (1.0 + b * p)
    return value, np.array([slope.sum(), slope @ by_b, -(slope @ ln_size), slope @ ln_d])


def fit(rows, grid):
    n, d, p, base, loss = rows
    data = (np.log(n), np.log(d), p, base, np.log(loss))
    best = np.inf
    for start in grid:
        # Tolerances that let it go to the end; the defaults stop far short.
        found = minimize(
            objective, start, args=data, jac=True, method="L-BFGS-B",
            bounds=[(None, None), (None, None), (0, None), (0, None)],
            options={"maxiter": 2000, "maxfun": 4000, "ftol": 1e-15, "gtol": 1e-12},
        )
        best = min(best, found.fun)
    return best


def main():
    reached, rows = load(sys.argv[1])
    print("starts,seconds,objective,excess over the library's")
    for side in (2, 3, 4, 5, 6):
        axes = ((-10, 10), (0, 10), (0.1, 1.5), (0.1, 1.5))
        grid = list(itertools.product(*(np.linspace(low, high, side) for low, high in axes)))
        begun = time.perf_counter()
        best = fit(rows, grid)
        seconds = time.perf_counter() - begun
        print(f"{len(grid)},{seconds:.3f},{best:.16g},{best / reached - 1:.2e}")


if __name__ == "__main__":
    np.seterr(over="ignore", invalid="ignore")
    main()
