"""Logits, loss and gradients of a very small GPT-2-style model, computed by PyTorch's modules.

    pip install torch==2.11.0
    python golden/model/make.py

writes bias_false.json, bias_true.json and rotary.json beside this file, for a model that is written
apart from the one in `src`: separate modules, attention from its formula. Before anything is written,
the numbers are checked against torch's own fused attention and against finite differences.

In each file: `config`; `weights`, `gradients` (a flat row-major list for every tensor, by name);
`tokens`, `targets` (batch × context); `logits` (batch × context × vocab); `loss`, the mean
cross-entropy in nats. All are float64. `float32_deviation` is how far the same modules are from
these numbers in float32: the largest absolute difference.

Element k of the s-th tensor (both from 0, names sorted by their bytes) is

    w = 0.3·sin(1.7·k + 0.9·s + 0.1),    or 1 + 0.1·w in the weight of a normalisation.
"""

import json
import math
import pathlib
import platform
import re

import torch
from torch import nn
from torch.nn import functional

CONFIG = {"n_layers": 2, "d_model": 8, "n_heads": 2, "vocab": 11, "context": 8}
BATCH = 2
LN_EPS = 1e-5


def rotate(x):
    """Rotary positions (Su et al., 2021): elements i and i + w/2 are a complex number, turned."""
    time, width = x.shape[-2:]
    place = torch.arange(time, dtype=torch.float64)[:, None]
    angle = place * 10_000 ** (-2 * torch.arange(width // 2, dtype=torch.float64) / width)
    real, imaginary = x.double().split(width // 2, dim=-1)
    turned = torch.complex(real, imaginary) * torch.polar(torch.ones_like(angle), angle)
    return torch.cat([turned.real, turned.imag], dim=-1).to(x.dtype)


class Attention(nn.Module):
    def __init__(self, d, n_heads, bias, rotary):
        super().__init__()
        self.n_heads = n_heads
        self.fused = False
        self.rotary = rotary
        self.qkv = nn.Linear(d, 3 * d, bias=bias)
        self.proj = nn.Linear(d, d, bias=bias)

    def forward(self, x):
        batch, time, d = x.shape
        heads = lambda y: y.view(batch, time, self.n_heads, d // self.n_heads).transpose(1, 2)
        q, k, v = map(heads, self.qkv(x).split(d, dim=-1))
        if self.rotary:
            q, k = rotate(q), rotate(k)
        if self.fused:
            y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            scores = q @ k.transpose(-2, -1) / math.sqrt(d // self.n_heads)
            future = torch.triu(torch.ones(time, time, dtype=torch.bool), diagonal=1)
            y = scores.masked_fill(future, -math.inf).softmax(dim=-1) @ v
        return self.proj(y.transpose(1, 2).reshape(batch, time, d))


class Mlp(nn.Module):
    def __init__(self, d, bias):
        super().__init__()
        self.fc = nn.Linear(d, 4 * d, bias=bias)
        self.proj = nn.Linear(4 * d, d, bias=bias)
        self.gelu = nn.GELU(approximate="tanh")

    def forward(self, x):
        return self.proj(self.gelu(self.fc(x)))


class Block(nn.Module):
    def __init__(self, d, n_heads, bias, rotary):
        super().__init__()
        self.ln_1 = nn.LayerNorm(d, eps=LN_EPS, bias=bias)
        self.attn = Attention(d, n_heads, bias, rotary)
        self.ln_2 = nn.LayerNorm(d, eps=LN_EPS, bias=bias)
        self.mlp = Mlp(d, bias)

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class Gpt(nn.Module):
    def __init__(self, n_layers, d_model, n_heads, vocab, context, bias, rotary):
        super().__init__()
        self.wte = nn.Parameter(torch.empty(vocab, d_model))
        self.wpe = None if rotary else nn.Parameter(torch.empty(context, d_model))
        self.h = nn.ModuleList(Block(d_model, n_heads, bias, rotary) for _ in range(n_layers))
        self.ln_f = nn.LayerNorm(d_model, eps=LN_EPS, bias=bias)

    def forward(self, tokens):
        x = self.wte[tokens]
        if self.wpe is not None:
            x = x + self.wpe[: tokens.shape[1]]
        for block in self.h:
            x = block(x)
        return self.ln_f(x) @ self.wte.T


def weights(model):
    out = {}
    for s, (name, param) in enumerate(sorted(model.named_parameters())):
        w = [0.3 * math.sin(1.7 * k + 0.9 * s + 0.1) for k in range(param.numel())]
        if re.search(r"ln_\w+\.weight$", name):
            w = [1 + 0.1 * x for x in w]
        out[name] = torch.tensor(w, dtype=torch.float64).view_as(param)
    return out


def batch():
    span = lambda f: [[f(b, t) % CONFIG["vocab"] for t in range(CONFIG["context"])] for b in range(BATCH)]
    return torch.tensor(span(lambda b, t: 7 * b + 3 * t + b * t)), torch.tensor(
        span(lambda b, t: 5 * b + 2 * t + 1)
    )


def cross_entropy(logits, targets):
    return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


def compute(kind, dtype, fused=False):
    model = Gpt(**CONFIG, **kind)
    params = weights(model)
    model.load_state_dict(params)
    model.to(dtype)
    # Converting a float64 value, not one that went through the module's float32.
    with torch.no_grad():
        for name, param in model.named_parameters():
            param.copy_(params[name])
    for block in model.h:
        block.attn.fused = fused
    tokens, targets = batch()
    logits = model(tokens)
    loss = cross_entropy(logits, targets)
    loss.backward()
    gradients = {name: p.grad for name, p in sorted(model.named_parameters())}
    return model, {"logits": logits.detach(), "loss": loss.detach(), "gradients": gradients}


def deviation(a, b):
    far = lambda x, y: (x.double() - y.double()).abs().max().item()
    return {
        "logits": far(a["logits"], b["logits"]),
        "loss": far(a["loss"], b["loss"]),
        "gradients": max(far(a["gradients"][n], g) for n, g in b["gradients"].items()),
    }


def check_by_differences(model, gradients):
    """Central differences in every element, extrapolated from two widths (Richardson)."""
    tokens, targets = batch()
    worst = 0.0
    with torch.no_grad():
        for name, param in model.named_parameters():
            for x, g in zip(param.view(-1), gradients[name].view(-1)):
                was = x.item()

                def loss_at(value):
                    x.fill_(value)
                    return cross_entropy(model(tokens), targets).item()

                def slope(h):
                    return (loss_at(was + h) - loss_at(was - h)) / (2 * h)

                estimate = (4 * slope(5e-5) - slope(1e-4)) / 3
                x.fill_(was)
                worst = max(worst, abs(estimate - g.item()))
    assert worst < 1e-9, worst
    print(f"finite differences agree to {worst:.1e}")


def write(name, bias=False, rotary=False):
    kind = {"bias": bias, "rotary": rotary}
    model, exact = compute(kind, torch.float64)
    fused = deviation(compute(kind, torch.float64, fused=True)[1], exact)
    assert max(fused.values()) < 1e-13, fused
    check_by_differences(model, exact["gradients"])
    tokens, targets = batch()
    flat = lambda tensors: {name: x.flatten().tolist() for name, x in tensors.items()}
    data = {
        "made_by": "golden/model/make.py",
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "config": {**CONFIG, "bias": bias, **({"positions": "rotary"} if rotary else {})},
        "ln_eps": LN_EPS,
        "tokens": tokens.tolist(),
        "targets": targets.tolist(),
        "loss": exact["loss"].item(),
        "float32_deviation": deviation(compute(kind, torch.float32)[1], exact),
        "logits": exact["logits"].tolist(),
        "weights": flat(weights(model)),
        "gradients": flat(exact["gradients"]),
    }
    text = json.dumps(data, indent=1)
    one_line = lambda match: re.sub(r"\s+", " ", match[0])
    text = re.sub(r"\[[^][{}]*\]", one_line, text)  # a list of numbers is one line
    pathlib.Path(__file__).with_name(f"{name}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    torch.set_num_threads(1)
    write("bias_false")
    write("bias_true", bias=True)
    write("rotary", rotary=True)
