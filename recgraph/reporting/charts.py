"""Charts as inline SVG: with searchable text and the page's colours, without scripts.

The style of a series is a number, which determines its colour and marker in every chart. No two styles below 64 share
both, so series can be told apart without relying on colour alone.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

COLOURS = 8
"""Number of series colours in the page's style sheet, as classes c0 to c7."""

WIDTH, HEIGHT = 440, 280
"""Size of a chart in SVG units: two fit side by side on a desktop screen, and on a phone letters keep 10 pixels."""

LEFT, RIGHT, TOP, BOTTOM = 48, 14, 26, 40
"""Margins, which hold the labels of the axes."""

MARKERS = (
    "M-1 0a1 1 0 1 0 2 0a1 1 0 1 0-2 0z",  # circle
    "M-.9-.9h1.8v1.8h-1.8z",  # square
    "M0-1.2L1.1.8h-2.2z",  # triangle
    "M0-1.3L1.3 0L0 1.3L-1.3 0z",  # diamond
    "M0 1.2L1.1-.8h-2.2z",  # triangle that points down
    "M-.4-1.2h.8v.8h.8v.8h-.8v.8h-.8v-.8h-.8v-.8h.8z",  # plus
    "M-1.4-.6h2.8v1.2h-2.8z",  # bar
    "M0-1.4L.45-.5L1.3-.4L.7.3L.85 1.2L0 .75L-.85 1.2L-.7.3L-1.3-.4L-.45-.5z",  # star
)
"""SVG paths centred on the origin, about 2 units wide and high."""

Scale = Callable[[float], float]


@dataclass(frozen=True)
class Series:
    """A named series of points.

    Attributes:
        name: name of the series.
        style: number of its colour and marker.
        x, y: coordinates of the points.
        low, high: edges of a band around `y`; empty for none.
        flat: draw the only value of `y` as a horizontal line across the chart.
    """

    name: str
    style: int
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    flat: bool = False


@dataclass(frozen=True)
class Interval:
    """A value with its interval, drawn on a separate line."""

    name: str
    style: int
    value: float
    low: float
    high: float


def curves(series: Sequence[Series], label: str, *, x: str, y: str) -> str:
    """A line chart over a whole-numbered axis, with bands."""
    every = [value for one in series for value in (*one.y, *one.low, *one.high)]
    epochs = [value for one in series for value in one.x]
    across = linear(min([*epochs, 1], default=1), max([*epochs, 2], default=2), LEFT, WIDTH - RIGHT)
    up, marks = _fitted(every)
    parts = [_frame(across, up, [t for t in ticks(*_span(epochs)) if t == int(t)], marks, x, y)]
    for one in sorted(series, key=lambda one: not one.flat):
        if one.flat:
            parts.append(_path([(LEFT, up(one.y[0])), (WIDTH - RIGHT, up(one.y[0]))], "line level", one))
            parts.append(marker(one.style, WIDTH - RIGHT, up(one.y[0]), one.name))
            continue
        there = [(across(at), up(value)) for at, value in zip(one.x, one.y, strict=True)]
        if one.low:
            edge = [(across(at), up(value)) for at, value in zip(one.x, one.low, strict=True)]
            back = [(across(at), up(value)) for at, value in zip(one.x, one.high, strict=True)]
            parts.append(_path([*edge, *reversed(back)], "band", one, closed=True))
        parts.append(_path(there, "line", one))
        # About six markers identify a line without hiding it; their first point differs by style, to avoid overlap.
        every_nth = max(1, len(there) // 6)
        shown = range(one.style % every_nth, len(there), every_nth)
        parts += [marker(one.style, *there[n], f"{one.name}, {one.x[n]:g}: {one.y[n]:.4g}", 3.5) for n in shown]
    return svg(parts, label)


def scatter(series: Sequence[Series], label: str, *, x: str, y: str) -> str:
    """A scatter chart over a logarithmic axis; `x` must be positive."""
    values = [value for one in series for value in one.x]
    steps = [factor * 10.0**power for power in range(-6, 9) for factor in (1, 2, 5)]
    least = max(step for step in steps if step <= min(values) * (1 + 1e-9))
    most = min(step for step in steps if step >= max(values) * (1 - 1e-9) and step > least)
    inside = [step for step in steps if least <= step <= most]
    if len(inside) > 7:
        inside = [step for step in inside if math.isclose(math.log10(step) % 1, 0, abs_tol=1e-9)]
    line = linear(math.log10(least), math.log10(most), LEFT + 8, WIDTH - RIGHT - 8)
    up, marks = _fitted([value for one in series for value in one.y])
    parts = [_frame(lambda value: line(math.log10(value)), up, inside, marks, x, y)]
    for one in series:
        for at, value in zip(one.x, one.y, strict=True):
            parts.append(marker(one.style, line(math.log10(at)), up(value), f"{one.name}, {at:g} s: {value:.4f}", 5))
    return svg(parts, label)


def bars(groups: Sequence[str], series: Sequence[Series], label: str, *, y: str) -> str:
    """A bar chart from zero, by group and within groups by series; the `x` of a series are indices of groups."""
    top = max([value for one in series for value in one.y] + [1e-9])
    marks = ticks(0, top)
    up = linear(0, max(top * 1.08, marks[-1]), HEIGHT - BOTTOM, TOP)
    room = (WIDTH - LEFT - RIGHT) / len(groups)
    wide = min(26.0, 0.82 * room / len(series))
    parts = [_frame(lambda value: value, up, [], marks, "", y)]
    for number, group in enumerate(groups):
        middle = LEFT + (number + 0.5) * room
        parts.append(f'<text class="tick" x="{_n(middle)}" y="{HEIGHT - BOTTOM + 16}" {MIDDLE}>{escape(group)}</text>')
    for place, one in enumerate(series):
        for position, value in zip(one.x, one.y, strict=True):
            middle = LEFT + (position + 0.5) * room + (place + 0.5 - len(series) / 2) * wide
            height = up(0) - up(value)
            parts.append(
                f'<rect class="bar {_colour(one.style)}" x="{_n(middle - 0.42 * wide)}" y="{_n(up(value))}" '
                f'width="{_n(0.84 * wide)}" height="{_n(height)}">'
                f"<title>{escape(one.name)}, {escape(groups[int(position)])}: {value:.4f}</title></rect>"
            )
            parts.append(marker(one.style, middle, up(value) - 6, one.name, min(3.5, 0.4 * wide)))
    return svg(parts, label)


def forest(intervals: Sequence[Interval], label: str, *, x: str) -> str:
    """A forest plot: values with their intervals, one below the other, with a line at zero."""
    names = [textwrap.wrap(one.name, 26, break_on_hyphens=False) or [""] for one in intervals]
    left = 14 + 6.7 * max(len(line) for lines in names for line in lines)
    right = WIDTH - 62
    low, high = min(0.0, *(one.low for one in intervals)), max(0.0, *(one.high for one in intervals))
    pad = 0.04 * (high - low or 1)
    across = linear(low - pad, high + pad, left, right)
    heights = [max(26, 15 * len(lines) + 9) for lines in names]
    bottom = 10 + sum(heights)
    parts = []
    marks = ticks(low - pad, high + pad, max(3, int((right - left) / 45)))
    for tick in marks:
        kind = "zero" if tick == 0 else "rule"
        parts.append(f'<path class="{kind}" d="M{_n(across(tick))} 6V{bottom}"/>')
        text = _text(tick, marks)
        parts.append(f'<text class="tick" x="{_n(across(tick))}" y="{bottom + 16}" {MIDDLE}>{text}</text>')
    parts.append(f'<text class="axis" x="{_n((left + right) / 2)}" y="{bottom + 34}" {MIDDLE}>{escape(x)}</text>')
    y = 10
    for one, lines, height in zip(intervals, names, heights, strict=True):
        middle = y + height / 2
        for number, line in enumerate(lines):
            at = middle + 4.5 + 15 * (number - (len(lines) - 1) / 2)
            parts.append(f'<text x="0" y="{_n(at)}">{escape(line)}</text>')
        ends = [(across(one.low), middle), (across(one.high), middle)]
        parts.append(_path(ends, "line", Series(one.name, one.style, (), ())))
        about = f"{one.name}: {one.value:+.4f}, {one.low:+.4f} to {one.high:+.4f}"
        parts.append(marker(one.style, across(one.value), middle, about, 5))
        parts.append(f'<text class="tick" x="{WIDTH}" y="{_n(middle + 4.5)}" {END}>{one.value:+.4f}</text>')
        y += height
    return svg(parts, label, bottom + 42)


def marker(style: int, x: float, y: float, about: str = "", size: float = 4) -> str:
    """The marker of a style; `about` is its tooltip."""
    title = f"<title>{escape(about)}</title>" if about else ""
    shape = MARKERS[(style + style // COLOURS) % len(MARKERS)]
    place = f"translate({_n(x)} {_n(y)})scale({_n(size)})"
    return f'<path class="mark {_colour(style)}" transform="{place}" d="{shape}">{title}</path>'


def svg(parts: Sequence[str], label: str, height: float = HEIGHT) -> str:
    """An SVG drawing with a label for screen readers."""
    opening = f'<svg viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{escape(label)}">'
    return f"{opening}{''.join(parts)}</svg>"


def linear(low: float, high: float, start: float, end: float) -> Scale:
    """The linear scale that maps `low` to `start` and `high` to `end`."""
    return lambda value: start + (end - start) * (value - low) / ((high - low) or 1)


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round numbers from `low` to `high`: multiples of 1, 2 or 5 times a power of ten."""
    if high <= low:
        return [low]
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    return [float(f"{n * step:.12g}") for n in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


MIDDLE, END = 'text-anchor="middle"', 'text-anchor="end"'


def _frame(across: Scale, up: Scale, columns: Sequence[float], rows: Sequence[float], x: str, y: str) -> str:
    """Grid lines, tick labels and names of both axes; the vertical axis's name is above it, so it can be horizontal."""
    parts = [f'<text class="axis" x="0" y="12">{escape(y)}</text>']
    for value in rows:
        parts.append(f'<path class="rule" d="M{LEFT} {_n(up(value))}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 6}" y="{_n(up(value) + 4)}" {END}>{_text(value, rows)}</text>')
    for value in columns:
        parts.append(f'<path class="rule" d="M{_n(across(value))} {HEIGHT - BOTTOM}v4"/>')
        text = _text(value, columns) if columns[0] == int(columns[0]) else f"{value:g}"
        parts.append(f'<text class="tick" x="{_n(across(value))}" y="{HEIGHT - BOTTOM + 17}" {MIDDLE}>{text}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text class="axis" x="{_n(middle)}" y="{HEIGHT - 4}" {MIDDLE}>{escape(x)}</text>')
    return "".join(parts)


def _fitted(values: Sequence[float]) -> tuple[Scale, list[float]]:
    """A vertical scale that fits the values, and its ticks."""
    low, high = _span(values)
    pad = 0.06 * (high - low)
    return linear(low - pad, high + pad, HEIGHT - BOTTOM, TOP), ticks(low - pad, high + pad)


def _span(values: Sequence[float]) -> tuple[float, float]:
    """The minimum and maximum, widened if they are equal but for rounding, which no tick could show."""
    low, high = min(values), max(values)
    around = abs(low) * 0.05 or 0.5
    return (low, high) if high - low > 1e-9 * max(abs(low), abs(high)) else (low - around, high + around)


def _path(points: Sequence[tuple[float, float]], kind: str, one: Series, *, closed: bool = False) -> str:
    d = "M" + "L".join(f"{_n(x)} {_n(y)}" for x, y in points) + ("Z" if closed else "")
    return f'<path class="{kind} {_colour(one.style)}" d="{d}"><title>{escape(one.name)}</title></path>'


def _colour(style: int) -> str:
    return f"c{style % COLOURS}"


def _text(value: float, among: Sequence[float]) -> str:
    """A tick's label, with as many decimals as distinguish it from its neighbours."""
    step = min((b - a for a, b in pairwise(among)), default=abs(value) or 1)
    return f"{value:.{max(0, -math.floor(math.log10(step) + 1e-9))}f}"


def _n(value: float) -> str:
    """A coordinate, rounded to keep the SVG small."""
    return f"{round(value, 1) + 0.0:.1f}".removesuffix(".0")
