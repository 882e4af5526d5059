"""Runs of a grid one after another, as a plain PyTorch script makes them, and how many an hour.

Reads results.json of `replication export` for what was trained: shapes, batches, the steps of each
run, which of them were evaluated, and p. Makes the same steps and evaluations in eager PyTorch with
fused AdamW, on random tokens: no time depends on which tokens they are. What this library does besides
(text, tokens, checkpoints, records) is left out here. Prints one line of JSON. README.md has the
commands.
"""

import argparse
import json
import os
import time

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch

from train_step import Gpt, adamw, step

# Of an evaluation in one pass, as in src/engine/trainer.rs.
EVALUATION_TOKENS = 4096


class Run:
    """A model with its optimizer."""

    def __init__(self, shape):
        if shape["bias"] or shape.get("positions", "learned") != "learned":
            raise SystemExit("grid.py: models without biases and with learned positions alone")
        self.context = shape["context"]
        self.model = Gpt(shape["n_layers"], shape["d_model"], shape["n_heads"], shape["vocab"], self.context)
        self.params = list(self.model.parameters())
        self.optimizer = adamw(self.params, lr=1e-4)

    def step(self, rows):
        return step(self.model, self.params, self.optimizer, rows[:, :-1], rows[:, 1:]).detach()

    @torch.no_grad()
    def evaluate(self, rows):
        losses = [
            self.model(some[:, :-1], some[:, 1:]) * len(some)
            for some in rows.split(max(1, EVALUATION_TOKENS // self.context))
        ]
        return torch.stack(losses).sum().item() / len(rows)


def train(run, record, batch, target, pretraining, validation, p):
    """The steps of a record on rows of tokens, with its evaluations on every validation set."""
    evaluated = {evaluation["step"] for evaluation in record["evaluations"]}
    training = torch.zeros(())
    for i in range(record["steps"] + 1):
        if i in evaluated:
            training.item()
            for rows in validation:
                run.evaluate(rows)
        if i == record["steps"]:
            break
        injected = int((torch.rand(batch) < p).sum()) if p > 0 else 0
        rows = target[torch.randint(len(target), (batch - injected,))]
        if injected:
            more = pretraining[torch.randint(len(pretraining), (injected,))]
            rows = torch.cat([rows, more])
        training = training + run.step(rows)


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

    vocab, tokens = results["pretraining"]["vocab"], results["pretraining"]["counts"]["validation"]["tokens"]
    begun, begun_cpu = time.perf_counter(), time.process_time()
    shapes = {}
    for made in results["pretrained"]:
        shape = made["shape"]
        random = lambda rows: torch.randint(vocab, (rows, shape["context"] + 1))
        shapes[made["record"]["id"]] = shape, random
        text = random(2_000_000 // shape["context"])
        validation = [random(tokens // shape["context"])]
        train(Run(shape), made["record"], made["batch"], text, text, validation, 0.0)
    for made in results["finetuned"]:
        shape, random = shapes[made["parent"]]
        target = random(made["record"]["realised"]["unique_tokens"] // shape["context"])
        validation = [random(tokens // shape["context"]) for _ in range(2)]
        train(Run(shape), made["record"], made["batch"], target, text, validation, made["p"])
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
