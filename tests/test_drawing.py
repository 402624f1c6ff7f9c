"""Pictures: nothing overlaps or leaves the page, titles are cut, signs and sums are there, both formats are of one list."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from itertools import combinations
from pathlib import Path

import pytest
from PIL import Image

from recgraph.explaining.drawing import (
    MARGIN,
    WIDTH,
    Box,
    Picture,
    Words,
    draw,
    fitted,
    shown_rows,
    svg,
    width_of,
    write_png,
    write_svg,
)
from recgraph.explaining.explanation import Explanation
from recgraph.explaining.panels import Bars, Grid

LONG = "Dr. Strangelove or: How I Learned to Stop Worrying and Love the Bomb (1963), Director's Cut"
FILMS = [LONG, "Amélie", "七人の侍 (Seven Samurai) 七人の侍七人の侍七人の侍七人の侍", *(f"Film {n}" for n in range(17))]
ADDS = [1.5, -0.75, *(0.01 * n for n in range(18))]
PANELS = [
    Bars("Because of", FILMS, ADDS, "what adds up", rest={"a constant " * 9: 0.25}, total=sum(ADDS) + 0.25),
    Bars("Paths", FILMS[:3], [0.1, 0.0, -2000.0], tails=[" → user 12345678"] * 3, total=1.0),
    Grid(
        "Attention " * 20, FILMS, [f"block {b} head {h}" for b in (1, 2) for h in (1, 2)], [[0.05, 0.7, 0.0, 1.0]] * 20
    ),
    Grid("Many heads", FILMS[:2], [f"block {b} head {h}" for b in range(1, 5) for h in range(1, 9)], [[0.5] * 32] * 2),
]
EXPLANATION = Explanation("a-user", "42", LONG * 2, 1.2345, PANELS)


def extent(words: Words) -> tuple[float, float]:
    width = width_of(words.text, words.size)
    start = {"start": words.x, "middle": words.x - width / 2, "end": words.x - width}[words.anchor]
    return start, start + width


def test_nothing_overlaps_or_leaves_the_page() -> None:
    picture = draw(EXPLANATION, "SASRec / ml-100k")
    words = [part for part in picture.parts if isinstance(part, Words)]
    assert len(words) > 100
    for part in words:
        start, end = extent(part)
        assert start >= MARGIN - 1, part
        assert end <= WIDTH - MARGIN + 10, part
        assert part.y <= picture.height
    for one, two in combinations(words, 2):
        if abs(one.y - two.y) < 0.8 * max(one.size, two.size):
            (a, b), (c, d) = extent(one), extent(two)
            assert b <= c or d <= a, (one, two)
    for box in picture.parts:
        if isinstance(box, Box):
            assert box.width >= 0
            assert box.x >= MARGIN - 1
            assert box.x + box.width <= WIDTH - MARGIN + 1


def test_bars_show_signs_in_their_direction_and_are_as_long_as_their_values() -> None:
    panel = Bars("Because of", ["a", "b", "c"], [2.0, -1.0, 0.5], total=1.5)
    picture = draw(Explanation("u", "i", None, 1.5, [panel]))
    zero, first, third, second, _ = (part for part in picture.parts if isinstance(part, Box))
    middle = zero.x + 0.5
    assert first.x == middle
    assert second.x + second.width == pytest.approx(middle)
    assert first.width == pytest.approx(2 * second.width) == pytest.approx(4 * third.width)
    texts = [part.text for part in picture.parts if isinstance(part, Words)]
    assert [text for text in texts if text[0] in "+−"] == ["+2.00", "+0.500", "−1.00", "+1.50"]


def test_a_user_without_history_is_drawn() -> None:
    """Of whom nothing adds to the score but a constant."""
    panel = Bars("Because of", [], [], rest={"a constant": 0.25}, total=0.25)
    texts = [part.text for part in draw(Explanation("u", "i", None, 0.25, [panel])).parts if isinstance(part, Words)]
    assert {"a constant", "+0.250"} <= set(texts)


def test_what_is_not_shown_is_summed_up() -> None:
    texts = [part.text for part in draw(EXPLANATION, rows=2).parts if isinstance(part, Words)]
    assert "18 others" in texts
    assert f"+{sum(ADDS[2:]):.2f}" in texts
    assert texts.count("18 others together") == 1
    assert texts[texts.index("18 others together") + 1] == "0.90"  # of 20 rows of .05


def test_the_largest_are_shown_and_those_of_a_history_in_its_order() -> None:
    values = [0.1, -0.9, 0.5, 0.3]
    assert shown_rows(Bars("", ["a"] * 4, values), 2) == [2, 1]
    assert shown_rows(Bars("", ["a"] * 4, values, ordered=True), 2) == [1, 2]
    assert shown_rows(Grid("", ["a"] * 3, ["b"], [[0.1], [0.3], [0.2]]), 2) == [1, 2]


@pytest.mark.parametrize("user", ["A2IBPI20UZIR0U", "W" * 80])
def test_the_heading_stays_on_the_page(user: str) -> None:
    heading = draw(Explanation(user, "i", "W" * 90, 1.0, [])).parts[0]
    assert heading.x + width_of(heading.text, heading.size) <= WIDTH
    assert f" for user {user[:14]}" in heading.text


def test_titles_are_cut_where_they_must_be() -> None:
    assert fitted("Heat", 100, 14) == "Heat"
    cut = fitted(LONG, 200, 14)
    assert cut.endswith("…")
    assert LONG.startswith(cut[:-1])
    assert 150 < width_of(cut, 14) <= 200


def test_svg_is_well_formed_and_escaped(tmp_path: Path) -> None:
    panel = Bars("Fish & <chips>", ["Q&A"], [1.0])
    write_svg(draw(Explanation("u", "i", None, 1.0, [panel])), tmp_path / "one.svg")
    root = ET.fromstring((tmp_path / "one.svg").read_text(encoding="utf-8"))
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "Fish & <chips>" in texts
    assert "Q&A" in texts
    assert ET.fromstring(svg(Picture(10.0))) is not None


def test_json_holds_everything() -> None:
    found = json.loads(json.dumps(EXPLANATION.as_json()))
    assert [panel["kind"] for panel in found["panels"]] == ["bars", "bars", "grid", "grid"]
    assert found["panels"][0]["names"] == FILMS
    assert found["panels"][2]["values"][0] == [0.05, 0.7, 0.0, 1.0]


def test_png_has_the_picture(tmp_path: Path) -> None:
    picture = draw(EXPLANATION)
    write_png(picture, tmp_path / "one.png")
    with Image.open(tmp_path / "one.png") as found:
        assert found.size == (2 * WIDTH, round(2 * picture.height))
        box = next(part for part in picture.parts if isinstance(part, Box) and part.width > 50)
        pixel = found.getpixel((round(2 * (box.x + box.width / 2)), round(2 * (box.y + box.height / 2))))
        assert "#" + "".join(f"{value:02x}" for value in pixel) == box.fill
        assert found.getpixel((2, 2)) == (255, 255, 255)
