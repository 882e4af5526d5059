"""A .jsonl file as packed tokens on the disk, with `datasets` and `tokenizers`.

Reads the file, encodes it in batches in as many processes as asked for, puts the end-of-text token
behind each document and writes all into one file of 2 or 4 bytes a token. Prints one line of JSON.
README.md has the commands.
"""

import argparse
import json
import os
import tempfile
import time

# Processes, not threads in each of them: more of both than cores is slower.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy
from datasets import disable_caching, disable_progress_bars, load_dataset
from tokenizers import Tokenizer


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("data")
    parser.add_argument("tokenizer")
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    disable_caching()
    disable_progress_bars()
    tokenizer = Tokenizer.from_file(arguments.tokenizer)
    end = tokenizer.token_to_id("<|endoftext|>")
    dtype = numpy.uint16 if tokenizer.get_vocab_size() <= 1 << 16 else numpy.uint32

    def encode(batch):
        encodings = tokenizer.encode_batch(batch["text"], add_special_tokens=False)
        return {"ids": [encoding.ids + [end] for encoding in encodings]}

    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        data = load_dataset("json", data_files=arguments.data, split="train", cache_dir=folder)
        encoded = data.map(
            encode, batched=True, num_proc=arguments.processes, remove_columns=data.column_names
        )
        tokens = 0
        with open(os.path.join(folder, "packed"), "wb") as out:
            for batch in encoded.with_format("arrow").iter(1000):
                ids = batch["ids"].combine_chunks().flatten().to_numpy()
                out.write(ids.astype(dtype).tobytes())
                tokens += len(ids)
            out.flush()
            os.fsync(out.fileno())
        seconds = time.perf_counter() - begun
    with open(arguments.data, encoding="utf-8") as lines:
        size = sum(len(json.loads(line)["text"].encode()) for line in lines)
    print(
        json.dumps(
            {
                "what": "tokenize and pack",
                "mb": round(size / 1e6, 1),
                "tokens": tokens,
                "seconds": round(seconds, 2),
                "mb_per_s": round(size / 1e6 / seconds, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
