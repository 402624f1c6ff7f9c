"""Charts put things where their values are, name them, and tell them apart without colour."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recgraph.reporting.charts import COLOURS, Interval, Series, bars, curves, forest, marker, scatter, ticks

X = [0.02, 1.0, 300.0]
Y = [0.1, 0.3, 0.2]


def marks(drawing: str) -> list[tuple[str, float, float]]:
    """(class, x, y) of each marker."""
    found = re.findall(r'class="mark (c\d)" transform="translate\(([^ ]+) ([^)]+)\)', drawing)
    return [(kind, float(x), float(y)) for kind, x, y in found]


def test_a_scatter_is_logarithmic_across_and_linear_up() -> None:
    drawing = scatter([Series("A", 3, X, Y)], "label", x="s", y="ndcg")
    points = marks(drawing)
    assert {kind for kind, _, _ in points} == {"c3"}
    (_, x0, y0), (_, x1, y1), (_, x2, y2) = points
    assert (x1 - x0) / (x2 - x0) == pytest.approx(math.log(50) / math.log(15_000), abs=0.002)
    assert (y1 - y0) / (y2 - y0) == pytest.approx(2, abs=0.01)
    assert y1 < y0  # more is higher
    numbers = {text: (float(x), float(y)) for x, y, text in re.findall(r'tick" x="(.*?)" y="(.*?)".*?>(.*?)<', drawing)}
    assert numbers["1"][0] == pytest.approx(x1, abs=0.11)  # axes say where things are
    assert numbers["0.20"][1] - 4 == pytest.approx(y2, abs=0.11)  # 4 below its rule, for the height of a figure


def test_bars_start_at_zero() -> None:
    drawing = bars(["q1", "q2"], [Series("A", 0, [0, 1], [0.1, 0.4]), Series("B", 1, [1], [0.2])], "label", y="ndcg")
    heights = [float(text) for text in re.findall(r'height="([\d.]+)"', drawing)]
    assert [height / heights[0] for height in heights] == pytest.approx([1, 4, 2], abs=0.02)
    bottoms = [float(y) + float(h) for y, h in re.findall(r'class="bar.*?" y="([\d.]+)".*?height="([\d.]+)"', drawing)]
    assert bottoms == pytest.approx([bottoms[0]] * 3, abs=0.11)


def test_an_interval_is_around_its_value_and_on_its_side_of_zero() -> None:
    drawing = forest([Interval("A", 0, 0.2, 0.1, 0.3), Interval("B", 1, -0.1, -0.3, 0.1)], "label", x="difference")
    zero = float(re.findall(r'class="zero" d="M([\d.]+)', drawing)[0])
    spans = [tuple(map(float, pair)) for pair in re.findall(r'class="line \w+" d="M([\d.]+) [\d.]+L([\d.]+)', drawing)]
    (_, a, _), (_, b, _) = marks(drawing)
    assert zero < spans[0][0] < a < spans[0][1]
    assert spans[1][0] < b < zero < spans[1][1]
    assert a - zero == pytest.approx(2 * (zero - b), abs=0.3)


def test_lines_and_bands_follow_their_points() -> None:
    one = Series("A", 0, [1, 2, 3], [0.2, 0.3, 0.4], [0.1, 0.2, 0.3], [0.3, 0.4, 0.5])
    drawing = curves([one, Series("B", 1, [], [0.25], flat=True)], "label", x="epoch", y="ndcg")
    line = re.findall(r'class="line c0" d="M(.*?)"', drawing)[0]
    x, y = zip(*(map(float, point.split()) for point in line.split("L")), strict=True)
    assert x[1] - x[0] == pytest.approx(x[2] - x[1], abs=0.11)
    assert y[0] - y[1] == pytest.approx(y[1] - y[2], abs=0.11)
    band = re.findall(r'class="band c0" d="M(.*?)Z"', drawing)[0].split("L")
    assert len(band) == 6
    level = re.findall(r'class="line level c1" d="M\S+ (\S+?)L', drawing)[0]
    assert float(level) == pytest.approx((y[0] + y[1]) / 2, abs=0.11)


@pytest.mark.parametrize(
    "drawing",
    [
        curves([Series('<b>"&', 0, [1], [0.2])], '<i>"&', x="<", y="&"),
        curves([Series("one", 0, [5, 6], [0.2, 0.2])], "label", x="epoch", y="flat"),
        scatter([Series('<b>"&', 0, [1.0], [0.2])], '<i>"&', x="<", y="&"),
        scatter([Series("all", 0, X, [0.0, 0.0, 0.0])], "label", x="s", y="none"),
        bars(["<g>"], [Series("<b>", 0, [0], [0.0])], "label", y="<"),
        forest([Interval("<b> & a name that is so long that it needs two lines", 0, 0.0, 0.0, 0.0)], "<i>", x="<"),
    ],
)
def test_drawings_are_well_formed_named_and_finite(drawing: str) -> None:
    tree = ElementTree.fromstring(drawing)
    assert tree.get("role") == "img"
    assert tree.get("aria-label")
    assert "nan" not in drawing
    assert "inf" not in drawing
    assert not {node.tag for node in tree.iter()} - {"svg", "path", "text", "rect", "title"}


def test_values_that_differ_by_rounding_alone_are_drawn_as_equal() -> None:
    near = math.nextafter(0.1234, 1.0)
    one, other = marks(scatter([Series("A", 0, [1.0], [0.1234]), Series("B", 1, [2.0], [near])], "t", x="s", y="ndcg"))
    assert one[2] == other[2]


def test_no_two_styles_share_colour_and_marker() -> None:
    shapes = {(style % COLOURS, re.sub(r'class="mark c\d" ', "", marker(style, 0, 0))) for style in range(64)}
    assert len(shapes) == 64


def test_ticks_of_tiny_values() -> None:
    assert ticks(0, 1e-13) == [0, 2e-14, 4e-14, 6e-14, 8e-14, 1e-13]


@given(low=st.floats(-1e4, 1e4), span=st.floats(1e-3, 1e4), count=st.integers(2, 8))
def test_ticks_are_round_evenly_spaced_and_inside(low: float, span: float, count: int) -> None:
    found = ticks(low, low + span, count)
    assert len(found) <= count + 1
    assert all(low - 1e-6 * span <= tick <= low + span * (1 + 1e-6) for tick in found)
    if len(found) > 1:
        step = (found[-1] - found[0]) / (len(found) - 1)
        power = 10.0 ** math.floor(math.log10(step * 1.001))
        factor = round(step / power, 2)  # 12 digits are kept, of which a narrow span far from 0 uses up many
        assert factor in (1, 2, 5)
        assert found[0] / (factor * power) == pytest.approx(round(found[0] / (factor * power)), rel=1e-9, abs=1e-5)
