"""Commands for trained models, and the list of components: evaluate, recommend, explain, export, list."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import polars as pl
from cyclopts import Parameter
from rich.markup import escape
from rich.table import Table

from recgraph import registry
from recgraph.cli.common import app, check_positive, console, errors, find_device, listed, read_newcomers, say
from recgraph.cli.data import list_datasets
from recgraph.errors import ConfigError, suggest
from recgraph.evaluation.metrics import OF_CLICKS, PER_USER, SCOPES, WHOLE_LIST
from recgraph.expected import mismatch
from recgraph.experiments.checking import INIT
from recgraph.experiments.running import reevaluate
from recgraph.experiments.schema import folder_name
from recgraph.explaining.drawing import draw, shown_rows, write_png, write_svg
from recgraph.explaining.explanation import explain as explained
from recgraph.explaining.panels import Bars, Grid
from recgraph.files import write_json
from recgraph.heads import Dot
from recgraph.models.blend import Blend
from recgraph.models.model import Model
from recgraph.models.newcomers import free_id
from recgraph.models.recommender import Recommender


@app.command
def evaluate(run: Path, *, metrics: str = "", device: str = "cpu") -> None:
    """Evaluate a trained model again on its own dataset and split, and print validation and test metrics.

    Where the run was fitted again, validation is that before, for the metrics of the run; – for others.

    Args:
        run: folder of a finished run.
        metrics: metrics separated by commas, such as recall@50,map@10; those of the run by default.
        device: cpu, cuda, cuda:1 ...
    """
    table = Table("metric", "validation", "test")
    for name, validation, test in reevaluate(run, listed(metrics), find_device(device)):
        table.add_row(name, "–" if validation is None else f"{validation:.4f}", f"{test:.4f}")
    console.print(table)


@app.command
def recommend(
    run: Path,
    *,
    user: str = "",
    k: Annotated[int, Parameter(name=["--k", "-k"])] = 10,
    likes: str = "",
    users: Path | None = None,
    items: Path | None = None,
    device: str = "cpu",
) -> None:
    """Print the top items for a user among those the user has not seen, with titles if the dataset has them.

    Args:
        run: folder of a finished run.
        user: original id of the user, or an id in `users`.
        k: number of items.
        likes: instead of a user, ids of items that a new user likes, separated by commas, such as 50,181,172.
        users: csv or parquet of new users, with columns `id`, `items` (the history: ids separated by |), and those of
            the run's user content.
        items: csv or parquet of new items, with columns `id` and those of the run's `content:` block; a content-aware
            model ranks them together with the known items.
        device: cpu, cuda, cuda:1 ...
    """
    if bool(user) == bool(likes):
        raise ConfigError("give either --user, the id of one, or --likes, ids of items that somebody new likes")
    model: Model
    new: set[int | str] = set()
    if items is None and users is None and not likes:
        model = Model.load(run, device=find_device(device))
    else:
        known = _with_vectors(run, device)
        if users is not None:
            known = known.add_users(read_newcomers(users))
        if likes:
            assert known.catalogue is not None  # a loaded model has one
            somebody = free_id(known.catalogue.users)
            known = known.add_users(pl.DataFrame({"id": [somebody], "items": [listed(likes)]}))
            user = str(somebody)
        if items is not None:
            there, known = known.num_items, known.add_items(read_newcomers(items))
            assert known.catalogue is not None
            new = set(known.catalogue.items.series[there:])  # ids as parsed, not as in the file: 0901 is 901
        model = known
    table = Table("", "item", "title", "score", *([] if items is None else [""]))
    for place, item in enumerate(model.recommend(user, k), start=1):
        mark = [] if items is None else ["new" if item.item in new else ""]
        table.add_row(str(place), escape(str(item.item)), escape(item.title or ""), f"{item.score:.4f}", *mark)
    console.print(table)


@app.command
def explain(
    run: Path,
    *,
    user: str,
    item: str = "",
    k: Annotated[int, Parameter(name=["--k", "-k"])] = 5,
    to: Path | None = None,
    device: str = "cpu",
) -> None:
    """Explain why an item is recommended to a user: print it, and write it as JSON, SVG and PNG.

    What is shown depends on the model: for neighbourhood, linear, pooling and graph models, the contribution of each
    item of the history to the score, for graph models also of each path through another user; attention over the
    history, by block and head or for the item (din); shares of modalities and of experts. Contributions add up to the
    score.

    Args:
        run: folder of a finished run.
        user: original id of the user.
        item: original id of the item to explain; the user's top item by default.
        k: lines printed per panel; pictures show 12, the JSON all.
        to: folder to write to; RUN/explain by default.
        device: cpu, cuda, cuda:1 ...
    """
    check_positive({"-k": k})
    found = explained(Model.load(run, device=find_device(device)), user, item or None)
    say(f"user {found.user}, item {found.item} {found.title or ''}: score {found.score:.4f}")
    for panel in found.panels:
        columns = ["adds" if panel.total is not None else "weight"] if isinstance(panel, Bars) else panel.columns
        table = Table("", *([""] if isinstance(panel, Bars) else []), *columns, title=panel.title, title_justify="left")
        order = shown_rows(panel, k)
        if isinstance(panel, Grid):
            for place in order:
                table.add_row(escape(panel.names[place]), *(f"{value:.3f}" for value in panel.values[place]))
        else:
            for place in order:
                tail = panel.tails[place] if panel.tails else ""
                table.add_row(escape(panel.names[place]), escape(tail), f"{panel.values[place]:.4g}")
            others = sum(panel.values) - sum(panel.values[place] for place in order)
            if len(panel.names) > len(order):
                table.add_row("", f"{len(panel.names) - len(order)} others", f"{others:.4f}")
            for name, value in (panel.rest or {}).items():
                table.add_row("", name, f"{value:.4f}")
        console.print(table)
    base = (to or run / "explain") / folder_name(f"user-{found.user}-item-{found.item}")
    write_json(base.with_name(f"{base.name}.json"), found.as_json())
    picture = draw(found, " / ".join(run.parts[-4:-2]))
    write_svg(picture, base.with_name(f"{base.name}.svg"))
    write_png(picture, base.with_name(f"{base.name}.png"))
    say(f"{base}.json, .svg and .png")


@app.command
def export(run: Path, *, to: Path | None = None, device: str = "cpu") -> None:
    """Write a run's user and item vectors with their original ids, as .npy and as parquet.

    Args:
        run: folder of a finished run.
        to: folder to write to; RUN/export by default.
        device: cpu, cuda, cuda:1 ...
    """
    model = _with_vectors(run, device)
    for path in model.export(to or run / "export"):
        say(str(path))
    if type(head := model.head("rank")) is not Dot:
        errors.print(f"The model scores these vectors by its head {type(head).__name__}, not by inner products.")


def _with_vectors(run: Path, device: str) -> Recommender:
    model = Model.load(run, device=find_device(device))
    if not isinstance(model, Recommender):
        kind = "blend" if isinstance(model, Blend) else "baseline"
        raise ConfigError(f"{run}: a {kind}, which has no vectors and takes no new users or items")
    return model


@app.command(name="list")
def list_components(name: str = "") -> None:
    """List every component, metric and dataset that a file can name, with a one-line description; or one in full.

    Args:
        name: a component, such as view_contrast, of which to print all: equations, sources, options and their defaults.
    """
    kinds = ("encoders", "sharings", "heads", "objectives", "balances", "views", "samplers", "splits", "baselines")
    if name:
        _describe(name, [getattr(registry, kind) for kind in kinds])
        return
    for kind in kinds:
        table = Table("name", "what it is", "options", title=kind, title_justify="left")
        for name, component in getattr(registry, kind).components().items():
            options = [*registry.options(component), *(INIT if kind == "encoders" else ())]
            table.add_row(name, escape(registry.summary(component)), ", ".join(options))
        console.print(table)
    table = Table("name", "what it is", title="metrics", title_justify="left")
    of_ranks = {f"{name}@K": metric for name, metric in {**PER_USER, **WHOLE_LIST}.items()}
    for name, metric in {**of_ranks, **OF_CLICKS}.items():
        table.add_row(name, escape(registry.summary(metric)))
    for suffix, text in SCOPES.items():
        table.add_row(f"...:{suffix}", escape(text) + ".")
    console.print(table)
    list_datasets()


def _describe(name: str, registries: Sequence[registry.Registry]) -> None:
    """Print the docstring and the options of the components of that name."""
    known = {one for each in registries for one in each.components()}
    if name not in known:
        raise ConfigError(f"no component {name!r}. {suggest(name, known)}")
    for each in registries:
        if component := each.components().get(name):
            table = Table("option", "expected", "default", title=f"{each.kind} {name}", title_justify="left")
            hints = {"init": "a baseline with vectors, or None"}
            hints |= {key: str(one.annotation) for key, one in inspect.signature(component).parameters.items()}
            init = INIT if each is registry.encoders else {}
            for option, (kind, default) in {**registry.options(component), **init}.items():
                expected = mismatch(object(), kind) or hints[option]
                table.add_row(option, escape(expected), "" if default is ... else escape(repr(default)))
            say(f"{each.kind} {name}: {inspect.getdoc(component)}\n")
            console.print(table)
