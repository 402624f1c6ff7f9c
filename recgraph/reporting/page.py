"""A self-contained HTML page: tables, charts with their data, and the style sheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from urllib.parse import quote

from recgraph.reporting.cells import Cell, Grid
from recgraph.reporting.charts import COLOURS, marker

Row = Sequence[str | int | float]

LIGHT = ("#0072b2", "#d55e00", "#008a66", "#a24f8f", "#9a6a00", "#3595d6", "#5c5c5c", "#7a4a2b")
DARK = ("#5ab0e8", "#ff8f52", "#3ecf9f", "#e29ad0", "#e5b84a", "#a5d8ff", "#c8c8c8", "#c99e7c")
"""Colours of series on light and on dark pages, after Okabe and Ito (https://jfly.uni-koeln.de/color/), whose set is
safe for red-green colour blindness. They are darkened for white, on which the original yellow, orange and sky blue are
hard to see, and lightened for dark pages."""


@dataclass(frozen=True)
class Figure:
    """A chart and its data.

    Attributes:
        title: what the chart shows.
        drawing: the chart as SVG.
        caption: how to read it; may be empty.
        legend: (name, style) of each series.
        head, rows: the data as a table.
    """

    title: str
    drawing: str
    caption: str
    legend: Sequence[tuple[str, int]]
    head: Sequence[str]
    rows: Sequence[Row]


@dataclass(frozen=True)
class Section:
    """A section of the page: a title, also listed in the table of contents, and HTML."""

    title: str
    body: str


def page(title: str, about: str, sections: Sequence[Section]) -> str:
    """The complete page."""
    contents = ""
    if len(sections) > 1:
        lines = "".join(f'<li><a href="#s{n}">{escape(one.title)}</a></li>' for n, one in enumerate(sections))
        contents = f'<nav aria-label="Contents"><h2>Contents</h2><ol>{lines}</ol></nav>'
    body = "".join(
        f'<section id="s{n}" aria-labelledby="h{n}"><h2 id="h{n}">{escape(one.title)}</h2>{one.body}</section>'
        for n, one in enumerate(sections)
    )
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="color-scheme" content="light dark"><style>{style()}</style></head>\n'
        f"<body><header><h1>{escape(title)}</h1><p>{escape(about)}</p></header>{contents}<main>{body}</main>"
        "</body></html>\n"
    )


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph of escaped text, in a class of the style sheet; empty if there is no text."""
    return f"<p{_class(kind)}>{escape(text)}</p>" if text else ""


def folded(title: str, text: str) -> str:
    """Preformatted text, folded until clicked."""
    return f"<details><summary>{escape(title)}</summary><pre>{escape(text)}</pre></details>"


def table(grid: Grid, styles: Mapping[str, int]) -> str:
    """A grid as an HTML table, with the best values in bold, chart markers beside row names, and notes below."""
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in grid.head)
    body = "".join(
        f'<tr><th scope="row">{_key(row[0].text, styles)}</th>{"".join(map(_cell, row[1:]))}</tr>' for row in grid.rows
    )
    notes = "".join(f"<li>{escape(note)}</li>" for note in grid.notes)
    below = f'<ul class="notes">{notes}</ul>' if notes else ""
    return (
        f"{_scrolled(grid.title, f'<table><caption>{escape(grid.title)}</caption><thead><tr>{head}</tr></thead>')}"
        f"<tbody>{body}</tbody></table></div>{below}"
    )


def figures(several: Sequence[Figure]) -> str:
    """Charts, side by side if there is room."""
    return f'<div class="figures">{"".join(map(_figure, several))}</div>' if several else ""


def _figure(one: Figure) -> str:
    keys = "".join(f"<li>{_swatch(style)}{escape(name)}</li>" for name, style in one.legend)
    legend = f'<ul class="legend">{keys}</ul>' if keys else ""
    return (
        f"<figure><figcaption><h4>{escape(one.title)}</h4>{paragraph(one.caption)}</figcaption>{legend}"
        f"{one.drawing}{_data(one)}</figure>"
    )


def _data(one: Figure) -> str:
    """A chart's data as a folded table, with a CSV download."""
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows([one.head, *one.rows])
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in one.head)
    body = "".join("<tr>" + "".join(map(_datum, row)) + "</tr>" for row in one.rows)
    name = "".join(letter if letter.isalnum() else "-" for letter in one.title)
    return (
        f"<details><summary>Data of the chart</summary>{_scrolled(f'Data: {one.title}', '<table>', 'tall')}"
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        f'<p><a download="{escape(name)}.csv" href="data:text/csv;charset=utf-8,{quote(file.getvalue())}">'
        f"Download CSV</a></p></details>"
    )


def _scrolled(label: str, opening: str, kind: str = "") -> str:
    """The opening of a box that scrolls if its content is too wide, also by keyboard."""
    return f'<div class="scroll {kind}" role="region" tabindex="0" aria-label="{escape(label)}">{opening}'


def _cell(cell: Cell) -> str:
    text = f"<strong>{escape(cell.text)}</strong>" if cell.best else escape(cell.text)
    return f"<td>{text}{f'<sup>{escape(cell.mark)}</sup>' if cell.mark else ''}</td>"


def _datum(value: str | int | float) -> str:
    return f"<td{_class('' if isinstance(value, str) else 'n')}>{escape(str(value))}</td>"


def _key(name: str, styles: Mapping[str, int]) -> str:
    return f"{_swatch(styles[name]) if name in styles else ''}{escape(name)}"


def _swatch(style: int) -> str:
    return f'<svg class="swatch" viewBox="-6 -6 12 12" aria-hidden="true">{marker(style, 0, 0)}</svg>'


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""


def style() -> str:
    """The style sheet."""

    def colours(palette: Sequence[str]) -> str:
        return "".join(f"--c{n}:{colour};" for n, colour in enumerate(palette))

    of_series = "".join(f".c{n}{{--c:var(--c{n})}}" for n in range(COLOURS))
    return (
        f":root{{{colours(LIGHT)}{LIGHT_PAGE}}}@media screen and (prefers-color-scheme:dark){{:root{{{colours(DARK)}"
        f"{DARK_PAGE}}}}}{of_series}{' '.join(SHEET.split())}"
    )


LIGHT_PAGE = "--paper:#fff;--ink:#1c2126;--soft:#59636e;--rule:#e3e6ea;--box:#f6f7f9;--link:#0b5cad;--warn:#8a4b00"
DARK_PAGE = "--paper:#14171a;--ink:#e6e8ea;--soft:#a3abb4;--rule:#2e343a;--box:#1c2024;--link:#7cbcff;--warn:#f2b56b"

SHEET = """
* { box-sizing: border-box }
html { color-scheme: light dark; -webkit-text-size-adjust: 100%; scroll-padding-top: 1rem }
body { margin: 0 auto; max-width: 68rem; padding: 2.5rem 1.25rem 5rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, sans-serif; overflow-wrap: anywhere }
h1 { font-size: 1.9rem; line-height: 1.2; letter-spacing: -.02em; margin: 0 0 .4rem }
h2 { font-size: 1.4rem; line-height: 1.25; letter-spacing: -.01em; margin: 0 0 .5rem }
h3 { font-size: 1.1rem; margin: 2.2rem 0 .8rem }
h4 { font-size: .95rem; line-height: 1.35; margin: 0 }
p { margin: .4rem 0; max-width: 46rem }
header p, .soft { color: var(--soft) }
a { color: var(--link) }
a:focus-visible, summary:focus-visible, .scroll:focus-visible { outline: 2px solid var(--link); outline-offset: 2px }
nav { margin-top: 1.8rem; padding: 1rem 1.25rem; background: var(--box); border-radius: .6rem }
nav h2 { font-size: .95rem; margin: 0 }
nav ol { margin: .3rem 0 0; padding-left: 1.4rem; columns: 16rem }
section { margin-top: 3rem; padding-top: 1.6rem; border-top: 1px solid var(--rule) }
.warn { color: var(--warn); border-left: 3px solid; padding-left: .8rem; font-size: .92rem }
.scroll { overflow-x: auto; margin: 1rem 0 .4rem; --under: var(--paper); background:
  linear-gradient(90deg, transparent, var(--under) 70%) right / 3rem 100% no-repeat local,
  linear-gradient(270deg, rgb(0 0 0 / .2), transparent) right / .9rem 100% no-repeat scroll }
figure .scroll { --under: var(--box) }
.tall { max-height: 22rem; overflow-y: auto }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; line-height: 1.35 }
caption { text-align: left; font-weight: 600; padding: 0 0 .5rem; white-space: nowrap }
th, td { padding: .38rem .75rem; text-align: right; white-space: nowrap; font-weight: 400 }
thead th { color: var(--soft); font-size: .82rem; vertical-align: bottom; border-bottom: 1px solid var(--soft) }
tbody tr + tr > * { border-top: 1px solid var(--rule) }
tbody tr:hover > * { background: var(--box) }
th:first-child { text-align: left; padding-left: 0; position: sticky; left: 0; background: var(--paper) }
strong, sup { font-weight: 700 }
sup { line-height: 0; padding-left: .1em }
.notes { margin: .3rem 0 1.6rem; padding-left: 1.1rem; color: var(--soft); font-size: .84rem; max-width: 52rem }
.notes li { margin: .1rem 0 }
.swatch { width: .8rem; height: .8rem; margin-right: .45rem; vertical-align: -.06rem; flex: none }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 25rem), 1fr)); gap: 1.25rem;
  margin: 1.4rem 0; align-items: start }
figure { margin: 0; padding: 1.1rem 1.2rem .9rem; background: var(--box); border-radius: .6rem; min-width: 0;
  max-width: 36rem }
figcaption p { color: var(--soft); font-size: .82rem; line-height: 1.4; margin: .15rem 0 0 }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: .1rem .9rem; margin: .6rem 0 .3rem; padding: 0;
  font-size: .82rem }
.legend li { display: flex; align-items: center }
figure > svg { display: block; width: 100%; height: auto; margin-top: .7rem; overflow: visible;
  font: 12.5px system-ui, sans-serif; fill: var(--ink) }
figure .scroll table { font-size: .8rem }
figure th:first-child { background: var(--box) }
figure thead th { position: sticky; top: 0; background: var(--box) }
figure td:first-child { text-align: left; padding-left: 0 }
.tick, .axis { font-size: 11.5px; fill: var(--soft) }
.rule, .zero { stroke: var(--rule); fill: none }
.zero { stroke: var(--soft) }
.line { fill: none; stroke: var(--c); stroke-width: 1.8; stroke-linejoin: round }
.level { stroke-dasharray: 5 4; stroke-width: 1.4 }
svg:has(.line:hover) .line:not(:hover) { opacity: .25 }
.band { fill: var(--c); opacity: .16 }
.bar { fill: var(--c); opacity: .82 }
.mark { fill: var(--c); stroke: var(--box); stroke-width: 1; vector-effect: non-scaling-stroke; paint-order: stroke }
details { margin-top: .6rem; font-size: .84rem }
summary { cursor: pointer; color: var(--link) }
pre { background: var(--box); padding: 1rem; border-radius: .6rem; overflow-x: auto; font-size: .8rem;
  line-height: 1.45; overflow-wrap: normal }
@media (max-width: 40rem) { body { padding-top: 1.4rem } figure { padding: .9rem .8rem .7rem }
  tbody th:first-child { white-space: normal; min-width: 7rem; max-width: 9rem } }
@media print { body { max-width: none; padding: 0; font-size: 10pt } details { display: none }
  section { break-before: page } nav + main section:first-child { break-before: auto }
  figure, tr { break-inside: avoid } figure { border: 1px solid var(--rule) } .scroll { overflow: visible }
  th:first-child { position: static } .figures { grid-template-columns: 1fr 1fr } table { font-size: 7.5pt }
  th, td { padding: .2rem .35rem } }
"""
