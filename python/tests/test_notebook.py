"""The notebook runs, and prints what is committed."""

import ast
import contextlib
import io
import json
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[2]


def test_the_notebook_prints_what_it_has(monkeypatch):
    pytest.importorskip("pandas")
    pytest.importorskip("matplotlib").use("Agg")
    monkeypatch.chdir(ROOT / "python")
    cells = json.loads(pathlib.Path("forgetting.ipynb").read_text())["cells"]
    names, ran = {}, 0
    for cell in cells:
        if cell["cell_type"] != "code":
            continue
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(ast.parse("".join(cell["source"])), "forgetting.ipynb", "exec"), names)
        kept = [out for out in cell["outputs"] if out["output_type"] == "stream"]
        assert printed.getvalue() == "".join(text for out in kept for text in out["text"])
        ran += 1
    assert ran >= 5
