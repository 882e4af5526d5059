"""Very small GPT-2 models as `transformers` writes them, and the logits that it computes.

    pip install torch==2.11.0 transformers==5.24.0
    python golden/checkpoint/make.py

writes the folders f32, f16, bf16 and sharded beside this file, each with `config.json` and what
`save_pretrained` makes of the parameters, and `logits.json`: for each folder, and for the model of
this project in nano-small, `tokens` (batch × time) and `logits` (batch × time × vocabulary; of
nano-small those of the last token), computed in float32 by AutoModelForCausalLM from the folder; and
`eval.json`: for some texts, the cross-entropies that the model in nano-small has of them: `tokens`,
the number of its predictions, the sum of them in `nats`, and the `bytes` of the predicted tokens.

Element k of the s-th parameter (both from 0, names sorted by their bytes) is

    w = 0.3·sin(1.7·k + 0.9·s + 0.1),    or 1 + 0.1·w in the weight of a normalisation.
"""

import json
import pathlib

import torch
import transformers

HERE = pathlib.Path(__file__).parent
SHAPE = dict(n_layer=2, n_embd=8, n_head=2, vocab_size=11, n_positions=8)


def model():
    config = transformers.GPT2Config(**SHAPE, bos_token_id=0, eos_token_id=0)
    model = transformers.GPT2LMHeadModel(config)
    with torch.no_grad():
        for s, (name, parameter) in enumerate(sorted(model.named_parameters())):
            k = torch.arange(parameter.numel(), dtype=torch.float64)
            w = 0.3 * torch.sin(1.7 * k + 0.9 * s + 0.1)
            if ".ln_" in name and name.endswith("weight"):
                w = 1 + 0.1 * w
            parameter.copy_(w.view_as(parameter))
    return model


def logits(folder, tokens):
    loaded = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        return loaded(torch.tensor(tokens)).logits


TEXTS = [
    "Rik taid faik lind. " * 60,
    "one two three four five six seven",
    "a",
    "",
    "naïve 汉字 👩‍👩‍👧 ½",
    "é",
    "汉",
    "A text that says </s> and <|endoftext|> and <s>.",
    " ",
]


def evaluations(folder):
    """Windows of as many inputs as the model has positions, end to end; the first token of a text is
    read only. A special token's name is text. In the byte-level alphabet a character is a byte."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    context = model.config.n_positions
    for text in TEXTS:
        ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        nats = 0.0
        for start in range(0, len(ids) - 1, context):
            window = torch.tensor(ids[start : start + context + 1])
            with torch.no_grad():
                scores = model(window[None, :-1]).logits[0].double()
            nats += torch.nn.functional.cross_entropy(scores, window[1:], reduction="sum").item()
        size = sum(len(token) for token in tokenizer.convert_ids_to_tokens(ids[1:]))
        yield {"text": text, "tokens": max(len(ids) - 1, 0), "nats": nats, "bytes": size}


def main():
    tokens = [[(7 * i + 3 * j) % SHAPE["vocab_size"] for j in range(8)] for i in range(2)]
    golden = {}
    for name, kind, size in [
        ("f32", torch.float32, "1GB"),
        ("f16", torch.float16, "1GB"),
        ("bf16", torch.bfloat16, "1GB"),
        ("sharded", torch.float32, "4KB"),
    ]:
        folder = HERE / name
        model().to(kind).save_pretrained(folder, max_shard_size=size)
        (folder / "generation_config.json").unlink(missing_ok=True)
        golden[name] = {"tokens": tokens, "logits": logits(folder, tokens).tolist()}
    nano = HERE / "nano-small"
    shape = json.loads((nano / "config.json").read_text())
    row = [(37 * j + 5) % shape["vocab_size"] for j in range(shape["n_positions"])]
    last = logits(nano, [row])[:, -1:]
    golden["nano-small"] = {"tokens": [row], "logits": last.tolist()}
    (HERE / "logits.json").write_text(json.dumps(golden) + "\n")
    lines = [json.dumps(one, ensure_ascii=False) for one in evaluations(nano)]
    (HERE / "eval.json").write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")


main()
