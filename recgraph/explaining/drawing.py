"""Explanations as pictures: SVG and PNG.

A picture is a list of boxes and texts whose positions are computed here, so that both formats look alike. Nothing is
shown by colour alone: bars point left or right by sign, and values are printed beside bars and in cells. Colours are
from Okabe and Ito's set (https://jfly.uni-koeln.de/color/), which people with any colour vision can tell apart.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple

from PIL import Image, ImageDraw, ImageFont

from recgraph.explaining.explanation import Explanation
from recgraph.explaining.panels import Bars, Grid
from recgraph.files import replacing, write_text

WIDTH, MARGIN, ROW = 900, 28, 26
"""Width of a picture, its margin, and the height of a line, in units of `SCALE` pixels."""

LABELS = 380
"""Width of the column of names."""

SCALE = 2
"""Pixels per unit in a PNG: 1,800 pixels across, or 300 per inch at a width of 15 cm."""

INK, GREY, FAINT = "#1a1a1a", "#595959", "#d9d9d9"
MORE, LESS = "#0072b2", "#d55e00"
"""Colours of positive and of negative values."""

NARROW, BROAD = set("iIjl.,:;'|!()[]ftr·"), set("mwMW@%→")

FONTS = ("DejaVuSans.ttf", "LiberationSans-Regular.ttf", "Arial.ttf", "Helvetica.ttc")
"""Tried in this order; the fallback is Pillow's own font, which lacks accented letters."""


class Box(NamedTuple):
    """A filled rectangle."""

    x: float
    y: float
    width: float
    height: float
    fill: str


class Words(NamedTuple):
    """A line of text with its baseline at `y`."""

    x: float
    y: float
    text: str
    size: float = 14
    anchor: Literal["start", "middle", "end"] = "start"
    fill: str = INK
    bold: bool = False


@dataclass
class Picture:
    """Boxes and words in drawing order."""

    height: float = 0.0
    parts: list[Box | Words] = field(default_factory=list)


def draw(explanation: Explanation, about: str = "", *, rows: int = 12) -> Picture:
    """Draw an explanation, one panel below the other.

    Args:
        explanation: what to draw.
        about: description of the model.
        rows: rows shown per panel; the others are summed.
    """
    picture, y = Picture(), 44.0
    shown = explanation.title or explanation.item
    whom = f" for user {fitted(str(explanation.user), (WIDTH - 2 * MARGIN) / 2, 20)}"
    title = f"Why {fitted(shown, WIDTH - 2 * MARGIN - width_of('Why ' + whom, 20), 20)}{whom}"
    picture.parts.append(Words(MARGIN, y, title, 20, bold=True))
    y += 24
    below = [about, f"score {explanation.score:.4f}"]
    picture.parts.append(Words(MARGIN, y, " · ".join(filter(None, below)), 13, fill=GREY))
    for panel in explanation.panels:
        y += 44
        picture.parts.append(Words(MARGIN, y, fitted(panel.title, WIDTH - 2 * MARGIN, 16), 16, bold=True))
        note, order = panel.note, shown_rows(panel, rows)
        if len(order) < len(panel.names):
            note = f"{note}; {len(order)} of {len(panel.names):,} shown"
        if note:
            y += 20
            picture.parts.append(Words(MARGIN, y, fitted(note, WIDTH - 2 * MARGIN, 13), 13, fill=GREY))
        y += 14
        y = _bars(picture, panel, order, y) if isinstance(panel, Bars) else _grid(picture, panel, order, y)
    picture.height = y + MARGIN
    return picture


def shown_rows(panel: Bars | Grid, count: int) -> list[int]:
    """Indices of the rows to show, by largest absolute value: in the panel's own order if it has one, else sorted."""
    if isinstance(panel, Grid):
        weights, ordered = [max(row) for row in panel.values], True
    else:
        weights, ordered = list(panel.values), panel.ordered
    # By absolute value, since negative contributions matter as much as positive ones.
    best = sorted(range(len(weights)), key=lambda place: (-abs(weights[place]), place))[:count]
    return sorted(best) if ordered else sorted(best, key=lambda place: (-weights[place], place))


def _bars(picture: Picture, panel: Bars, order: Sequence[int], y: float) -> float:
    tails = panel.tails or [""] * len(panel.names)
    lines = [(panel.names[place], tails[place], panel.values[place], False) for place in order]
    left = sorted(set(range(len(panel.names))) - set(order))
    if left:
        lines.append((f"{len(left):,} others", "", sum(panel.values[place] for place in left), True))
    lines += [(name, "", value, True) for name, value in (panel.rest or {}).items()]
    # Summed rows have a number but no bar: at its scale, the bars of single rows would vanish.
    values = [0.0, *(panel.values[place] for place in order)]
    low, high = min(values), max(values)
    start, room = MARGIN + LABELS + 16, WIDTH - 2 * MARGIN - LABELS - 16
    # Numbers stand beyond the ends of bars: leave 84 units on the right, and on the left if a value is negative.
    begin, end = start + (84 if low < 0 else 0), start + room - 84
    unit = (end - begin) / ((high - low) or 1)
    zero = begin - low * unit
    picture.parts.append(Box(zero - 0.5, y, 1, ROW * len(lines), GREY))
    for name, tail, value, other in lines:
        label = fitted(name, LABELS - width_of(tail, 14), 14) + tail
        picture.parts.append(Words(MARGIN + LABELS, y + 18, label, 14, "end", GREY if other else INK))
        length = 0.0 if other else abs(value) * unit
        left_of = value < 0 and not other
        picture.parts.append(
            Box(zero - length if left_of else zero, y + 5, length, ROW - 10, LESS if left_of else MORE)
        )
        text = _number(value, signed=low < 0 or panel.total is not None)
        at = Words(zero + length + 6, y + 18, text, 13, fill=GREY if other else INK)
        picture.parts.append(at._replace(x=zero - length - 6, anchor="end") if left_of else at)
        y += ROW
    if panel.total is not None:
        picture.parts.append(Box(MARGIN, y + 4, WIDTH - 2 * MARGIN, 1, FAINT))
        picture.parts.append(Words(MARGIN + LABELS, y + 24, "sum: the score", 14, "end", bold=True))
        picture.parts.append(Words(zero + 6, y + 24, _number(panel.total, signed=True), 13, bold=True))
        y += 30
    return y


def _grid(picture: Picture, panel: Grid, order: Sequence[int], y: float) -> float:
    start, room = MARGIN + LABELS + 16, WIDTH - 2 * MARGIN - LABELS - 16
    wide = min(84.0, room / len(panel.columns))
    words = [column.split(" head ") for column in panel.columns]
    for number, parts in enumerate(words):
        middle = start + (number + 0.5) * wide
        if len(parts) == 2 and (number == 0 or words[number - 1][0] != parts[0]):
            same = sum(other[0] == parts[0] for other in words)
            picture.parts.append(Words(start + (number + same / 2) * wide, y + 14, parts[0], 13, "middle", GREY))
        text = f"head {parts[1]}" if len(parts) == 2 and wide >= 56 else parts[-1]
        picture.parts.append(Words(middle, y + 32, text, 13, "middle", GREY))
    y += 40
    top = max((max(row) for row in panel.values), default=0.0) or 1.0
    for place in order:
        picture.parts.append(Words(MARGIN + LABELS, y + 18, fitted(panel.names[place], LABELS, 14), 14, "end"))
        for number, value in enumerate(panel.values[place]):
            share = value / top
            picture.parts.append(Box(start + number * wide, y + 1, wide - 2, ROW - 2, _shade(share)))
            if wide >= 34:
                ink = "#ffffff" if share > 0.5 else INK
                middle = start + (number + 0.5) * wide - 1
                picture.parts.append(Words(middle, y + 18, f"{value:.2f}", 13, "middle", ink))
        y += ROW
    left = len(panel.names) - len(order)
    if left:
        others = [
            sum(row[n] for p, row in enumerate(panel.values) if p not in order) for n in range(len(panel.columns))
        ]
        picture.parts.append(Words(MARGIN + LABELS, y + 18, f"{left} others together", 14, "end", GREY))
        if wide >= 34:
            for number, value in enumerate(others):
                middle = start + (number + 0.5) * wide - 1
                picture.parts.append(Words(middle, y + 18, f"{value:.2f}", 13, "middle", GREY))
        y += ROW
    return y


def _shade(share: float) -> str:
    """A colour from nearly white to dark blue, evenly spaced in lightness, for values from 0 to 1."""
    ends = [(240, 245, 250), (107, 160, 205), (8, 48, 107)]
    place = min(1.0, max(0.0, share)) * (len(ends) - 1)
    one, two = list(pairwise(ends))[min(int(place), len(ends) - 2)]
    part = place - min(int(place), len(ends) - 2)
    return "#" + "".join(f"{round(a + (b - a) * part):02x}" for a, b in zip(one, two, strict=True))


def _number(value: float, *, signed: bool) -> str:
    """A number with three significant digits, but no more than five decimals."""
    size = abs(value)
    digits = max(0, 2 - math.floor(math.log10(size))) if size >= 1e-5 else 3
    text = f"{value:+.{min(5, digits)}f}" if signed else f"{value:.{min(5, digits)}f}"
    return text.replace("-", "−")  # the minus sign is as wide as the plus sign


def width_of(text: str, size: float) -> float:
    """The approximate width of a text in units, in a sans-serif font that is not narrow."""
    total = 0.0
    for letter in text:
        if unicodedata.east_asian_width(letter) in "WF":
            total += 1.0
        else:
            total += 0.36 if letter in NARROW else 0.98 if letter in BROAD else 0.7 if letter.isupper() else 0.62
    return total * size


def fitted(text: str, width: float, size: float) -> str:
    """The text, truncated with … to fit a width."""
    if width_of(text, size) <= width:
        return text
    while text and width_of(text + "…", size) > width:
        text = text[:-1]
    return text.rstrip(" ,(") + "…"


def svg(picture: Picture) -> str:
    """The picture as a standalone SVG document."""
    parts = [f'<rect width="{WIDTH}" height="{picture.height:g}" fill="#ffffff"/>']
    for part in picture.parts:
        if isinstance(part, Box):
            place = f'x="{part.x:.1f}" y="{part.y:.1f}" width="{part.width:.1f}" height="{part.height:.1f}"'
            parts.append(f'<rect {place} fill="{part.fill}"/>')
        else:
            weight = ' font-weight="bold"' if part.bold else ""
            place = f'x="{part.x:.1f}" y="{part.y:.1f}" font-size="{part.size:g}" text-anchor="{part.anchor}"'
            parts.append(f'<text {place} fill="{part.fill}"{weight}>{escape(part.text)}</text>')
    size = f'width="{WIDTH}" height="{picture.height:g}" viewBox="0 0 {WIDTH} {picture.height:g}"'
    font = 'font-family="DejaVu Sans, Liberation Sans, Arial, Helvetica, sans-serif"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {font}>\n' + "\n".join(parts) + "\n</svg>\n"


def write_svg(picture: Picture, path: Path) -> None:
    """Write the picture as SVG, atomically."""
    write_text(path, svg(picture))


def write_png(picture: Picture, path: Path) -> None:
    """Write the picture as PNG, atomically."""
    image = Image.new("RGB", (WIDTH * SCALE, round(picture.height * SCALE)), "#ffffff")
    pen = ImageDraw.Draw(image)
    anchors = {"start": "ls", "middle": "ms", "end": "rs"}
    for part in picture.parts:
        if isinstance(part, Box):
            corners = [part.x, part.y, part.x + part.width, part.y + part.height]
            if part.width > 0:
                left, top, right, bottom = (round(corner * SCALE) for corner in corners)
                pen.rectangle([left, top, max(left, right - 1), max(top, bottom - 1)], fill=part.fill)
        else:
            font, own = _font(part.size * SCALE, bold=part.bold)
            text = unicodedata.normalize("NFKD", part.text).encode("ascii", "ignore").decode() if own else part.text
            place = part.x * SCALE, part.y * SCALE
            pen.text(place, text, fill=part.fill, font=font, anchor=anchors[part.anchor])
    with replacing(path) as temporary:
        image.save(temporary, format="PNG", dpi=(300, 300))


def _font(size: float, *, bold: bool) -> tuple[Any, bool]:
    """A font, and whether it is Pillow's own."""
    names = [name.replace("Sans.", "Sans-Bold.").replace("-Regular", "-Bold") for name in FONTS] if bold else []
    for name in (*names, *FONTS):
        try:
            return ImageFont.truetype(name, size), False
        except OSError:
            continue
    return ImageFont.load_default(size), True
