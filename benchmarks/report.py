"""Makes the tables of README.md from results.json."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from tabulate import tabulate

from recgraph.files import write_text

BEGIN, END = "<!-- results -->", "<!-- end of results -->"

Results = dict[str, Any]
Part = dict[str, Any]

BUSY = 0.1
"""A part's table gives a warning if other programs used more cores than this while it was measured."""


LARGER = "recgraph, batch 16,384"
"""Label of recgraph's worker with large batches."""


def update(readme: Path, kept: Iterable[Results]) -> None:
    """Put the tables between the markers of README.md.

    Raises:
        ValueError: a marker is missing.
    """
    text = readme.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{readme}: expected {BEGIN} and {END}")
    blocks = "\n\n".join(tables(results) for results in kept)
    write_text(readme, f"{before}{BEGIN}\n\n{blocks}\n\n{END}{after}")


def tables(results: Results) -> str:
    """All tables of a machine, as Markdown."""
    blocks = []
    for kind, (title, make) in SECTIONS.items():
        parts = {name.split()[1]: part for name, part in results["parts"].items() if name.split()[0] == kind}
        if parts:
            blocks += [f"### {title}", make(parts), _origin(parts)]
    return "\n\n".join([_machine(results), *blocks])


def _machine(results: Results) -> str:
    found = results["machine"]
    packages: dict[str, str] = {}
    for part in results["parts"].values():
        for worker in part.get("workers", {}).values():
            packages |= worker["packages"]
    text = (
        f"{found['processor']}, {found['cores']} cores, {found['memory_gib']} GiB, {found['system']}, Python "
        f"{found['python']}; {found['threads']} threads each."
    )
    if packages:
        # NumPy and SciPy are in both environments, in different versions.
        listed = ", ".join(f"{name} {version}" for name, version in packages.items() if name not in ("numpy", "scipy"))
        text += f" Versions: {listed}."
    return text


def _origin(parts: dict[str, Part]) -> str:
    sources = dict.fromkeys(
        f"{(part['commit'] or 'unknown')[:8]}{' with changes' if part['dirty'] else ''} on {part['date'][:10]}"
        for part in parts.values()
    )
    text = f"Commit {', '.join(sources)}."
    others = {name: max(_others(part)) for name, part in parts.items()}
    busy = [f"{name} ({cores:.2f} cores)" for name, cores in others.items() if cores > BUSY]
    return text + (f" **Other programs were running:** {', '.join(busy)}." if busy else "")


def _others(value: Any) -> Iterator[float]:
    """All values under keys `others` in a part, at any depth."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from [inner] if key == "others" else _others(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _others(inner)


def _compared(unit: str) -> Callable[[dict[str, Part]], str]:
    """Make a function that renders a table comparing libraries, with times per `unit`."""

    def make(parts: dict[str, Part]) -> str:
        rows = []
        for dataset, part in parts.items():
            ours = next(iter(part["workers"].values()))
            for label, worker in part["workers"].items():
                low, high = worker["ratios"]
                measured = f"{len(worker['repeats'])} × "
                measured += f"{worker['steps']} of {worker['of']} steps" if "steps" in worker else unit
                rows.append(
                    [
                        dataset,
                        label,
                        _digits(worker["seconds"]),
                        f"{worker['ratio']:.2f} ({low:.2f}–{high:.2f})" if worker is not ours else "1",
                        *_beside(worker["load_seconds"], ours["load_seconds"]),
                        worker["peak_mib"],
                        f"{worker['peak_mib'] / ours['peak_mib']:.2f}",
                        measured,
                        *(f"{worker.get('metrics', {}).get(name, '')}"[:9] for name in _metrics(part)),
                    ]
                )
        names = _metrics(next(iter(parts.values())))
        head = [
            "data",
            "library",
            f"s/{unit}",
            "× ours",
            "s to load",
            "× ours",
            "peak MiB",
            "× ours",
            "measured",
            *names,
        ]
        cached = {dataset: next(iter(part["workers"].values()))["cached_seconds"] for dataset, part in parts.items()}
        notes = [f"recgraph's second load, from its cache: {_parts(cached)} s."]
        for dataset, part in parts.items():
            if LARGER in part["workers"]:
                ratio = part["workers"]["RecBole"]["seconds"] / part["workers"][LARGER]["seconds"]
                notes.append(f"RecBole's epoch of {dataset} at batch 2,048 takes {ratio:.1f} times ours at 16,384.")
        return "\n\n".join([_table(head, rows), *notes])

    return make


def _digits(value: float) -> str:
    """A number with three significant digits; from 100 on, rounded to an integer."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _beside(seconds: float | None, ours: float) -> tuple[str, str]:
    return ("–", "–") if seconds is None else (f"{seconds:.2f}", f"{seconds / ours:.2f}")


def _metrics(part: Part) -> list[str]:
    """Names of the metrics that workers report."""
    return list(dict.fromkeys(name for worker in part["workers"].values() for name in worker.get("metrics", {})))


def _floor(parts: dict[str, Part]) -> str:
    head = [
        "data",
        "batch",
        "ms/step",
        "ms/product",
        "by",
        "products",
        "step / products",
        "batch alone, ms",
        "Adam alone, ms",
    ]
    rows = [
        [
            dataset,
            step["batch"],
            f"{step['step'] * 1e3:.2f}",
            f"{step['product'] * 1e3:.3g}",
            step["way"],
            step["products"],
            f"{step['ratio']:.2f}",
            f"{step['batches'] * 1e3:.2f}",
            f"{step['adam'] * 1e3:.2f}",
        ]
        for dataset, part in parts.items()
        for step in part["steps"]
    ]
    text = _table(head, rows)
    for dataset, part in parts.items():
        if part["rank"]:
            rank = part["rank"]
            text += (
                f"\n\nRanking {rank['users']:,} users of {dataset}: {rank['evaluate']:.2f} s. The bare matrix "
                f"products, {rank['chunk']} users at a time: {rank['products']:.2f} s. Ratio: {rank['ratio']:.2f}."
            )
    return text


def _matmul(parts: dict[str, Part]) -> str:
    rows = [
        [
            " × ".join(map(str, shape["shape"])),
            *(
                text
                for way in ("forward", "both_ways")
                for text in (
                    *(f"{shape[name][way] * 1e3:.2f}" for name in ("torch", "recgraph")),
                    f"{shape['torch'][way] / shape['recgraph'][way]:.2f}",
                )
            ),
        ]
        for shape in parts["synthetic"]["shapes"]
    ]
    return _table(
        ["rows × width × columns", "@, ms", "ours, ms", "@ / ours", "and back, ms", "ours, ms", "@ / ours"], rows
    )


def _sampler(parts: dict[str, Part]) -> str:
    rows = [
        [dataset, f"{rate['items']:,}", f"{rate['whole']:.1f}", f"{rate['negatives']:.1f}"]
        for dataset, part in parts.items()
        for rate in part["rates"]
    ]
    return _table(["density of", "items", "million triples/s", "negatives alone"], rows)


def _scaling(parts: dict[str, Part]) -> str:
    rows = [
        [
            name,
            f"{size['edges']:,}",
            f"{size['nodes']:,}",
            f"{size['step']:.3f}",
            f"{size['step'] / size['edges'] * 1e9:.0f}",
            size["step_peak_mib"],
            f"{size['step_peak_mib'] / size['edges'] * 2**20:.0f}",
            f"{size['first_step']:.2f}",
            f"{size['build_seconds']:.1f}",
            size["build_peak_mib"],
        ]
        for name, part in parts.items()
        for size in part["sizes"]
    ]
    head = [
        "data",
        "edges",
        "nodes",
        "s/step",
        "ns/edge",
        "peak MiB",
        "bytes/edge",
        "s to first step",
        "s to build",
        "peak MiB",
    ]
    return _table(head, rows)


def _data(parts: dict[str, Part]) -> str:
    part = parts["synthetic"]
    rows = [
        [title, f"{part[work]['seconds']:.2f}", part[work]["peak_mib"], _parts(part[work]["parts"])]
        for work, title in (("import", "first time"), ("cache", "from the cache"))
    ]
    size = part["generate"]
    return f"{size['rows']:,} rows, {size['mib']} MiB of CSV.\n\n" + _table(["", "s", "peak MiB", "of which"], rows)


def _parts(seconds: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.2f}" for name, value in seconds.items())


def _table(head: list[str], rows: list[list[Any]]) -> str:
    align = ["left" if name in ("data", "library", "measured", "", "of which") else "right" for name in head]
    return tabulate(rows, head, tablefmt="github", disable_numparse=True, colalign=align)


SECTIONS: dict[str, tuple[str, Callable[[dict[str, Part]], str]]] = {
    "lightgcn": ("LightGCN-BPR, an epoch", _compared("epoch")),
    "bpr": ("BPR-MF, an epoch", _compared("epoch")),
    "neumf": ("NeuMF, an epoch", _compared("epoch")),
    "sasrec": ("SASRec, an epoch", _compared("epoch")),
    "rank": ("Full ranking with metrics", _compared("ranking")),
    "ials": ("Implicit ALS, ten epochs of 64 dimensions", _compared("fit")),
    "item_knn": ("The 100 nearest neighbours of each item", _compared("fit")),
    "contrast": ("Contrast beside LightGCN, an epoch", _compared("epoch")),
    "content": ("Content beside LightGCN, an epoch", _compared("epoch")),
    "matmul": ("Inner products", _matmul),
    "floor": ("Distance to the floor", _floor),
    "sampler": ("Sampling on one thread", _sampler),
    "scaling": ("Growth with the graph", _scaling),
    "data": ("From a file to a graph", _data),
}
"""Kind of part -> title and function that renders its table, in the order of README.md."""
