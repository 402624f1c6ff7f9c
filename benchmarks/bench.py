"""The benchmark: its parts, how each is run, and what is stored. Start it with run.sh."""

from __future__ import annotations

import datetime
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cyclopts
import report
import torch
from process import HERE, Process, busy_cores
from rich.console import Console

from recgraph.environment import environment
from recgraph.files import write_json

RESULTS = HERE / "results.json"
LOAD_LIMIT = 0.15
"""The most cores that other programs may use at the start: programs on the same cores slow each other down by far more
than their share."""

console = Console(stderr=True)


@dataclass(frozen=True)
class Bench:
    """Settings and helpers shared by all parts.

    Attributes:
        folder: folder for temporary files.
        threads: threads per process.
        quick: measure as little as possible.
    """

    folder: Path
    threads: int
    quick: bool

    @contextmanager
    def process(self, script: str, task: dict[str, Any]) -> Iterator[Process]:
        """Run a worker for the duration of a block."""
        environment = {"RECGRAPH_DATA": str(self.folder / "root")} if script == "loading.py" else {}
        if script in ("peer_implicit.py", "peer_rectools.py"):
            environment["OPENBLAS_NUM_THREADS"] = "1"  # implicit has its own threads, and warns if BLAS uses more
        process = Process(
            script,
            {"folder": str(self.folder), "threads": self.threads, **task},
            self.folder,
            self.threads,
            environment,
        )
        try:
            yield process
        finally:
            process.stop()

    def once(self, script: str, task: dict[str, Any]) -> dict[str, Any]:
        """The answer of a process that does one thing; `others` in it is the number of cores used by other programs."""
        console.print(f"  {script} {task}")
        with self.process(script, task) as process:
            found = process.answer()
            return {**found, "others": round(process.others / process.worked, 3)}

    def dump(self, dataset: str) -> dict[str, int]:
        """Write a dataset's split for the peers unless it exists, and return its sizes."""
        folder = self.folder / dataset
        if not folder.exists():
            self.once("ours.py", {"work": "dump", "dataset": dataset})
        sizes: dict[str, int] = json.loads((folder / "sizes.json").read_text(encoding="utf-8"))
        return sizes


Workers = dict[str, tuple[str, dict[str, Any]]]
"""Label -> script and task. The first is recgraph's, with which the others are compared."""


def compare(bench: Bench, dataset: str, workers: Workers, *, rounds: int, warm_up: bool) -> dict[str, Any]:
    """Load all workers, then let them work in turns; only one loads or works at a time.

    Args:
        rounds: timed repeats of each worker.
        warm_up: whether an untimed round comes first.
    """
    sizes = bench.dump(dataset)
    rounds = 1 if bench.quick else rounds
    with ExitStack() as stack:
        processes, loaded = {}, {}
        for label, (script, task) in workers.items():
            processes[label] = stack.enter_context(bench.process(script, {"dataset": dataset, **task}))
            loaded[label] = processes[label].answer()
            console.print(f"  {label}: loaded")
        repeats: dict[str, list[dict[str, Any]]] = {label: [] for label in workers}
        for number in range(rounds + warm_up):
            for label, process in processes.items():
                answer = process.go()
                console.print(f"  round {number}, {label}: {answer['seconds']:.4g} s")
                if number >= warm_up:
                    repeats[label].append(answer)
        others = sum(process.others for process in processes.values())
        worked = sum(process.worked for process in processes.values())
    ours = next(iter(repeats.values()))
    found = {}
    for label, answers in repeats.items():
        ratios = [theirs["seconds"] / mine["seconds"] for theirs, mine in zip(answers, ours, strict=True)]
        found[label] = {
            **{key: value for key, value in loaded[label].items() if key != "peak_mib"},
            **{key: value for key, value in answers[-1].items() if key != "seconds"},
            "repeats": [answer["seconds"] for answer in answers],
            "seconds": statistics.median(answer["seconds"] for answer in answers),
            "ratio": statistics.median(ratios),
            "ratios": [min(ratios), max(ratios)],
        }
    return {"sizes": sizes, "workers": found, "others": round(others / worked, 3)}


def lightgcn(bench: Bench, dataset: str) -> dict[str, Any]:
    """An epoch of LightGCN-BPR."""
    large = dataset == "gowalla"  # where an epoch of the peers takes minutes
    few = {"steps": 2} if bench.quick else {}
    workers: Workers = {
        "recgraph": ("ours.py", {"work": "train", "model": "lightgcn"}),
        "RecBole": (
            "peer_recbole.py",
            {"work": "train", "model": "LightGCN", **({"steps": 40, **few} if large else {})},
        ),
        "PyG": ("peer_pyg.py", {"work": "train", "batch": 2048, **({"steps": 8, **few} if large else few)}),
    }
    if large:
        larger = {"work": "train", "model": "LightGCN", "batch": 16384, "steps": 10, **few}
        workers[report.LARGER] = ("ours.py", {"work": "train", "model": "lightgcn-16k"})
        workers["RecBole, batch 16,384"] = ("peer_recbole.py", larger)
    return compare(bench, dataset, workers, rounds=3 if large else 5, warm_up=not large)


def bpr(bench: Bench, dataset: str) -> dict[str, Any]:
    """An epoch of BPR-MF."""
    workers: Workers = {
        "recgraph": ("ours.py", {"work": "train", "model": "bpr"}),
        "RecBole": ("peer_recbole.py", {"work": "train", "model": "BPR"}),
        "implicit": ("peer_implicit.py", {"work": "bpr"}),
    }
    return compare(bench, dataset, workers, rounds=5, warm_up=True)


def neumf(bench: Bench, dataset: str) -> dict[str, Any]:
    """An epoch of NeuMF."""
    workers: Workers = {
        "recgraph": ("ours.py", {"work": "run", "model": "neumf"}),
        "RecBole": ("peer_recbole.py", {"work": "train", "model": "NeuMF", "steps": 2 if bench.quick else 200}),
    }
    return compare(bench, dataset, workers, rounds=3, warm_up=False)


def sasrec(bench: Bench, dataset: str) -> dict[str, Any]:
    """An epoch of SASRec with full cross-entropy: all positions of a history at once, and each prefix as a row."""
    few = {"steps": 2 if bench.quick else 20}
    workers: Workers = {
        "recgraph": ("ours.py", {"work": "run", "model": "sasrec"}),
        "recgraph, each prefix a row": ("ours.py", {"work": "run", "model": "sasrec prefixes", **few}),
        "RecBole": ("peer_recbole.py", {"work": "train", "model": "SASRec", "batch": 128, **few}),
    }
    return compare(bench, dataset, workers, rounds=3, warm_up=False)


def rank(bench: Bench, dataset: str) -> dict[str, Any]:
    """Full ranking with metrics for all test users."""
    recbole = {"work": "rank", "model": "LightGCN"}
    workers: Workers = {
        "recgraph": ("ours.py", {"work": "rank", "model": "lightgcn"}),
        "RecBole": ("peer_recbole.py", recbole),
        "RecBole, 2 M scores a batch": ("peer_recbole.py", {**recbole, "scores": 2_000_000}),
        "implicit": ("peer_implicit.py", {"work": "rank"}),
        "RecTools": ("peer_rectools.py", {"work": "rank"}),
    }
    return compare(bench, dataset, workers, rounds=4, warm_up=False)


def ials(bench: Bench, dataset: str) -> dict[str, Any]:
    """Ten epochs of implicit ALS, 64 dimensions; ours is exact, implicit's default takes 3 conjugate-gradient steps."""
    options = {"factors": 64, "iterations": 10, "use_gpu": False}
    workers: Workers = {
        "recgraph": ("ours.py", {"work": "fit", "baseline": {"name": "ials", "dim": 64, "epochs": 10}}),
        "implicit, conjugate gradients": ("peer_implicit.py", {"work": "fit", "model": "als", "options": options}),
        "implicit, exact": (
            "peer_implicit.py",
            {"work": "fit", "model": "als", "options": {**options, "use_cg": False}},
        ),
    }
    return compare(bench, dataset, workers, rounds=3, warm_up=True)


def item_knn(bench: Bench, dataset: str) -> dict[str, Any]:
    """The 100 nearest neighbours of each item by cosine."""
    workers: Workers = {
        "recgraph": ("ours.py", {"work": "fit", "baseline": {"name": "item_knn", "neighbours": 100}}),
        "implicit": ("peer_implicit.py", {"work": "fit", "model": "cosine", "options": {"K": 100}}),
    }
    return compare(bench, dataset, workers, rounds=3, warm_up=True)


def contrast(bench: Bench, dataset: str) -> dict[str, Any]:
    """Steps of contrastive rows, compared with LightGCN-BPR; most labels give the encoder passes per step."""
    rows = {
        "LightGCN-BPR, 1 pass": "lightgcn",
        "XSimGCL, 1 pass": "xsimgcl",
        "SimGCL, 3 passes": "simgcl",
        "SGL-ED against the batch, 3 passes": "sgl-ed",
        "LightGCL, 2 passes": "lightgcl",
        "NCL, 1 pass": "ncl",
        "DirectAU, 1 pass": "directau",
        "BSL, 512 in-batch negatives, 1 pass": "bsl",
        "LightGCN-BPR, batch 16,384": "lightgcn-16k",
        "XSimGCL, batch 16,384": "xsimgcl-16k",
    }
    # A few steps in turn, for the machine's pace drifts more within minutes than these differ. All are of one epoch.
    workers: Workers = {
        label: ("ours.py", {"work": "train", "model": row, "steps": 4 if row.endswith("16k") else 30})
        for label, row in rows.items()
    }
    return compare(bench, dataset, workers, rounds=11, warm_up=True)


def content(bench: Bench, dataset: str) -> dict[str, Any]:
    """An epoch of hybrids with content, compared with the graph encoder alone."""
    rows = {"LightGCN": "known", "hybrid": "hybrid", "hybrid + contrast": "hybrid and contrast"}
    workers: Workers = {label: ("ours.py", {"work": "run", "model": row}) for label, row in rows.items()}
    return compare(bench, dataset, workers, rounds=5, warm_up=True)


def matmul(bench: Bench, dataset: str) -> dict[str, Any]:
    """Inner products with torch and with recgraph."""
    return bench.once("matmul.py", {"repeats": 3 if bench.quick else 50})


def floor(bench: Bench, dataset: str) -> dict[str, Any]:
    """The time of a step, and of ranking, relative to its matrix products alone."""
    large = dataset == "gowalla"
    epochs = 2 if bench.quick or large else 6
    task = {"rows": ["lightgcn", "lightgcn-16k"], "epochs": epochs, "rank": large, "repeats": 1 if bench.quick else 4}
    return bench.once("floor.py", {"dataset": dataset, **task})


def sampler(bench: Bench, dataset: str) -> dict[str, Any]:
    """Triples per second on one thread."""
    return bench.once("sampler.py", {"dataset": dataset, "repeats": 1 if bench.quick else 5})


def scaling(bench: Bench, dataset: str) -> dict[str, Any]:
    """A training step on 1, 10 and 50 million edges; with item content, on 1, 5 and 25 million."""
    row, millions = ("lightgcn-16k", (1, 10, 50)) if dataset == "graph" else ("hybrid-16k", (1, 5, 25))
    steps = 3 if bench.quick else 6
    tasks = [{"row": row, "edges": n * 10**6, "steps": steps} for n in millions[: 2 if bench.quick else 3]]
    return {"sizes": [bench.once("scaling.py", task) for task in tasks]}


def data(bench: Bench, dataset: str) -> dict[str, Any]:
    """From a CSV of ten million rows to a dataset, split and graph; then the same from the cache."""
    rows, file = 10**6 if bench.quick else 10**7, str(bench.folder / "ten-million.csv")
    return {
        work: bench.once("loading.py", {"work": work, "file": file, "rows": rows})
        for work in ("generate", "import", "cache")
    }


SMALL_TO_LARGE = ("ml-100k", "lastfm", "gowalla")
KINDS: dict[Callable[[Bench, str], dict[str, Any]], Sequence[str]] = {
    lightgcn: SMALL_TO_LARGE,
    bpr: SMALL_TO_LARGE,
    neumf: ("ml-1m",),
    sasrec: ("sasrec-ml-1m",),
    rank: ("gowalla",),
    ials: ("gowalla",),
    item_knn: ("gowalla",),
    contrast: ("gowalla",),
    content: ("citeulike-a",),
    matmul: ("synthetic",),
    floor: SMALL_TO_LARGE,
    sampler: ("gowalla",),
    scaling: ("graph", "graph+content"),
    data: ("synthetic",),
}
"""Parts, with the datasets on which each is measured."""


def chosen(words: Sequence[str]) -> list[tuple[Callable[[Bench, str], dict[str, Any]], str]]:
    """The parts selected by words, which may be kinds, datasets or both."""
    every = [(kind, dataset) for kind, datasets in KINDS.items() for dataset in datasets]
    kinds, datasets = ({pair[0].__name__ for pair in every}, {pair[1] for pair in every})
    if unknown := set(words) - kinds - datasets:
        sys.exit(f"no part {sorted(unknown)}; known: {sorted(kinds)}, and of datasets {sorted(datasets)}")
    wanted = set(words)
    found = [
        (kind, dataset)
        for kind, dataset in every
        if kind.__name__ in (wanted & kinds or kinds) and dataset in (wanted & datasets or datasets)
    ]
    if not found:
        of = {kind.__name__: tuple(datasets) for kind, datasets in KINDS.items() if kind.__name__ in wanted}
        sys.exit(f"{sorted(wanted)}: no such part; the datasets of these kinds: {of}")
    return found


def machine(threads: int) -> dict[str, Any]:
    """A description of the machine; results of different machines are stored separately."""
    found = environment(torch.device("cpu"))
    kept = {key: found[key] for key in ("processor", "cores", "system", "python")}
    blas = {key: value for key, value in os.environ.items() if key.startswith(("OPENBLAS_", "MKL_", "OMP_", "KMP_"))}
    return {
        **kept,
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30),
        "threads": threads,
    } | {"environment": blas}


def main(*words: str, quick: bool = False, threads: int = 2, anyway: bool = False) -> None:
    """Time recgraph and its peers, and write results.json and the tables of README.md.

    Args:
        words: parts to measure, by kind or dataset; all by default.
        quick: only check that it runs: one short repeat, smaller data, nothing written.
        threads: threads per process.
        anyway: measure even if the machine is busy.
    """
    parts = chosen(words)
    load = busy_cores()
    if load > LOAD_LIMIT and not anyway:
        sys.exit(
            f"{load:.2f} cores are busy with something else, so no figure would mean much; --anyway measures anyway"
        )
    here = machine(threads)
    kept: list[report.Results] = (
        json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() and not quick else []
    )
    results = next((each for each in kept if each["machine"] == here), None)
    if results is None:
        results = {"machine": here, "parts": {}}
        kept.append(results)
    now = environment(torch.device("cpu"))
    with tempfile.TemporaryDirectory(prefix="recgraph-bench-") as folder:
        bench = Bench(Path(folder), threads, quick)
        for kind, dataset in parts:
            console.print(f"[bold]{kind.__name__} {dataset}")
            started = time.perf_counter()
            stamp = {
                "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                "commit": now["commit"],
                "dirty": now["dirty"],
                "load": round(load, 3),
            }
            found = kind(bench, dataset)
            took = round(time.perf_counter() - started, 1)
            results["parts"][f"{kind.__name__} {dataset}"] = {**stamp, "took": took, **found}
            if not quick:
                write_json(RESULTS, kept)
                report.update(HERE / "README.md", kept)
    Console().print(report.tables(results), markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    cyclopts.run(main)
