"""The whole data stage, raw text to token files: MB/s on some workers, processor time of each step in one process, bytes kept; beside datatrove.

``python -m bench.data_stage [--megabytes 20] [--workers 2] [--corpus code] [--text FILE.jsonl] [--peer-megabytes 2] [--json OUT]``. The text is the
benchmark text, the source code that it is taken from, or a file of JSON lines with ``text``; every second document that is no code is declared a web
page, so that every filter is asked. Rates are of the text read. A step's time excludes the steps inside it, and counts all threads of the process.
What is started once (Ray and its workers, Great Expectations' import, tables) is reported apart; the training of the abuse filter, which later
corpora find, is not counted. Every run is a process of its own. datatrove does its work (:mod:`bench.data_peer`) on a sample of the same text.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any, Literal

import pyarrow as pa
import typer

from bench import data_peer
from bench.program import REPORT, program
from bench.real_text import sources, texts
from bench.step_clock import Clock
from modelyard.data.tokens import tokenizer

ROOT = Path(__file__).parents[1]
FILTERS = ROOT / ".modelyard/bench/filters"
"""Store of the trained abuse filter, which every run begins with."""
_TOKENS = """
[tokens]
vocab_size = 32_768
seq_len = 1024
train_tokens = 1_000_000_000
tokenizer_megabytes = 200.0
seed = 0
mixture = { text = { weight = 1.0, max_epochs = 1.0 }, code = { weight = 1.0, max_epochs = 1.0 } }
"""


def main(
    megabytes: float = 20.0,
    most: Annotated[int, typer.Option("--workers")] = 2,
    corpus: Annotated[Literal["documentation", "code"], typer.Option(help="Which benchmark text.")] = "documentation",
    text: Annotated[Path | None, typer.Option(help="JSON lines with `text` instead of the benchmark text.")] = None,
    peer: Annotated[float, typer.Option("--peer-megabytes", help="Text for datatrove, 0 for none.")] = 2.0,
    report: Annotated[Path | None, REPORT] = None,
    one: Annotated[tuple[Path, int] | None, typer.Option(hidden=True)] = None,
) -> None:
    """Measure and print."""
    if one:
        print(json.dumps(_run(*one)))
        return
    measured: dict[Any, dict[str, Any]] = {}
    documents = _chosen(text, megabytes) if text else (sources if corpus == "code" else texts)(megabytes)
    for workers in dict.fromkeys((1, most)):
        with tempfile.TemporaryDirectory() as directory:
            _write(Path(directory), documents, "code" if corpus == "code" and not text else "text")
            command = [sys.executable, "-W", "ignore", "-m", "bench.data_stage", "--one", directory, str(workers)]
            said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=_threads(workers)).stdout
        measured[workers] = json.loads(said.splitlines()[-1])
        _print(workers, measured[workers])
    if peer and corpus != "code":
        measured["datatrove"] = _beside(documents, peer, measured[1])
    if report:
        report.write_text(json.dumps(measured, indent=1) + "\n", "utf-8")


def _threads(workers: int) -> dict[str, str]:
    """As many threads for the tokenizer as there are workers for the filters, which have ended by then."""
    return {**os.environ, "RAYON_NUM_THREADS": str(workers), "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": str(workers > 1).lower()}


def _print(workers: int, run: dict[str, Any]) -> None:
    print(
        "{read:.1f} MB in {documents:.0f} documents, {kept:.1%} of the bytes kept, {workers} workers: {rate:.2f} MB/s, {cpu:.0f} CPU ms/MB of the "
        "driver; before it once {fixed:.1f} s; words counted in {counted}".format(workers=workers, **run),
        flush=True,
    )
    for name, milliseconds in sorted(run["steps"].items(), key=lambda item: -item[1]):
        print(f"  {name:28s} {milliseconds:8.1f} ms/MB", flush=True)


def _beside(documents: list[str], megabytes: float, ours: dict[str, Any]) -> dict[str, float]:
    """datatrove on every so-manieth document, printed beside one worker's CPU time."""
    sample = documents[:: max(1, round(sum(map(len, documents)) / megabytes / 1e6))]
    with tempfile.TemporaryDirectory() as directory:
        tokenizer.train(sample, 32_768).save(f"{directory}/tokenizer.json")
        found = data_peer.measure(sample, Path(directory, "tokenizer.json"), Path(directory, "peer"))
    rate = found["read"] / found["seconds"]
    print(
        f"datatrove on {found['read']:.1f} MB of it, {len(sample)} documents: {rate:.3f} MB a CPU s, {found['kept'] / found['read']:.1%} of the "
        f"bytes kept; ours {1000 / ours['cpu']:.2f}, {1000 / ours['cpu'] / rate:.1f} times",
        flush=True,
    )
    return found


def _chosen(path: Path, megabytes: float) -> list[str]:
    found: list[str] = []
    size = 0.0
    with path.open(encoding="utf-8") as file:
        for line in file:
            found.append(json.loads(line)["text"])
            size += len(found[-1].encode("utf-8", "surrogatepass"))
            if size >= megabytes * 1e6:
                break
    return found


def _write(directory: Path, documents: list[str], kind: str) -> None:
    declared = ""
    for name, part, web in (("plain", documents[::2], "false"), ("pages", documents[1::2], "true")):
        (directory / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in part), "utf-8")
        declared += f'[corpus.sources.{name}]\npath = "{directory / name}.jsonl"\nformat = "jsonl"\nkind = "{kind}"\nlicence = "various"\n'
        declared += f"web = {web if kind == 'text' else 'false'}\n"
    execution = f'[execution]\nstore = "file://{directory / "store"}"\nscratch = "{ROOT / ".modelyard/bench/scratch"}"\n'
    head = f'extends = "{ROOT / "configs/data/web.toml"}"\nname = "stage"\n'
    (directory / "config.toml").write_text(head + declared + _TOKENS + execution, "utf-8")


def _watch(clock: Clock) -> None:
    """Put the clock around every step."""
    from modelyard.data.corpus import build, expectations, shard
    from modelyard.data.filters import c4, duplicates, gopher, language, normalise, passages, pii, quality, screen, words
    from modelyard.data.filters.abuse import AbuseFilter
    from modelyard.data.tokens import order, token_files

    clock.generator(shard, "rows", "reading")
    clock.function(screen.Screen, "__call__", "screen: tables and rows")
    for owner, attribute, name in (
        (normalise, "normalise", "normalise"),
        (language, "identify", "language"),
        (pii, "redact", "personal data"),
        (words, "characters", "words and lines"),
        (words, "words", "words and lines"),
        (screen, "layout", "words and lines"),
        (quality, "judge", "quality"),
        (gopher, "judge", "gopher"),
        (c4, "cut", "c4"),
        (passages, "cut", "repeated passages"),
        (AbuseFilter, "refuse", "abuse"),
        (duplicates, "signatures", "signatures"),
        (duplicates, "exact_key", "exact keys"),
        (shard, "process", "look-up and writing"),
        (shard, "finish", "look-up and writing"),
        (build, "_write", "report and expectations"),
        (expectations, "check", "report and expectations"),
        (tokenizer, "train", "tokenizer training"),
        (token_files, "_write_files", "encoding and token files"),
        (order, "mixed", "mixture"),
    ):
        clock.function(owner, attribute, name)


def _run(directory: Path, workers: int) -> dict[str, Any]:
    """One corpus and its token files."""
    from modelyard.adapters.expectations import validate
    from modelyard.adapters.ray import cluster as ray_cluster
    from modelyard.adapters.ray.data import RayTransform
    from modelyard.adapters.ray.partitions import ray_partitions
    from modelyard.config import load_config
    from modelyard.data.build import DataConfig, build_corpus, build_tokens, store_of
    from modelyard.data.corpus.document import run_inline
    from modelyard.data.corpus.partitions import in_process
    from modelyard.data.corpus.trained import abuse_filter
    from modelyard.data.filters import native
    from modelyard.progress import silent
    from modelyard.store.artifacts import Store

    config = load_config(DataConfig, directory / "config.toml")
    store = store_of(config)
    abuse_filter(config.corpus.filters.abuse, Store(f"file://{FILTERS}", config.execution.scratch), store.scratch / "sources", [""])
    shutil.copytree(FILTERS, directory / "store")
    begun = time.perf_counter()
    transform = RayTransform(workers) if workers > 1 else run_inline
    list(transform([pa.table({"text": ["a"]})] * 4 * workers, _warmed))
    fixed = time.perf_counter() - begun
    clock = Clock()
    if workers == 1:
        _watch(clock)
    started, cpu = time.perf_counter(), time.process_time()
    partitions = ray_partitions(workers) if workers > 1 else in_process
    corpus = build_corpus(config, store, transform, partitions, validate, silent).artifact
    build_tokens(config, store, corpus, silent)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    clock.enter("")
    ray_cluster.disconnect()
    read, kept = (corpus.metrics[f"corpus/bytes/{which}"] / 1e6 for which in ("read", "kept"))
    return {
        "read": read,
        "documents": corpus.metrics["corpus/documents/read"],
        "kept": kept / read,
        "rate": read / seconds,
        "cpu": 1000 * cpu / read,
        "fixed": fixed,
        "counted": "C" if native.available() else "NumPy",
        "steps": {name: 1000 * spent / read for name, spent in clock.seconds.items()} if workers == 1 else {},
    }


def _warmed(table: pa.Table) -> pa.Table:
    """Import and make what is imported and made once a process."""
    import great_expectations

    from modelyard.data.filters import language, pii, scripts, words

    assert great_expectations.__version__
    words.words(words.characters(["a\u3042"]), apostrophes=True, unspaced=True)
    scripts.table()
    language.detected("A sentence that is warm enough.")
    pii.redact("(650) 253-0000", pii.PiiConfig(kinds=["phone"], region="US"), "en")
    return table


if __name__ == "__main__":
    sys.exit(program(main))
