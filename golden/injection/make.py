"""Writes injection.json: the exact sequences of the samplers, shuffles and mixtures.

A second implementation in plain Python integers, apart from the library: SplitMix64's finaliser
as published, keys, both samplers by running counts instead of stored ones, exact fractions instead
of fixed point, and each epoch's permutation as a whole table with the walk over it.

    python3 golden/injection/make.py
"""

import json
import math
import pathlib
from fractions import Fraction

WORD = (1 << 64) - 1
GAMMA = 0x9E3779B97F4A7C15


def mix(z):
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & WORD
    return z ^ (z >> 31)


class Key:
    def __init__(self, state):
        self.state = state

    @staticmethod
    def of_seed(seed):
        return Key(mix((seed + GAMMA) & WORD))

    def word(self, i):
        return mix((self.state + (i + 1) * GAMMA) & WORD)

    def child(self, i):
        turned = ((GAMMA << 32) | (GAMMA >> 32)) & WORD
        return Key(mix(self.word(i) ^ turned))

    def named(self, purpose):
        key = self
        for byte in purpose.encode():
            key = key.child(byte + 1)
        return key

    def below(self, i, n):
        return self.word(i) * n >> 64


def injected(kind, p, key, n):
    """For each of the first n positions, whether it is injected."""
    p = Fraction(p)
    if kind == "independent":
        return [Fraction(key.word(i), 1 << 64) < p for i in range(n)]
    phase = Fraction(key.word(0), 1 << 64)
    counts = [math.floor(p * i + phase) for i in range(n + 1)]
    return [after > before for before, after in zip(counts, counts[1:])]


def epoch(key, number, length):
    """The order of one epoch: a permutation of the grid, from which the cells outside are cut."""
    rows = math.isqrt(length - 1) + 1
    columns = -(-length // rows)
    key = key.child(number)
    table = []
    for cell in range(rows * columns):
        row, column = divmod(cell, columns)
        for pair in range(8):
            row = (row + key.below(2 * pair * 2**40 + column, rows)) % rows
            column = (column + key.below((2 * pair + 1) * 2**40 + row, columns)) % columns
        table.append(row * columns + column)
    assert sorted(table) == list(range(rows * columns))
    order = []
    for start in range(length):
        cell = table[start]
        while cell >= length:
            cell = table[cell]
        order.append(cell)
    return order


def shuffled(key, length, n):
    order = []
    while len(order) < n:
        order += epoch(key, len(order) // length, length)
    return order[:n]


def sampler_case(kind, p, seed, n):
    flags = injected(kind, p, Key.of_seed(seed), n)
    where = [i for i, flag in enumerate(flags) if flag]
    return {"kind": kind, "p": p, "seed": seed, "positions": n, "injected": where}


def shuffle_case(seed, length, n):
    order = shuffled(Key.of_seed(seed), length, n)
    return {"seed": seed, "len": length, "order": order}


def mixture_case(kind, p, seed, steps, batch, target, reserved, replay, key=Key.of_seed):
    key = key(seed)
    n = steps * batch
    flags = injected(kind, p, key.named("sampler"), n)
    of_target = iter(shuffled(key.named("target"), target, n))
    of_pool = iter(range(n) if replay is None else shuffled(key.named("replay"), replay, n))
    draws = [["pretrain", next(of_pool)] if flag else ["target", next(of_target)] for flag in flags]
    spec = {"sampler": kind, "p": p, "steps": steps, "global_batch": batch}
    spec |= {"target_sequences": target, "reserved_sequences": reserved}
    spec |= {"replay_sequences": replay, "sequence_tokens": 64}
    return {"seed": seed, "spec": spec, "draws": draws}


KINDS = ["independent", "exact"]
samplers = [
    sampler_case(kind, p, seed, n)
    for kind in KINDS
    for p, seed, n in [(0.0, 1, 300), (0.001, 2, 8000), (0.01, 0, 2000), (0.05, 3, 700)]
    + [(1 / 3, 4, 300), (0.999, 5, 300), (1.0, 6, 20), (1e-5, 7, 200_000)]
]
shuffles = [shuffle_case(seed, n, 3 * n) for seed, n in enumerate([1, 2, 3, 4, 5, 6, 7, 16, 17, 99])]
mixtures = [
    mixture_case(kind, p, seed, 25, 8, 30, 200, replay)
    for seed, (kind, p, replay) in enumerate(
        (kind, p, replay) for kind in KINDS for p in [0.0, 0.05, 0.5] for replay in [None, 7]
    )
]
# Of a whole run, as the engines and the Python package take it.
finetunings = [
    mixture_case(
        kind, p, seed, 40, 8, 30, 200, replay, lambda seed: Key.of_seed(seed).named("finetuning")
    )
    for kind, p, seed, replay in [
        ("independent", 0.05, 0, None), ("exact", 0.01, 5, None), ("exact", 0.5, 9, 7)
    ]
]

parts = {"samplers": samplers, "shuffles": shuffles, "mixtures": mixtures}
parts |= {"finetunings": finetunings}
text = ",\n".join(
    json.dumps(name) + ": [\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]"
    for name, cases in parts.items()
)
pathlib.Path(__file__).with_name("injection.json").write_text("{\n" + text + "\n}\n")
