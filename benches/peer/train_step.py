"""The training step of this library, written in PyTorch, and how many tokens a second it does.

The model is the one of `src/model.rs` without biases: pre-norm GPT-2 blocks, learned positions, a
tied head, GELU in its tanh form. A step is forward, cross-entropy, backward, clipping to a global
norm of 5, and AdamW(fused=True) with decay 0.1 on tensors of two dimensions, all in float32.
Prints one line of JSON. README.md has the commands.
"""

import argparse
import json
import os
import platform
import statistics
import time

# Before torch is loaded, so that spinning threads do not take cores from each other.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from torch import nn
from torch.nn import functional


class Block(nn.Module):
    def __init__(self, d, n_heads):
        super().__init__()
        self.n_heads = n_heads
        self.ln_1 = nn.LayerNorm(d, bias=False)
        self.qkv = nn.Linear(d, 3 * d, bias=False)
        self.attn_proj = nn.Linear(d, d, bias=False)
        self.ln_2 = nn.LayerNorm(d, bias=False)
        self.fc = nn.Linear(d, 4 * d, bias=False)
        self.mlp_proj = nn.Linear(4 * d, d, bias=False)

    def forward(self, x):
        batch, context, d = x.shape
        heads = lambda y: y.view(batch, context, self.n_heads, d // self.n_heads).transpose(1, 2)
        q, k, v = map(heads, self.qkv(self.ln_1(x)).split(d, dim=-1))
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.attn_proj(y.transpose(1, 2).reshape(batch, context, d))
        return x + self.mlp_proj(functional.gelu(self.fc(self.ln_2(x)), approximate="tanh"))


class Gpt(nn.Module):
    def __init__(self, layers, d, heads, vocab, context):
        super().__init__()
        self.wte = nn.Embedding(vocab, d)
        self.wpe = nn.Embedding(context, d)
        self.blocks = nn.ModuleList(Block(d, heads) for _ in range(layers))
        self.ln_f = nn.LayerNorm(d, bias=False)
        for name, param in self.named_parameters():
            if param.dim() == 2:
                residual = name.endswith("proj.weight")
                nn.init.normal_(param, std=0.02 / (2 * layers) ** 0.5 if residual else 0.02)

    def forward(self, tokens, targets):
        x = self.wte(tokens) + self.wpe.weight[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        logits = functional.linear(self.ln_f(x), self.wte.weight)
        return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


def adamw(params, lr=1e-3):
    """AdamW with the decay of this library: of tensors of two dimensions alone."""
    groups = [
        {"params": [p for p in params if p.dim() == 2], "weight_decay": 0.1},
        {"params": [p for p in params if p.dim() == 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.999), fused=True)


def step(loss_of, params, optimizer, inputs, targets):
    loss = loss_of(inputs, targets)
    loss.backward()
    nn.utils.clip_grad_norm_(params, 5.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss


def sgemm_gflops(seconds):
    """The machine's matmul rate: 1024³ in float32, the best of many. 2·n³ operations each."""
    n = 1024
    a, b, c = torch.randn(n, n), torch.randn(n, n), torch.empty(n, n)
    torch.mm(a, b, out=c)
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        torch.mm(a, b, out=c)
        best = min(best, time.perf_counter() - start)
    return 2 * n**3 / best / 1e9


def train_flops_per_token(args):
    """As `Shape::train_flops_per_token`: 6 per matrix weight, and 12·L·d·T for attention."""
    weights = 12 * args.layers * args.d**2 + args.vocab * args.d
    return 6 * weights + 12 * args.layers * args.d * args.context


def at_least_one(text):
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def arguments():
    parser = argparse.ArgumentParser(description="tokens/s of one training step in PyTorch")
    sizes = {"layers": 2, "d": 32, "heads": 2, "vocab": 512, "context": 64, "batch": 16, "threads": 1}
    for name, default in sizes.items():
        parser.add_argument(f"--{name}", type=at_least_one, default=default)
    parser.add_argument("--repetitions", type=at_least_one, default=7)
    parser.add_argument("--seconds", type=float, default=1.5, help="length of one repetition")
    parser.add_argument("--compile", action="store_true", help="torch.compile the model")
    args = parser.parse_args()
    if args.d % args.heads:
        parser.error(f"--heads {args.heads} must divide --d {args.d}")
    return args


def main():
    args = arguments()
    torch.set_num_threads(args.threads)
    torch.set_num_interop_threads(1)
    torch.manual_seed(0)

    model = Gpt(args.layers, args.d, args.heads, args.vocab, args.context)
    params = list(model.parameters())
    optimizer = adamw(params)
    loss_of = torch.compile(model) if args.compile else model
    # Few enough to be in the cache, more than one so that the step is not always the same.
    windows = torch.randint(args.vocab, (8, args.batch, args.context + 1))
    batches = [(w[:, :-1].contiguous(), w[:, 1:].contiguous()) for w in windows]

    def steps(n):
        for i in range(n):
            loss = step(loss_of, params, optimizer, *batches[i % len(batches)])
        return loss

    first_loss = steps(1).item()
    steps(20)
    start = time.perf_counter()
    steps(10)
    per_repetition = max(1, round(args.seconds * 10 / (time.perf_counter() - start)))
    tokens = args.batch * args.context
    sgemm = sgemm_gflops(1.0)
    rates, cpu_rates = [], []
    for _ in range(args.repetitions):
        start, cpu_start = time.perf_counter(), time.process_time()
        loss = steps(per_repetition)
        rates.append(per_repetition * tokens / (time.perf_counter() - start))
        cpu_rates.append(per_repetition * tokens / (time.process_time() - cpu_start))
    # The clock of a shared machine wanders: measured on both sides of the steps.
    sgemm = max(sgemm, sgemm_gflops(1.0))

    median = statistics.median(rates)
    gflops = median * train_flops_per_token(args) / 1e9
    report = {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "compile": args.compile,
        "threads": args.threads,
        "layers": args.layers,
        "d": args.d,
        "heads": args.heads,
        "vocab": args.vocab,
        "context": args.context,
        "batch": args.batch,
        "params": sum(p.numel() for p in params),
        "steps": args.repetitions * per_repetition,
        "tokens_per_s": round(median),
        "tokens_per_s_min": round(min(rates)),
        "tokens_per_s_max": round(max(rates)),
        "tokens_per_cpu_s": round(statistics.median(cpu_rates)),
        "ms_per_step": round(1e3 * tokens / median, 4),
        "train_gflops": round(gflops, 2),
        "sgemm_gflops": round(sgemm, 2),
        "share_of_sgemm": round(gflops / sgemm, 4),
        "first_loss": first_loss,
        "last_loss": loss.item(),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
