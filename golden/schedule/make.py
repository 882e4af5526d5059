"""Writes schedule.json: learning rates by plain `math`, apart from the library.

The curve is written from the paper's words (linear warmup during a share of the iterations, then
a cosine to the end, down to a share of the maximum), as a piecewise function of exact fractions.

    python3 golden/schedule/make.py
"""

import json
import math
import pathlib
from fractions import Fraction


def rate(peak, total, warmup, terminal, step):
    """The rate of optimiser step `step`, counted from 0."""
    done = Fraction(min(step + 1, total), total)
    w = Fraction(str(warmup))
    if done <= w:
        return peak * float(done / w)
    angle = math.pi * float((done - w) / (1 - w))
    floor = peak * terminal
    return floor + 0.5 * (peak - floor) * (1.0 + math.cos(angle))


def places(total):
    near = [0, 1, 2, 3, 4, 5, 6, total // 200, total // 3, total // 2, total * 9 // 10]
    near += [total * 902 // 1000, total - 2, total - 1, total, 2 * total]
    return sorted({step for step in near if step >= 0})


CASES = [
    (1e-3, 1, 0.005, 0.01),
    (1e-3, 2, 0.005, 0.01),
    (3e-3, 200, 0.005, 0.01),
    (3e-3, 1000, 0.005, 0.01),
    (1e-3, 62_562, 0.005, 0.01),
    (5e-4, 970_000, 0.005, 0.01),
    (2e-3, 37, 0.1, 0.0),
    (2e-3, 40, 0.0, 0.1),
    (1.0, 8, 1.0, 0.5),
    (1.0, 12, 0.25, 1.0),
]

out = []
for peak, total, warmup, terminal in CASES:
    rates = [[step, rate(peak, total, warmup, terminal, step)] for step in places(total)]
    schedule = {"peak": peak, "total_steps": total, "warmup": warmup, "terminal": terminal}
    out.append({"schedule": schedule, "rates": rates})

path = pathlib.Path(__file__).with_name("schedule.json")
path.write_text("[\n" + ",\n".join(json.dumps(case) for case in out) + "\n]\n")
