"""What notebooks show."""

from __future__ import annotations

from html import escape
from typing import Iterable, Sequence


def paragraph(text: str, *, strong: bool = False) -> str:
    inner = escape(text)
    return f"<p>{f'<strong>{inner}</strong>' if strong else inner}</p>"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The first column is text, the others are numbers."""

    def cells(tag: str, row: Sequence[str]) -> str:
        sides = ["left"] + ["right"] * (len(row) - 1)
        return "".join(
            f'<{tag} style="text-align: {side}">{escape(cell)}</{tag}>'
            for side, cell in zip(sides, row)
        )

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f"<table><thead><tr>{cells('th', head)}</tr></thead><tbody>{body}</tbody></table>"


def bullets(items: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(item)}</li>' for item in items)}</ul>" if items else ""
