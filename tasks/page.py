"""What a stage shows on its Prefect page: how far it is while it works; then links to its MLflow run and to Ray, its curve and its numbers.

One progress artifact and one Markdown artifact a stage: each is a request, and a line has a dozen stages. Numbers with their history are MLflow's.
"""

from __future__ import annotations

import base64
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import cast
from uuid import UUID

from prefect.artifacts import create_markdown_artifact, create_progress_artifact, update_progress_artifact

from modelyard import page_style
from modelyard.printable import markdown
from modelyard.store.artifacts import Built

SECONDS = 3.0
"""Between two updates of a progress artifact."""
WIDTH, HEIGHT = 640, 220
ROWS = 40


class Progress:
    """The progress artifact of a stage, made when there is something to show."""

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self.artifact: UUID | None = None
        self.shown = 0.0

    def __call__(self, done: int, total: int, unit: str) -> None:
        """Show ``done`` of ``total`` units, now and then and at the end."""
        now = time.monotonic()
        if total <= 0 or (now - self.shown < SECONDS and done < total):
            return
        self.shown = now
        share = min(100.0, 100.0 * done / total)
        if self.artifact is None:
            made = create_progress_artifact(share, key=f"{key(self.stage)}-progress", description=f"{self.stage}, in {unit}s")
            self.artifact = cast(UUID, made)  # a coroutine only in asynchronous flows
        else:
            update_progress_artifact(self.artifact, share)


def show(built: Built, directory: Path | None, tracked: str, dashboard: str, store: str) -> None:
    """The page of a finished stage; ``directory`` holds its files where its curve is to be drawn, empty links are left out."""
    made = built.artifact
    links = [f"[MLflow run]({tracked})" if tracked else "", f"[Ray dashboard]({dashboard})" if dashboard else "", f"`{store}`"]
    lines = [f"## {made.name} {'found' if built.cached else f'built in {made.seconds:.0f} s'}", "", " · ".join(filter(None, links)), ""]
    if directory is not None and (points := losses(directory / "history.jsonl")):
        image = base64.b64encode(drawn(points).encode()).decode()
        lines += [f"![loss by step](data:image/svg+xml;base64,{image})", ""]
    lines += [
        "| metric | value |",
        "| --- | ---: |",
        *(f"| {markdown(name)} | {value:.6g} |" for name, value in list(made.metrics.items())[:ROWS]),
    ]
    create_markdown_artifact("\n".join(lines), key=key(made.name), description=made.ref)


def key(name: str) -> str:
    """An artifact key: lower case letters, digits and dashes."""
    return "".join(letter if letter.isalnum() else "-" for letter in name.lower())


def losses(history: Path) -> list[tuple[float, float]]:
    """(step, loss) of a training history; empty where there is none."""
    if not history.is_file():
        return []
    rows = [json.loads(line) for line in history.read_text("utf-8").splitlines()]
    found = [(row["step"], next((value for name, value in row.items() if name.endswith("/loss")), None)) for row in rows]
    return [(float(step), float(value)) for step, value in found if value is not None and math.isfinite(value)]


def drawn(points: Sequence[tuple[float, float]]) -> str:
    """A line through ``points`` as SVG, with its ends named."""
    (left, right), (low, high) = ((min(values), max(values)) for values in zip(*points, strict=True))
    across, up = (WIDTH - 80) / (right - left or 1), (HEIGHT - 40) / (high - low or 1)
    path = " ".join(f"{60 + (x - left) * across:.1f},{10 + (high - y) * up:.1f}" for x, y in points)
    text = f'<text x="{{}}" y="{{}}" font-family="sans-serif" font-size="12" fill="{page_style.FAINT}" text-anchor="{{}}">{{}}</text>'
    labels = [
        text.format(54, 18, "end", f"{high:.4g}"),
        text.format(54, HEIGHT - 26, "end", f"{low:.4g}"),
        text.format(60, HEIGHT - 8, "start", f"step {left:g}"),
        text.format(WIDTH - 20, HEIGHT - 8, "end", f"step {right:g}"),
    ]
    frame = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}">'
    return f'{frame}<polyline points="{path}" fill="none" stroke="{page_style.FIRST}" stroke-width="2"/>{"".join(labels)}</svg>'
