"""The data stage against size and workers: seconds, MB/s, peak resident memory (of the process and its Ray workers), as a table and a plot.

``python -m bench.data_scaling [--megabytes 4 16 64] [--workers 1 2] [--out DIR]``. Every run is a process of
its own, so that its memory is its own; the text is the benchmark text, repeated with numbered words beyond
its own size so that nothing is a copy. ``--megabytes 2000 --workers 2`` is the proof that memory does not
grow with the input. Counted are the stage's process and the workers that run its tasks, every half second,
without the pages that they share (Ray's object store); raylet and Ray's other servers are its own.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import psutil
import typer

from bench.program import program
from bench.real_text import texts

ROOT = Path(__file__).parents[1]


def main(
    sizes: Annotated[list[float], typer.Option("--megabytes")] = [4.0, 16.0, 64.0],
    counts: Annotated[list[int], typer.Option("--workers")] = [1, 2],
    out: Path = Path(".modelyard/bench"),
    one: Annotated[tuple[str, int] | None, typer.Option(hidden=True)] = None,
) -> None:
    """Measure every size with every number of workers."""
    if one:
        _one(*one)
        return
    out.mkdir(parents=True, exist_ok=True)
    rows = []
    for megabytes in sizes:
        for workers in counts:
            with tempfile.TemporaryDirectory(dir=out) as directory:
                _write(Path(directory), megabytes)
                command = [sys.executable, "-W", "ignore", "-m", "bench.data_scaling", "--one", directory, str(workers)]
                rows.append({"megabytes": megabytes, "workers": workers, **_watched(command)})
            print(
                "{megabytes:7g} MB  {workers} workers  {seconds:8.1f} s  {rate:6.2f} MB/s  peak {peak_mb:7.0f} MB".format(**rows[-1]),
                flush=True,
            )
    (out / "data_scaling.json").write_text(json.dumps(rows, indent=1) + "\n", "utf-8")
    _plot(rows, out / "data_scaling.png")


def _watched(command: list[str]) -> dict[str, float]:
    """What the command's last line says, and the peak of its memory in MB."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    peak = 0
    while process.poll() is None:
        peak = max(peak, _resident(process.pid))
        time.sleep(0.5)
    assert process.stdout is not None
    said = process.stdout.read()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return {**json.loads(said.splitlines()[-1]), "peak_mb": peak / 1e6}


def _resident(pid: int) -> int:
    """Bytes of the process and of the Ray workers under it, without what they share."""
    found = 0
    with contextlib.suppress(psutil.Error):
        tree = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        for process in tree:
            with contextlib.suppress(psutil.Error):
                if process.pid == pid or process.name().startswith("ray::"):
                    memory = process.memory_info()
                    found += memory.rss - memory.shared
    return found


def _write(directory: Path, megabytes: float) -> None:
    documents = texts(min(megabytes, 90))
    left, lap = megabytes * 1e6, 0
    with (directory / "text.jsonl").open("w", encoding="utf-8") as file:
        while left > 0:
            for text in documents:
                numbered = " ".join(f"{word}{lap}" if index % 3 == 0 and lap else word for index, word in enumerate(text.split(" ")))
                file.write(json.dumps({"text": numbered}) + "\n")
                left -= len(numbered)
                if left <= 0:
                    break
            lap += 1
    source = f'path = "{directory / "text.jsonl"}"\nformat = "jsonl"\nkind = "text"\nlicence = "various"\n'
    execution = f'store = "file://{directory / "store"}"\nscratch = "{directory.parent / "scratch"}"\n'
    config = f'extends = "{ROOT / "configs/data/web.toml"}"\nname = "scaling"\n[corpus.sources.text]\n{source}[execution]\n{execution}'
    (directory / "config.toml").write_text(config, "utf-8")


def _one(directory: str, workers: int) -> None:
    from modelyard.adapters.expectations import validate
    from modelyard.adapters.ray import cluster as ray_cluster
    from modelyard.adapters.ray.data import RayTransform
    from modelyard.adapters.ray.partitions import ray_partitions
    from modelyard.config import load_config
    from modelyard.data.build import DataConfig, build_corpus, store_of
    from modelyard.data.corpus.document import run_inline
    from modelyard.data.corpus.partitions import in_process
    from modelyard.progress import silent

    config = load_config(DataConfig, Path(directory) / "config.toml")
    started = time.perf_counter()
    transform = RayTransform(workers) if workers > 1 else run_inline
    partitions = ray_partitions(workers) if workers > 1 else in_process
    built = build_corpus(config, store_of(config), transform, partitions, validate, silent)
    seconds = time.perf_counter() - started
    ray_cluster.disconnect()
    rate = built.artifact.metrics["corpus/bytes/read"] / 1e6 / seconds
    print(json.dumps({"seconds": seconds, "rate": rate, "kept": built.artifact.metrics["corpus/documents/kept"]}))


def _plot(rows: list[dict[str, float]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    from modelyard.page_style import PLOT

    pyplot.rcParams.update(PLOT)
    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.6))
    for workers in sorted({row["workers"] for row in rows}):
        mine = [row for row in rows if row["workers"] == workers]
        axes[0].loglog(
            [row["megabytes"] for row in mine], [row["seconds"] for row in mine], "o-", label=f"{workers} worker" + "s" * (workers > 1)
        )
        axes[1].semilogx([row["megabytes"] for row in mine], [row["peak_mb"] for row in mine], "o-", label=f"{workers} workers")
    axes[0].set(ylabel="seconds")
    axes[1].set(ylabel="peak resident memory, MB", ylim=(0, None))
    for axis in axes:
        axis.set(xlabel="input, MB")
        axis.set_xticks(sizes := sorted({row["megabytes"] for row in rows}), [f"{size:g}" for size in sizes])
        axis.minorticks_off()
    longest = max(row["seconds"] for row in rows)
    axes[0].set_yticks(ticks := [t for t in (10, 20, 50, 100, 200, 500, 1000, 2000, 5000) if t < 2 * longest], [f"{t:g}" for t in ticks])
    axes[0].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    sys.exit(program(main))
