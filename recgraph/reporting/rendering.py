"""Tables as Markdown and as LaTeX."""

from __future__ import annotations

import re
from collections.abc import Iterable

from tabulate import tabulate

from recgraph.reporting.cells import Cell, Grid

LATEX = {
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "Δ": r"$\Delta$",
    "†": r"$^\dagger$",
    "‡": r"$^\ddagger$",
    "α": r"$\alpha$",
    "β": r"$\beta$",
    "λ": r"$\lambda$",
    "τ": r"$\tau$",
    "≥": r"$\geq$",
    "γ": r"$\gamma$",
    "ε": r"$\epsilon$",
    "≤": r"$\leq$",
    "<": r"$<$",
    ">": r"$>$",
}
"""Characters that have to be escaped or replaced in LaTeX."""


def markdown(grids: Iterable[Grid]) -> str:
    """Tables as Markdown, with the best values in bold and notes below."""
    blocks = []
    for grid in grids:
        head, body = [*map(_plain, grid.head)], [[*map(_markdown, row)] for row in grid.rows]
        align = ["left", *["right"] * (len(grid.head) - 1)]
        table = tabulate(body, head, tablefmt="github", disable_numparse=True, colalign=align)
        blocks.append("\n\n".join([f"**{grid.title}**", table, "\n".join(grid.notes)]).rstrip())
    return "\n\n".join(blocks)


def latex(grids: Iterable[Grid]) -> str:
    """Tables as LaTeX, for the package booktabs."""
    blocks = []
    for grid in grids:
        lines = [" & ".join(map(_latex, row)) + r" \\" for row in grid.rows]
        blocks.append(
            "\n".join(
                [
                    r"\begin{table}",
                    rf"\caption{{{escape(grid.title)}. {' '.join(map(escape, grid.notes))}}}",
                    rf"\begin{{tabular}}{{l{'r' * (len(grid.head) - 1)}}}",
                    r"\toprule",
                    " & ".join(map(escape, grid.head)) + r" \\",
                    r"\midrule",
                    *lines,
                    r"\bottomrule",
                    r"\end{tabular}",
                    r"\end{table}",
                ]
            )
        )
    return "\n\n".join(blocks) + "\n"


def escape(text: str) -> str:
    """Text escaped for LaTeX."""
    return "".join(LATEX.get(letter, letter) for letter in text)


def _plain(text: str) -> str:
    """Text as it stands, in a table of Markdown."""
    return re.sub(r"[*<`|]", r"\\\g<0>", text)


def _markdown(cell: Cell) -> str:
    text = _plain(cell.text)
    return (f"**{text}**" if cell.best else text) + cell.mark


def _latex(cell: Cell) -> str:
    text = escape(cell.text)
    if text.startswith(("[", "*")):  # after a line break, LaTeX would take it for an option
        text = "{}" + text
    return (rf"\textbf{{{text}}}" if cell.best else text) + escape(cell.mark)
