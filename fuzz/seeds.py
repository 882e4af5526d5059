"""Writes first inputs of the targets `config` and `checkpoint`, made of the golden models, to
`fuzz/corpus`, or to the folder that is named:

    python3 fuzz/seeds.py
"""

import re
import sys
from pathlib import Path

FUZZ = Path(__file__).parent
GOLDEN = FUZZ.parent / "golden" / "checkpoint"


def listed(name):
    """A list of strings in the source of `config`, which says what its first two bytes mean."""
    source = (FUZZ / "fuzz_targets" / "config.rs").read_text()
    return re.findall('"(.*?)"', re.search(rf"const {name}:.*?= \[(.*?)\];", source, re.S)[1])


def main(corpus):
    files, models = listed("FILES"), listed("MODELS")
    for target in "config", "checkpoint":
        (corpus / target).mkdir(parents=True, exist_ok=True)
    for j, model in enumerate(models):
        for i, file in enumerate(files):
            path = GOLDEN / model / file
            text = path.read_bytes() if path.exists() else b"{}"
            name = f"{model}-{file}".replace("/", "-")
            (corpus / "config" / name).write_bytes(bytes([i, j]) + text)
    for weights in sorted(GOLDEN.glob("**/model.safetensors")):
        folder = weights.parent
        name = str(folder.relative_to(GOLDEN)).replace("/", "-")
        if name == "nano-small":
            continue  # large, and of the same family as others
        config = (folder / "config.json").read_bytes()
        (corpus / "checkpoint" / name).write_bytes(config + b"\0" + weights.read_bytes())


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FUZZ / "corpus")
