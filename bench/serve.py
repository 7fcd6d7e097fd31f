"""Serving beside ``transformers serve``: the same weights and conversations, both servers as their users start them, in turn.

``python -m bench.serve HF_DIR``. Every client asks one conversation after the other, greedily and streamed, until the requests of
its round are done. Requests and new tokens a second are of the whole round; time to the first text is the median over requests.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NamedTuple

import httpx
import typer

from bench.program import program

TOPICS = ("rain", "bread", "bridges", "the moon", "whales", "clocks", "rice", "glass", "wolves", "salt", "trains", "coffee", "maps", "ice")
START_SECONDS = 300.0


class Side(NamedTuple):
    """A server: how it is started and what it calls the model."""

    name: str
    command: list[str]
    model: str
    environment: dict[str, str]


class Round(NamedTuple):
    """What some clients at once got."""

    requests: float
    """A second."""
    tokens: float
    """New ones a second, as the server counts them."""
    first: float
    """Median seconds to the first text."""


def sides(model: Path, threads: int, rows: int) -> list[Side]:
    """Ours, and transformers' server plain and with continuous batching."""
    ours = [sys.executable, "-m", "modelyard", "serve", str(model), "--threads", str(threads), "--rows", str(rows), "--waiting", "256"]
    theirs = [str(Path(sys.executable).parent / "transformers"), "serve", str(model), "--device", "cpu", "--dtype", "float32"]
    capped = {"OMP_NUM_THREADS": str(threads)}
    return [
        Side("modelyard", [*ours, "--port"], model.name, {}),
        Side("transformers", [*theirs, "--port"], str(model), capped),
        Side("transformers batched", [*theirs, "--continuous-batching", "--port"], str(model), capped),
    ]


@contextmanager
def started(side: Side) -> Iterator[str]:
    """The server's address while it runs. Raises RuntimeError where it does not answer."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [*side.command, str(port)], env={**os.environ, **side.environment}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            try:
                httpx.get(f"http://127.0.0.1:{port}/health", timeout=5)
                break
            except httpx.TransportError:
                time.sleep(0.5)
        else:
            raise RuntimeError(f"{side.name} did not start")
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(60)


def ask(url: str, model: str, topic: str, new: int) -> tuple[float, int, str]:
    """One streamed answer: seconds to the first text, new tokens, the text."""
    messages = [{"role": "user", "content": f"Write a long text about {topic}."}]
    body = {
        "model": model,
        "messages": messages,
        "max_tokens": new,
        "temperature": 0.0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    begun, first, tokens, text = time.perf_counter(), 0.0, 0, ""
    with httpx.stream("POST", f"{url}/chat/completions", json=body, timeout=600) as answer:
        answer.raise_for_status()
        for line in answer.iter_lines():
            if not line.startswith("data: {"):
                continue
            event = json.loads(line.removeprefix("data: "))
            for choice in event.get("choices", ()):
                if piece := choice["delta"].get("content"):
                    first = first or time.perf_counter() - begun
                    text += piece
            if event.get("usage"):
                tokens = event["usage"]["completion_tokens"]
    return first, tokens, text


def measured(url: str, model: str, clients: int, requests: int, new: int) -> tuple[Round, list[str]]:
    """``requests`` conversations by ``clients`` at once."""
    topics = [f"{TOPICS[i % len(TOPICS)]} in {1900 + i}" for i in range(requests)]
    begun = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        answers = list(pool.map(lambda topic: ask(url, model, topic, new), topics))
    seconds = time.perf_counter() - begun
    tokens = sum(count for _, count, _ in answers)
    return Round(requests / seconds, tokens / seconds, statistics.median(first for first, _, _ in answers)), [
        text for _, _, text in answers
    ]


def main(
    model: Annotated[Path, typer.Argument(metavar="HF_DIR", help="A Hugging Face directory with a chat template.")],
    clients: Annotated[list[int], typer.Option(help="At once.")] = [1, 8, 32],
    requests: Annotated[int, typer.Option(help="Of each round, at least two a client.")] = 16,
    new_tokens: int = 32,
    threads: int = 2,
    rows: int = 8,
) -> None:
    """Measure and print a line for each server and number of clients."""
    texts: dict[int, Sequence[str]] = {}
    found: dict[tuple[str, int], Round] = {}
    for side in sides(model, threads, rows):
        try:
            with started(side) as url:
                ask(url, side.model, "nothing", 2)  # weights are loaded by the first request of some
                for count in clients:
                    asked = max(requests, 2 * count)
                    found[side.name, count], said = measured(url, side.model, count, asked, new_tokens)
                    same = sum(a == b for a, b in zip(said, texts.setdefault(count, said), strict=True))
                    show(side.name, count, asked, found[side.name, count], found["modelyard", count], same)
        except (RuntimeError, httpx.HTTPError) as error:
            print(f"{side.name}: {type(error).__name__}: {error}", flush=True)


def show(name: str, clients: int, requests: int, got: Round, ours: Round, same: int) -> None:
    """One line, with how often ours is as fast."""
    speed = f"{got.requests:7.3f} requests/s {got.tokens:7.1f} new tokens/s  first text {got.first:6.2f} s"
    ratios = f"ours: {ours.requests / got.requests:5.2f}x requests, {ours.tokens / max(got.tokens, 1e-9):5.2f}x tokens"
    print(f"{name:22s} {clients:3d} clients {speed}   {ratios};  {same} of {requests} texts the same", flush=True)


if __name__ == "__main__":
    sys.exit(program(main))
