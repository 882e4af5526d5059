"""Writes first inputs of every target, most of them made of golden files, and a dictionary of what may stand
in them, to `fuzz/corpus`, or to the folder that is named:

    python3 fuzz/seeds.py
"""

import csv
import gzip
import json
import re
import sys
from pathlib import Path

FUZZ = Path(__file__).parent
GOLDEN = FUZZ.parent / "golden"
MODELS = GOLDEN / "checkpoint"


def listed(target, name):
    """A list of strings in the source of a target, whose places the first bytes of its inputs mean."""
    source = (FUZZ / "fuzz_targets" / f"{target}.rs").read_text()
    return re.findall('"(.*?)"', re.search(rf"const {name}:.*?=\s*\[(.*?)\];", source, re.S)[1])


def config():
    """Every model's `config.json`, and the other files of one model."""
    files, models = listed("config", "FILES"), listed("config", "MODELS")
    for j, model in enumerate(models):
        yield model, bytes([files.index("config.json"), j]) + (MODELS / model / "config.json").read_bytes()
    others = {
        "model.safetensors.index.json": [(MODELS / "sharded/model.safetensors.index.json").read_text()],
        "generation_config.json": ['{"eos_token_id": [3, 0]}'],
        "tokenizer_config.json": ['{"eos_token": {"content": "<|endoftext|>"}}'],
        "special_tokens_map.json": ['{"eos_token": "<|endoftext|>"}'],
        "added_tokens.json": ['{"<|endoftext|>": 3, "<pad>": 4}'],
        "vocab.json": ['{"a": 0, "b": 1, "ab": 2, "<|endoftext|>": 3}'],
        "merges.txt": ["#version: 0.2\na b\n"],
        "tokenizer.json": list(tokenizers()),
    }
    for file, texts in others.items():
        for i, text in enumerate(texts):
            yield f"{file}-{i}", bytes([files.index(file), models.index("sharded")]) + text.encode()


def tokenizers():
    """A small `tokenizer.json` of each kind of model, each with other steps around it."""
    end = {"id": 3, "content": "<|endoftext|>", "special": True}
    end |= dict.fromkeys(["single_word", "lstrip", "rstrip", "normalized"], False)
    vocab = {"a": 0, "b": 1, "ab": 2, "<|endoftext|>": 3}
    bpe = {"type": "BPE", "vocab": vocab, "merges": ["a b"], "unk_token": "a", "fuse_unk": True}
    bpe |= {"byte_fallback": True, "ignore_merges": True}
    bytes_too = [[f"<0x{byte:02X}>", -9.0] for byte in range(4)]
    pieces = [["a", -1.0], ["b", -2.0], ["ab", -0.5], ["<|endoftext|>", 0.0], ["\u2581", -3.0], *bytes_too]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    metaspace = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": False}
    split = {"type": "Split", "pattern": {"Regex": "\\s+|[^b]"}, "behavior": "Isolated", "invert": False}
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
    single = [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}]
    special = {"<|endoftext|>": {"id": "<|endoftext|>", "ids": [3], "tokens": ["<|endoftext|>"]}}
    template = {"type": "TemplateProcessing", "single": single, "pair": single, "special_tokens": special}
    in_turn = lambda kind, steps: {"type": "Sequence", kind: steps}
    for model, normalizer, pre_tokenizer, post_processor, decoder in [
        (bpe, None, byte_level, byte_level, byte_level),
        (bpe, in_turn("normalizers", [{"type": "NFC"}, replace]), split, template, {"type": "ByteFallback"}),
        (
            {"type": "Unigram", "unk_id": 0, "vocab": pieces, "byte_fallback": True},
            {"type": "Prepend", "prepend": "\u2581"}, metaspace, template, metaspace,
        ),
        (
            {"type": "WordPiece", "vocab": {**vocab, "##b": 4}, "unk_token": "a", "continuing_subword_prefix": "##",
             "max_input_chars_per_word": 100},
            {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None,
             "lowercase": True},
            {"type": "BertPreTokenizer"}, None, {"type": "WordPiece", "prefix": "##", "cleanup": True},
        ),
        (
            {"type": "WordLevel", "vocab": vocab, "unk_token": "a"}, {"type": "Lowercase"},
            in_turn("pretokenizers", [{"type": "Whitespace"}, {"type": "Digits", "individual_digits": True}]),
            None, None,
        ),
    ]:
        yield json.dumps({
            "version": "1.0", "truncation": None, "padding": None, "added_tokens": [end],
            "normalizer": normalizer, "pre_tokenizer": pre_tokenizer, "post_processor": post_processor,
            "decoder": decoder, "model": model,
        })


def checkpoint():
    """Every model in one file: its configuration, the header of its tensors and some elements."""
    for weights in sorted(MODELS.glob("**/model.safetensors")):
        folder = weights.parent
        if folder.name == "nano-small":
            continue  # large, and of the same family as others
        tensors, text = weights.read_bytes(), (folder / "config.json").read_bytes()
        end = 8 + int.from_bytes(tensors[:8], "little")
        parts = text, tensors[8:end].rstrip(), tensors[end : end + 64]
        yield str(folder.relative_to(MODELS)), b"\0".join(parts)


def tables():
    """The first rows of three tables in every format that Python writes by itself, and two in Parquet."""
    names = listed("tables", "NAMES")
    wide = "n_params,1e5,1e6\n1e6,3.1,2.8\n1e7,2.9,2.5\n"
    mapped = "a,b.c,d,n_params,d_tokens\n1e6,3.1,x,2,1e6\n1e7,2.9,x,2,1e6\n"
    golden = [(GOLDEN / name).read_text() for name in ["figures/export/losses.csv", "ranking/real.csv"]]
    for j, (text, readings) in enumerate([*((text, [0, 1]) for text in golden), (mapped, [2]), (wide, [3])]):
        lines = text.splitlines()[:5]
        rows = list(csv.DictReader(lines))
        columns = {name: [row[name] for row in rows] for name in rows[0]}
        split = {"columns": list(rows[0]), "data": [list(row.values()) for row in rows]}
        texts = {
            "a.csv": ["\n".join(lines), "\n".join(lines).replace(",", ";")],
            "a.tsv": ["\n".join(lines).replace(",", "\t")],
            "a.jsonl": ["\n".join(map(json.dumps, rows))],
            "a.json": [json.dumps(rows), json.dumps(columns), json.dumps(split)],
        }
        for name, texts in texts.items():
            for i, text in enumerate(texts):
                for k in readings:
                    yield f"{j}-{name}-{i}-{k}", bytes([names.index(name) + k * len(names)]) + text.encode()
    parquet = (GOLDEN / "nano/real/pretrained.parquet").read_bytes()
    yield "parquet", bytes([names.index("a.parquet")]) + parquet
    yield "small-parquet", bytes([names.index("a.parquet")]) + in_parquet()


def texts():
    """Short texts in every form."""
    names, forms = listed("texts", "NAMES"), 4
    turns = [("user", "human", "How many?"), ("assistant", "gpt", "Two, \u00e9.")]
    records = [
        {"messages": [{"role": role, "content": words} for role, _, words in turns], "text": "a"},
        {"conversations": [{"from": name, "value": words} for _, name, words in turns], "text": "b"},
        {"instruction": "How", "input": "many?", "output": "Two.", "text": "c"},
        {"text": "One line.\n\nAnother \ud83d one."},
    ]
    work = "A work.\n\nIts end.\n<|endoftext|>Another work.\r\n".encode()
    frame = b"\x28\xb5\x2f\xfd\x20"  # zstd: one block, which is not compressed
    packed = {
        "": lambda data: data,
        ".gz": gzip.compress,
        ".zst": lambda data: frame + bytes([len(data)]) + (len(data) * 8 + 1).to_bytes(3, "little") + data,
    }
    for k in range(forms):
        lines = json.dumps(records[k]).encode() + b"\n"
        contents = {".txt": work, ".jsonl": lines * 2, ".json": json.dumps([records[k]] * 2).encode()}
        for i, name in enumerate(names):
            plain = name.removesuffix(".gz").removesuffix(".zst")
            if plain.endswith(".parquet"):
                content = in_parquet()
            else:
                content = packed[name.removeprefix(plain)](contents[plain.removeprefix("a")])
            yield f"{name}-{k}", bytes([i + k * len(names)]) + content


def in_parquet():
    """Two rows of a text and of a list of turns, as Parquet without compression."""

    def varint(n):
        return bytes([n]) if n < 128 else bytes([n % 128 + 128]) + varint(n // 128)

    # Thrift's compact form: a value and the number of its type.
    short, long = (lambda n: (5, varint(2 * n))), (lambda n: (6, varint(2 * n)))
    name = lambda text: (8, varint(len(text)) + text.encode())
    many = lambda values: (9, bytes([16 * len(values) + values[0][0]]) + b"".join(data for _, data in values))

    def struct(fields):
        out, last = b"", 0
        for number, (kind, data) in fields.items():
            out, last = out + bytes([16 * (number - last) + kind]) + data, number
        return 12, out + b"\0"

    def levels(values):
        runs = b"".join(bytes([2, value]) for value in values)
        return len(runs).to_bytes(4, "little") + runs if values else b""

    def element(called, repetition, children=None, converted=None):
        return struct({
            **({} if children else {1: short(6)}), 3: short(repetition), 4: name(called),
            **({5: short(children)} if children else {}), **({} if converted is None else {6: short(converted)}),
        })

    turns = ["messages", "list", "element"]
    columns = [
        (["text"], [], [], ["One.", "Two."]),
        ([*turns, "role"], [0, 1, 0], [3, 3, 1], ["user", "assistant"]),
        ([*turns, "content"], [0, 1, 0], [3, 3, 1], ["How many?", "Two."]),
    ]
    schema = [
        element("schema", 0, 2), element("text", 0, None, 0), element("messages", 1, 1, 3), element("list", 2, 1),
        element("element", 0, 2), element("role", 1, None, 0), element("content", 1, None, 0),
    ]
    out, chunks = b"PAR1", []
    for path, repetitions, definitions, values in columns:
        definitions = [level + (level == 3) for level in definitions]
        count = len(definitions or values)
        data = levels(repetitions) + levels(definitions)
        data += b"".join(len(value).to_bytes(4, "little") + value.encode() for value in values)
        header = struct({1: short(count), 2: short(0), 3: short(3), 4: short(3)})
        _, page = struct({1: short(0), 2: short(len(data)), 3: short(len(data)), 5: header})
        meta = struct({
            1: short(6), 2: many([short(0), short(3)]), 3: many(list(map(name, path))), 4: short(0), 5: long(count),
            6: long(len(page + data)), 7: long(len(page + data)), 9: long(len(out)),
        })
        chunks.append(struct({2: long(0), 3: meta}))
        out += page + data
    group = struct({1: many(chunks), 2: long(len(out)), 3: long(2)})
    _, footer = struct({1: short(1), 2: many(schema), 3: long(2), 4: many([group])})
    return out + footer + len(footer).to_bytes(4, "little") + b"PAR1"


def tokens():
    """The manifest and the shards as they are, and a second shard of other documents."""
    for which in range(3):
        yield f"whole-{which}", bytes([which, 0, 0, 0, 0])
    entry = lambda end: end.to_bytes(8, "little") + bytes(32)
    body = b"".join(token.to_bytes(2, "little") for token in [97, 256, 98, 99, 256]) + entry(2) + entry(5)
    yield "sealed", bytes([3, 2]) + body
    yield "sealed-mask", bytes([3, 130]) + body + bytes([0b11011])


# Values that a reader may not expect.
VALUES = """null true false -1 0 1 0.5 1e99 1e999 1e-320 NaN Infinity 4294967295 4294967296 9223372036854775807
18446744073709551615 18446744073709551616 16777216 [] {} "" [[[[[[[[ {"a": \\ud800 50% 1,5 1.234,5""".split()


def dictionary(contents):
    """The words of first inputs, and values to put in their place."""
    words = {word for content in contents for word in re.findall(rb"[A-Za-z_][\w.|<>-]{2,40}", content)}
    for word in sorted({*words, *map(str.encode, VALUES)}):
        yield '"' + "".join(chr(c) if chr(c).isalnum() else f"\\x{c:02x}" for c in word) + '"\n'


def main(corpus):
    for target in config, checkpoint, tables, texts, tokens:
        folder = corpus / target.__name__
        folder.mkdir(parents=True, exist_ok=True)
        inputs = dict(target())
        for name, content in inputs.items():
            (folder / name.replace("/", "-")).write_bytes(content)
        (corpus / f"{target.__name__}.dict").write_text("".join(dictionary(inputs.values())))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FUZZ / "corpus")
