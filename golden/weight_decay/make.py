"""Exact trajectories of Adam with weight decay, computed by PyTorch and by Optax themselves.

    pip install torch==2.11.0 'jax[cpu]==0.10.2' optax==0.2.8
    python golden/weight_decay/make.py

writes trajectories.json beside this file. Every trajectory follows the same parameters, gradients
and learning rates (all in the file, float64) through one library's own optimiser; the file has
the parameters and both moments after each step. The tests read the file and need neither library.
"""

import json
import math
import pathlib
import platform
import re

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp
import numpy as np
import optax
import torch

STEPS = 12
THETA = [1.5, -0.75, 0.02, 3.0, -0.4, 0.0, 0.9]


def gradient(t, i):
    """The gradient of parameter i at step t, on scales that tell implementations apart."""
    wave = math.sin(0.7 * t + 1.3 * i + 0.2)
    if i == 1:  # never a gradient: what moves is the decay alone
        return 0.0
    if i == 2:  # as small as epsilon: where epsilon stands in the denominator shows
        return 1e-8 * (1.5 + wave)
    if i == 3:  # rare and large
        return 40.0 * wave if t % 4 == 0 else 0.0
    if i == 4:  # one direction
        return 0.3 + 0.1 * wave
    return wave


def multipliers():
    """Three steps of warmup, then a cosine to 1/100."""
    decay = [0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * k / 9)) for k in range(1, STEPS - 2)]
    return [1 / 3, 2 / 3, 1.0] + decay


GRADS = [[gradient(t, i) for i in range(len(THETA))] for t in range(1, STEPS + 1)]
ETA = multipliers()

CONFIGS = [
    {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.1, "peak": 0.01},
    {"beta1": 0.8, "beta2": 0.95, "eps": 1e-3, "weight_decay": 0.3, "peak": 0.2},
]


def run_torch(make, rates):
    theta = torch.nn.Parameter(torch.tensor(THETA, dtype=torch.float64))
    optimizer = make([theta])
    out = []
    for grad, lr in zip(GRADS, rates):
        optimizer.param_groups[0]["lr"] = lr
        theta.grad = torch.tensor(grad, dtype=torch.float64)
        optimizer.step()
        state = optimizer.state[theta]
        row = theta, state["exp_avg"], state["exp_avg_sq"]
        out.append({k: x.detach().tolist() for k, x in zip(("theta", "m", "v"), row)})
    return out


def run_optax(transform):
    theta = jnp.array(THETA, dtype=jnp.float64)
    state = transform.init(theta)
    out = []
    for grad in GRADS:
        updates, state = transform.update(jnp.array(grad, dtype=jnp.float64), state, theta)
        theta = optax.apply_updates(theta, updates)
        mu, nu = optax.tree.get(state, "mu"), optax.tree.get(state, "nu")
        out.append({"theta": theta.tolist(), "m": mu.tolist(), "v": nu.tolist()})
    return out


def trajectories(c):
    betas, eps, decay, peak = (c["beta1"], c["beta2"]), c["eps"], c["weight_decay"], c["peak"]
    lrs = [peak * eta for eta in ETA]
    adam = dict(b1=betas[0], b2=betas[1], eps=eps)
    rates, etas = jnp.array(lrs), jnp.array(ETA)

    def of_torch(semantics, what, kind, weight_decay, **options):
        make = lambda params: kind(
            params, lr=peak, betas=betas, eps=eps, weight_decay=weight_decay, **options
        )
        return {"semantics": semantics, "computed_by": what, "steps": run_torch(make, lrs)}

    def of_optax(semantics, what, transform):
        return {"semantics": semantics, "computed_by": what, "steps": run_optax(transform)}

    schedule = lambda count: rates[count]
    adam_torch, adamw_torch = torch.optim.Adam, torch.optim.AdamW
    return [
        of_torch("l2", "torch.optim.Adam(weight_decay=λ)", adam_torch, decay, foreach=False),
        of_optax(
            "l2",
            "optax.chain(add_decayed_weights(λ), adam(schedule))",
            optax.chain(optax.add_decayed_weights(decay), optax.adam(schedule, **adam)),
        ),
        of_torch("times-lr", "torch.optim.AdamW(weight_decay=λ)", adamw_torch, decay, foreach=False),
        of_torch("times-lr", "torch.optim.AdamW(weight_decay=λ, fused=True)", adamw_torch, decay, fused=True),
        of_optax(
            "times-lr",
            "optax.adamw(schedule, weight_decay=λ)",
            optax.adamw(schedule, weight_decay=decay, **adam),
        ),
        of_torch(
            "fully-decoupled",
            "torch.optim.AdamW(weight_decay=λ/peak)",
            adamw_torch,
            decay / peak,
            foreach=False,
        ),
        of_optax(
            "fully-decoupled",
            "optax.chain(adam(schedule), add_decayed_weights(-λ·η_t))",
            # After `adam` the updates are what is added to the parameters.
            optax.chain(
                optax.adam(schedule, **adam),
                optax.add_decayed_weights(lambda count: -decay * etas[count]),
            ),
        ),
    ]


def clips():
    """Gradients in two tensors, clipped by PyTorch to one global norm."""
    out = []
    for scale, max_norm in [(1.0, 5.0), (10.0, 5.0), (10.0, 0.5), (1e-9, 1e-9), (0.0, 1.0)]:
        parts = [[scale * math.sin(1.1 * i + 0.3) for i in range(5)], [scale * (i - 1.5) for i in range(4)]]
        params = [torch.nn.Parameter(torch.zeros(len(p), dtype=torch.float64)) for p in parts]
        for param, part in zip(params, parts):
            param.grad = torch.tensor(part, dtype=torch.float64)
        norm = torch.nn.utils.clip_grad_norm_(params, max_norm)
        out.append(
            {
                "grad": sum(parts, []),
                "max_norm": max_norm,
                "norm": norm.item(),
                "clipped": sum((p.grad.tolist() for p in params), []),
            }
        )
    return out


def main():
    torch.set_num_threads(1)
    versions = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "jax": jax.__version__,
        "optax": optax.__version__,
        "numpy": np.__version__,
    }
    data = {
        "made_by": "golden/weight_decay/make.py",
        "versions": versions,
        "theta": THETA,
        "multipliers": ETA,
        "grads": GRADS,
        "cases": [{**c, "trajectories": trajectories(c)} for c in CONFIGS],
        "clip": clips(),
    }
    path = pathlib.Path(__file__).with_name("trajectories.json")
    text = json.dumps(data, ensure_ascii=False, indent=1)
    one_line = lambda match: re.sub(r"\s+", " ", match[0])
    text = re.sub(r"\[[^][{}]*\]", one_line, text)  # a list of numbers is one line
    path.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
