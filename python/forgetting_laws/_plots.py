"""The plots of a fit."""

from __future__ import annotations

import csv
import io
import os
from typing import Any, Dict, List, NamedTuple, Union

import numpy as np
import numpy.typing as npt

Column = Union["npt.NDArray[np.float64]", List[str]]
TEXT = ("domain", "law", "kind")


class Plot(NamedTuple):
    """A plot, with its data for plots of your own."""

    name: str
    """``predicted``, ``residuals`` or ``curves``."""
    svg: str
    png: bytes
    csv: str
    """The data, one row per mark or point of a curve; losses are in nats per token."""

    def table(self) -> Dict[str, Column]:
        """The data by column: arrays of floats, NaN for an empty cell, and lists of the names in
        ``domain``, ``law`` and ``kind``."""
        header, *rows = csv.reader(io.StringIO(self.csv, newline=""))
        columns: Dict[str, Column] = {}
        for name, cells in zip(header, zip(*rows)):
            numbers = [float(cell) if cell else float("nan") for cell in cells] if name not in TEXT else []
            columns[name] = list(cells) if name in TEXT else np.array(numbers, dtype=np.float64)
        return columns

    def to_dataframe(self) -> Any:
        """The data as a pandas data frame; needs pandas."""
        import pandas  # type: ignore[import-untyped,unused-ignore]

        return pandas.DataFrame(self.table())

    def write(self, folder: Union[str, "os.PathLike[str]"]) -> None:
        """Writes NAME.svg, NAME.png and NAME.csv into a folder, which is created if needed."""
        os.makedirs(folder, exist_ok=True)
        stem = os.path.join(folder, self.name)
        for suffix, content in (
            (".svg", self.svg.encode()),
            (".png", self.png),
            (".csv", self.csv.encode()),
        ):
            with open(stem + suffix, "wb") as file:
                file.write(content)

    def _repr_svg_(self) -> str:
        return self.svg

    def __repr__(self) -> str:
        rows = self.csv.count("\n") - 1
        return f"Plot {self.name}: {len(self.svg)} bytes of SVG, {rows} rows"
