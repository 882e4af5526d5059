"""Training steps of PyTorch, with torch.compile or eager and with fused AdamW, against this library's.

The same GPT-2-style models, batches and steps on the same device in one go: in bf16 under autocast with
parameters in f32, as is usual, or in f32. The programs take turns, and what is printed is a line of JSON
a size: the medians of their tokens/s, the ratio of ours to each of theirs, and model FLOPs utilisation,
against the device's peak where its name is known here, and against the rate of a large matrix product.
README.md has the commands.
"""

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import time
from types import SimpleNamespace

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch

from train_step import Gpt, adamw, at_least_one, step, train_flops_per_token

# (layers, width, heads, vocabulary, context, sequences a step) of src/model.rs and the presets.
SIZES = {
    "nano-tiny": (2, 32, 2, 512, 64, 16),
    "nano-small": (3, 48, 3, 512, 64, 16),
    "nano-medium": (6, 64, 4, 512, 64, 16),
    "nano-large": (8, 80, 5, 512, 64, 16),
    "nano-xl": (8, 112, 7, 512, 64, 16),
    "mini-tiny": (4, 128, 4, 4096, 256, 64),
    "mini-small": (6, 256, 4, 4096, 256, 64),
    "mini-medium": (8, 384, 6, 4096, 256, 64),
    "tiny": (8, 512, 8, 32000, 1024, 32),
    "small": (12, 768, 12, 32000, 1024, 32),
    "medium": (24, 1024, 16, 32000, 1024, 16),
    "large": (20, 1600, 25, 32000, 1024, 8),
    "xl": (24, 2048, 16, 32000, 1024, 4),
}

# Dense TFLOP/s in bf16, by a part of the device's name.
PEAKS = {"A100": 312, "H100": 989, "H200": 989}

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def synchronize(device):
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


class Peer:
    """PyTorch's step, warm."""

    def __init__(self, shape, args, kind):
        layers, d, heads, vocab, context, _ = shape
        self.device, self.tokens = args.device, args.batch * context
        torch.manual_seed(0)
        model = Gpt(layers, d, heads, vocab, context).to(args.device)
        self.params = list(model.parameters())
        self.optimizer = adamw(self.params)
        network = torch.compile(model) if kind == "compile" else model
        device = "cuda" if args.device.startswith("cuda") else "cpu"
        half = args.precision == "bf16"

        def loss_of(inputs, targets):
            with torch.autocast(device, dtype=torch.bfloat16, enabled=half):
                return network(inputs, targets)

        self.loss_of = loss_of
        # On the device before the clock runs.
        windows = torch.randint(vocab, (args.batch, context + 1), device=args.device)
        self.batch = windows[:, :-1].contiguous(), windows[:, 1:].contiguous()
        self.steps(10)

    def steps(self, count):
        for _ in range(count):
            loss = step(self.loss_of, self.params, self.optimizer, *self.batch)
        return loss.item()

    def rate(self, seconds):
        begun, count = time.perf_counter(), 0
        while time.perf_counter() - begun < seconds:
            self.steps(5)
            count += 5
        synchronize(self.device)
        return count * self.tokens / (time.perf_counter() - begun)


def matmul_flops(args):
    """FLOP/s of a square matrix product in the precision of the steps, the best of some."""
    n = 8192 if args.device.startswith("cuda") else 1024
    dtype = torch.bfloat16 if args.precision == "bf16" else torch.float32
    a = torch.randn(n, n, device=args.device, dtype=dtype)
    best = float("inf")
    for _ in range(10):
        synchronize(args.device)
        begun = time.perf_counter()
        a @ a
        synchronize(args.device)
        best = min(best, time.perf_counter() - begun)
    return 2 * n**3 / best


def ours(size, args, seconds):
    """What `train_step.rs` measures, on the CUDA half of this very PyTorch."""
    bench = ["cargo", "bench", "--locked", "-p", "benches", "--profile", "dev", "--bench", "train_step", "--"]
    call = [args.ours] if args.ours else bench
    call += ["--size", size, "--device", args.device, "--precision", args.precision]
    call += ["--batch", str(args.batch), "--threads", str(args.threads), "--seconds", str(seconds)]
    call += ["--engine", args.engine] if args.engine else []
    env = os.environ | {"FORGETTING_LAWS_TORCH": os.path.dirname(torch.__file__)}
    done = subprocess.run(call, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"this library's side failed: {' '.join(call)}")
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    return json.loads(lines[-1])


def compare(size, args):
    shape = SIZES[size]
    args.batch = args.sequences or shape[5]
    rates = {side: [] for side in ("ours", *args.peers)}
    for _ in range(args.rounds):
        for kind in args.peers:
            peer = Peer(shape, args, kind)
            rates[kind].append(peer.rate(args.seconds))
            # Its memory is for the others now.
            del peer
            gc.collect()
            if args.device.startswith("cuda"):
                torch.cuda.empty_cache()
        measured = ours(size, args, args.seconds)
        rates["ours"].append(measured["tokens_per_s"])
    layers, d, _, vocab, context, _ = shape
    per_token = train_flops_per_token(SimpleNamespace(layers=layers, d=d, vocab=vocab, context=context))
    name = torch.cuda.get_device_name(args.device) if args.device.startswith("cuda") else "cpu"
    peak = next((1e12 * tera for part, tera in PEAKS.items() if part in name), None)
    matmul = matmul_flops(args)
    sides = {}
    for side, all_rates in rates.items():
        rate = statistics.median(all_rates)
        sides[side] = {
            "tokens_per_s": round(rate),
            "all": [round(rate) for rate in all_rates],
            "mfu": round(rate * per_token / peak, 4) if peak and args.precision == "bf16" else None,
            "share_of_matmul": round(rate * per_token / matmul, 4),
        }
    report = {
        "size": size,
        "device": name,
        "torch": torch.__version__,
        "precision": args.precision,
        "engine": measured["engine"],
        "batch": args.batch,
        "context": context,
        "threads": args.threads,
        "matmul_tflops": round(matmul / 1e12, 3),
        "ratio": {
            kind: round(sides["ours"]["tokens_per_s"] / sides[kind]["tokens_per_s"], 3) for kind in args.peers
        },
    }
    print(json.dumps(report | sides), flush=True)


def main():
    parser = argparse.ArgumentParser(description="steps of PyTorch against this library's")
    parser.add_argument("sizes", nargs="*", metavar="SIZE", help="[default: tiny small medium large]")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", choices=["bf16", "f32"], default="bf16")
    parser.add_argument("--sequences", type=at_least_one, help="of a step [default: the size's]")
    parser.add_argument("--threads", type=at_least_one, default=1)
    parser.add_argument("--rounds", type=at_least_one, default=3)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    parser.add_argument("--ours", metavar="FILE", help="train_step.rs as a program [default: cargo builds it]")
    parser.add_argument("--peers", nargs="+", choices=["compile", "eager"], default=["compile"])
    parser.add_argument("--engine", choices=["cpu", "torch"], help="ours [default: cpu where it can]")
    args = parser.parse_args()
    unknown = [size for size in args.sizes if size not in SIZES]
    if unknown:
        parser.error(f"{unknown[0]} is no size; there is {', '.join(SIZES)}")
    torch.set_num_threads(args.threads)
    for size in args.sizes or ["tiny", "small", "medium", "large"]:
        compare(size, args)


if __name__ == "__main__":
    main()
