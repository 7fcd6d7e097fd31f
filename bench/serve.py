"""Serving beside ``transformers serve``: the same weights and conversations, each server as its users start it and alone, in turn.

``python -m bench.serve HF_DIR [--json OUT]``. Every client asks one conversation after the other, greedily and streamed, until the requests of its
round are done. Requests and new tokens a second are of the whole round; time to the first text and of the whole answer are over its requests.
The last column counts the answers whose text is ours: another text may be as good, but is other work.

``python -m bench.serve MODEL --filter CLASSIFIER`` (``release``, for a version of the registry, or a directory with an abuse model) measures
instead what judging costs: our server with ``--classifier CLASSIFIER`` and with ``none``, both up, asked in turn in blocks. Answers that the
classifier ends early would look fast, so only requests that both answered whole count.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import Annotated, Any, NamedTuple

import httpx
import numpy as np
import typer

from bench.program import REPORT, program
from modelyard.stats.estimate import Estimate, bootstrap

TOPICS = ("rain", "bread", "bridges", "the moon", "whales", "clocks", "rice", "glass", "wolves", "salt", "trains", "coffee", "maps", "ice")
START_SECONDS = 300.0
CACHE = ("--cb-block-size", "32", "--cb-num-blocks", "512", "--cb-max-batch-tokens", "512")
"""Of transformers' continuous batching: keys and values of 16,384 tokens. By itself it takes most of the machine's free memory."""
BLOCKS = 5
"""Turns of each server with and without a filter."""


class Side(NamedTuple):
    """A server: how it is started and what it calls the model."""

    name: str
    command: list[str]
    model: str
    environment: dict[str, str]


class Answer(NamedTuple):
    """One streamed answer."""

    first: float
    """Seconds to the first text; NaN where there was none."""
    whole: float
    """Seconds to the end."""
    tokens: int
    """New ones, as the server counts them."""
    text: str
    finish: str


class Round(NamedTuple):
    """What some clients at once got."""

    requests: float
    """A second."""
    tokens: float
    """New ones a second."""
    first: float
    """Median seconds to the first text."""
    p50: float
    """Of seconds to the end of an answer."""
    p99: float


def ours(model: str, threads: int, rows: int, classifier: str) -> list[str]:
    """The command that starts our server, but for the port."""
    options = [
        "--threads",
        str(threads),
        "--rows",
        str(rows),
        "--waiting",
        "256",
        "--book",
        "none",
        "--classifier",
        classifier,
        "--follow",
        "0",
    ]
    return [sys.executable, "-m", "modelyard", "serve", model, *options, "--port"]


def peers(model: Path, threads: int, dtype: str) -> list[Side]:
    """Transformers' server, plain and with continuous batching."""
    command = [str(Path(sys.executable).parent / "transformers"), "serve", str(model), "--device", "cpu", "--dtype", dtype]
    capped = {"OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
    return [
        Side("transformers", [*command, "--port"], str(model), capped),
        Side("transformers, batched", [*command, "--continuous-batching", *CACHE, "--port"], str(model), capped),
    ]


@contextmanager
def started(side: Side) -> Iterator[str]:
    """The server's address while it runs. Raises RuntimeError where it does not answer."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with TemporaryFile() as said:
        process = subprocess.Popen(
            [*side.command, str(port)], env={**os.environ, **side.environment}, stdout=subprocess.DEVNULL, stderr=said
        )
        try:
            deadline = time.monotonic() + START_SECONDS
            while not answers(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    said.seek(0)
                    last = said.read().decode(errors="replace").strip().splitlines()[-1:]
                    raise RuntimeError(f"did not start: {' '.join(last)}")
                time.sleep(0.5)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()
            process.wait(60)


def answers(port: int) -> bool:
    """Whether a server answers there."""
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def ask(url: str, model: str, topic: str, new: int) -> Answer:
    """One streamed answer. Raises httpx.HTTPError."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": f"Write a long text about {topic}."}],
        "max_tokens": new,
        "temperature": 0.0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    begun, first, tokens, text, finish = time.perf_counter(), float("nan"), 0, "", ""
    with httpx.stream("POST", f"{url}/chat/completions", json=body, timeout=900) as answer:
        answer.raise_for_status()
        for line in answer.iter_lines():
            if not line.startswith("data: {"):
                continue
            event = json.loads(line.removeprefix("data: "))
            for choice in event.get("choices", ()):
                finish = choice.get("finish_reason") or finish
                if piece := choice["delta"].get("content"):
                    first = time.perf_counter() - begun if np.isnan(first) else first
                    text += piece
            if event.get("usage"):
                tokens = event["usage"]["completion_tokens"]
    return Answer(first, time.perf_counter() - begun, tokens, text, finish)


def topics(count: int, start: int = 0) -> list[str]:
    """What is asked, every request something else."""
    return [f"{TOPICS[n % len(TOPICS)]} in {1900 + n}" for n in range(start, start + count)]


def measured(url: str, model: str, clients: int, asked: Sequence[str], new: int) -> tuple[Round, list[Answer]]:
    """Conversations by ``clients`` at once."""
    begun = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        found = list(pool.map(lambda topic: ask(url, model, topic, new), asked))
    seconds = time.perf_counter() - begun
    whole = np.array([one.whole for one in found])
    tokens = sum(one.tokens for one in found)
    first = float(np.nanmedian([one.first for one in found]))
    return Round(len(found) / seconds, tokens / seconds, first, float(np.median(whole)), float(np.quantile(whole, 0.99))), found


def beside(model: Path, clients: Sequence[int], requests: int, new: int, threads: int, rows: int, dtype: str) -> dict[str, Any]:
    """Ours and transformers' server."""
    if not (model / "config.json").is_file():
        raise ValueError(f"{model}: no Hugging Face directory")
    sides = [Side("modelyard", ours(str(model), threads, rows, "none"), model.name, {}), *peers(model, threads, dtype)]
    texts: dict[int, list[str]] = {}
    found: dict[str, Any] = {}
    heads = f"{'requests/s':>10} {'tokens/s':>9} {'first text':>10} {'p50':>7} {'p99':>7}"
    print(f"{'server':22} {'clients':>7} {heads}  requests and tokens, ours over theirs; texts that are ours")
    for side in sides:
        try:
            with started(side) as url:
                ask(url, side.model, "nothing", 2)  # some load their weights for the first request
                for count in clients:
                    asked = topics(max(requests, count))
                    got, said = measured(url, side.model, count, asked, new)
                    found[f"{side.name}/{count}"] = got._asdict()
                    same = sum(a.text == b for a, b in zip(said, texts.setdefault(count, [one.text for one in said]), strict=True))
                    first = found[f"modelyard/{count}"]
                    ratios = f"{first['requests'] / got.requests:5.2f} {first['tokens'] / max(got.tokens, 1e-9):5.2f}; {same} of {len(said)} texts"
                    numbers = f"{got.requests:10.3f} {got.tokens:9.1f} {got.first:10.2f} {got.p50:7.2f} {got.p99:7.2f}"
                    print(f"{side.name:22} {count:7} {numbers}  {ratios}", flush=True)
        except (RuntimeError, httpx.HTTPError) as error:
            found[side.name] = f"{type(error).__name__}: {error}"
            print(f"{side.name:22} {found[side.name]}", flush=True)
    return found


def judged(model: str, classifier: str, clients: Sequence[int], requests: int, new: int, threads: int, rows: int) -> dict[str, Any]:
    """Our server with a classifier and without."""
    called = model.removeprefix("models:/") if model.startswith("models:/") else Path(model).name
    sides = [Side(name, ours(model, threads, rows, one), called, {}) for name, one in (("with", classifier), ("without", "none"))]
    found: dict[str, Any] = {}
    with started(sides[0]) as with_it, started(sides[1]) as without:
        urls = {"with": with_it, "without": without}
        for url in urls.values():
            ask(url, called, "nothing", 2)
        for count in clients:
            said: dict[str, list[Answer]] = {"with": [], "without": []}
            for block in range(BLOCKS):
                asked = topics(max(requests // BLOCKS, 2 * count), block * requests)
                for name in list(urls) if block % 2 else reversed(urls):
                    said[name] += measured(urls[name], called, count, asked, new)[1]
            found[str(count)] = compared(said["with"], said["without"])
            print(f"{count} clients: " + ", ".join(f"{key} {value}" for key, value in found[str(count)].items()), flush=True)
    return found


def compared(with_it: Sequence[Answer], without: Sequence[Answer]) -> dict[str, str]:
    """Percentiles of the seconds of both, over requests that both answered whole, and their ratio with its interval over requests."""
    both = [n for n, (a, b) in enumerate(zip(with_it, without, strict=True)) if "content_filter" not in (a.finish, b.finish)]
    a, b = (np.array([side[n].whole for n in both]) for side in (with_it, without))

    def ratio(share: float) -> Estimate:
        return bootstrap(lambda drawn: float(np.quantile(a[drawn], share) / np.quantile(b[drawn], share)), len(both), 0)

    first = {name: float(np.nanmedian([side[n].first for n in both])) for name, side in (("with", with_it), ("without", without))}
    shown = {"answers": f"{len(both)} of {len(with_it)}", "first text": f"{first['with']:.2f} and {first['without']:.2f} s"}
    for name, share in (("p50", 0.5), ("p99", 0.99)):
        shown[name] = f"{np.quantile(a, share):.2f} and {np.quantile(b, share):.2f} s, {ratio(share)}"
    return shown


def main(
    model: Annotated[str, typer.Argument(help="A Hugging Face directory with a chat template; with --filter, any model.")],
    clients: Annotated[list[int], typer.Option(help="At once.")] = [1, 8, 32],
    requests: Annotated[int, typer.Option(help="Of each round, at least one a client.")] = 16,
    new_tokens: int = 32,
    threads: int = 2,
    rows: int = 8,
    dtype: Annotated[str, typer.Option(help="In which transformers computes; we compute in float32.")] = "float32",
    filter: Annotated[str | None, typer.Option(help="Measure what this classifier costs.", metavar="CLASSIFIER")] = None,
    report: Annotated[Path | None, REPORT] = None,
) -> None:
    """Measure and print a line for each server and number of clients."""
    if filter:
        found = judged(model, filter, clients, requests, new_tokens, threads, rows)
    else:
        found = beside(Path(model), clients, requests, new_tokens, threads, rows, dtype)
    if report:
        report.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    sys.exit(program(main))
