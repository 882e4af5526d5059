"""Training steps of a small Llama in `transformers` and in this library, in turns on one machine.

Both have the shapes of one config.json: RMSNorm, rotary positions, SwiGLU, grouped heads, a head of its own.
A step is forward, cross-entropy, backward, clipping to a global norm of 5, and AdamW with decay 0.1, all in
float32 on one thread. Prints a line of JSON a size: tokens a second of each turn, and the ratio of the medians.

    cargo bench --locked -p benches --profile dev --bench train_step --no-run
    python benches/peer/llama.py target/debug/deps/train_step-*
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time

# Before torch is loaded, so that spinning threads do not take cores from each other.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
import transformers
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

# Layers, width, heads, heads of keys and values, width of the MLP: about the sizes of nano.
SIZES = {
    "llama-43k": (2, 32, 2, 1, 88),
    "llama-330k": (6, 64, 4, 2, 176),
    "llama-1m": (8, 112, 7, 7, 304),
}


def config(size, context):
    layers, d, heads, kv_heads, d_ff = SIZES[size]
    return LlamaConfig(
        vocab_size=512,
        hidden_size=d,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        intermediate_size=d_ff,
        max_position_embeddings=context,
        tie_word_embeddings=False,
    )


def of_transformers(model, batch, seconds):
    """Tokens a second of training steps."""
    context = model.config.max_position_embeddings
    decayed = [p for p in model.parameters() if p.dim() == 2]
    others = [p for p in model.parameters() if p.dim() != 2]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-4, fused=True)
    windows = torch.randint(model.config.vocab_size, (batch, context + 1))

    def step():
        logits = model(windows[:, :-1], use_cache=False).logits
        loss = functional.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        optimizer.zero_grad()

    for _ in range(5):
        step()
    begun, steps = time.perf_counter(), 0
    while time.perf_counter() - begun < seconds:
        step()
        steps += 1
    return batch * context * steps / (time.perf_counter() - begun)


def of_this_library(bench, folder, batch, seconds):
    """The same by the binary of benches/train_step.rs."""
    command = [bench, "--bench", "--size", folder, "--batch", str(batch), "--seconds", str(seconds)]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return json.loads(next(line for line in lines if line.startswith("{")))["tokens_per_s"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bench", help="the program that cargo bench has built")
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=SIZES)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--context", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--turns", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    for size in args.sizes:
        model = LlamaForCausalLM(config(size, args.context))
        theirs, ours = [], []
        with tempfile.TemporaryDirectory() as folder:
            model.config.save_pretrained(folder)
            for _ in range(args.turns):
                theirs.append(of_transformers(model, args.batch, args.seconds))
                ours.append(of_this_library(args.bench, folder, args.batch, args.seconds))
        report = {
            "size": size,
            "params": sum(p.numel() for p in model.parameters()),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "transformers_tokens_per_s": [round(rate) for rate in theirs],
            "tokens_per_s": [round(rate) for rate in ours],
            "ratio": round(statistics.median(ours) / statistics.median(theirs), 2),
        }
        print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main()
