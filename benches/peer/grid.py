"""Runs of a grid one after another, as a plain PyTorch script makes them, and how many an hour.

Reads results.json of `replication export` for what was trained: shapes, batches, the steps of each
run, which of them were evaluated, and p. Makes the same steps and evaluations in eager PyTorch with
fused AdamW, on random tokens: no time depends on which tokens they are, and what the runs of this
library need for reading and splitting text is left out here. Prints one line of JSON. README.md has
the commands.
"""

import argparse
import json
import os
import time

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from torch import nn

from train_step import Gpt


class Run:
    """A model with its optimizer."""

    def __init__(self, shape):
        self.context = shape["context"]
        self.model = Gpt(shape["n_layers"], shape["d_model"], shape["n_heads"], shape["vocab"], self.context)
        self.params = list(self.model.parameters())
        groups = [
            {"params": [p for p in self.params if p.dim() == 2], "weight_decay": 0.1},
            {"params": [p for p in self.params if p.dim() == 1], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=1e-4, fused=True)

    def windows(self, tokens, starts):
        rows = torch.stack([tokens[i : i + self.context + 1] for i in starts.tolist()])
        return rows[:, :-1], rows[:, 1:]

    def step(self, batch):
        loss = self.model(*batch)
        loss.backward()
        nn.utils.clip_grad_norm_(self.params, 5.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    @torch.no_grad()
    def evaluate(self, tokens):
        total, rows = 0.0, len(tokens) // self.context
        starts = self.context * torch.arange(rows)
        for some in starts.split(16):
            total += self.model(*self.windows(tokens, some)).item() * len(some)
        return total / rows


def train(run, record, batch, sources, validation, p):
    """The steps of a record, with its evaluations on every validation set."""
    evaluated = {evaluation["step"] for evaluation in record["evaluations"]}
    target, pretraining = sources
    highest = [len(tokens) - run.context - 1 for tokens in sources]
    training = torch.zeros(())
    for step in range(record["steps"] + 1):
        if step in evaluated:
            training.item()
            for tokens in validation:
                run.evaluate(tokens)
        if step == record["steps"]:
            break
        injected = int((torch.rand(batch) < p).sum())
        rows = [run.windows(target, torch.randint(highest[0], (batch - injected,)))]
        if injected:
            rows.append(run.windows(pretraining, torch.randint(highest[1], (injected,))))
        inputs, targets = (torch.cat(parts) for parts in zip(*rows))
        training = training + run.step((inputs, targets))


def main():
    parser = argparse.ArgumentParser(description="runs an hour of a grid in PyTorch")
    parser.add_argument("results", help="results.json of replication export")
    parser.add_argument("--threads", type=int, default=None, help="[default: PyTorch's]")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    with open(args.results) as file:
        results = json.load(file)

    vocab = results["pretraining"]["vocab"]
    random = lambda n: torch.randint(vocab, (n,))
    text = random(2_000_000)
    validation = [random(8_193), random(8_193)]
    begun, begun_cpu = time.perf_counter(), time.process_time()
    for made in results["pretrained"]:
        run = Run(made["shape"])
        train(run, made["record"], made["batch"], (text, text), validation[:1], 0.0)
    shapes = {made["record"]["id"]: made["shape"] for made in results["pretrained"]}
    for made in results["finetuned"]:
        run = Run(shapes[made["parent"]])
        target = random(made["record"]["realised"]["unique_tokens"] + run.context + 1)
        train(run, made["record"], made["batch"], (target, text), validation, made["p"])
    seconds = time.perf_counter() - begun
    runs = len(results["pretrained"]) + len(results["finetuned"])
    report = {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "runs": runs,
        "seconds": round(seconds, 1),
        "cpu_seconds": round(time.process_time() - begun_cpu, 1),
        "runs_per_hour": round(3600 * runs / seconds, 1),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
