"""Results as one HTML page that needs no network: tables with intervals, and plots as embedded SVG.

Each directory that is read holds ``*.metrics.json`` of one model version, or the
``*analysis.json`` of analyses. Versions in the order given are a chain: the page shows each benchmark's score by version with its interval and
the change that each step made (GPT-Fathom's evolution figure; the alignment tax is the fall between base and aligned). Only equal benchmark
ids are compared. Left out: significance of changes (``release.compare`` tests pairs).
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment

Results = dict[str, dict[str, Any]]
"""Benchmark -> contents of its ``.metrics.json``."""

TEMPLATE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Evaluation</title>
<style>body{font:15px system-ui;margin:2em auto;max-width:70em;padding:0 1em}table{border-collapse:collapse;margin:1em 0}
td,th{padding:.3em .8em;border-bottom:1px solid #ccc;text-align:right}td:first-child,th:first-child{text-align:left}
.up{color:#17722f}.down{color:#a11}svg{max-width:100%;height:auto}</style>
<h1>Evaluation</h1>
{% if rows %}<h2>Versions</h2><table><tr><th>benchmark</th>{% for name in versions %}<th>{{ name }}</th>{% endfor %}</tr>
{% for row in rows %}<tr><td>{{ row.name }} ({{ row.metric }})</td>{% for cell in row.cells %}<td>{{ cell.text }}
{% if cell.change is not none %}<br><span class="{{ 'up' if cell.change >= 0 else 'down' }}">{{ '%+.4f'|format(cell.change) }}</span>{% endif %}</td>
{% endfor %}</tr>{% endfor %}</table>{{ evolution|safe }}
<p>95% bootstrap intervals over items; the second line of a cell is the change from the version before. A dash: not measured, or measured by
another benchmark id.</p>{% endif %}
{% for item in analyses %}<h2>{{ item.analysis }}: {{ item.benchmark }} ({{ item.label }})</h2><table>
<tr><th>variant</th><th>score</th><th>standard error</th><th>95% interval</th><th>n</th></tr>{% for name, s in item.scores.items() %}
<tr><td>{{ name }}</td><td>{{ '%.4f'|format(s.value) }}</td><td>{{ number(s.stderr) }}</td><td>{{ number(s.low) }} to {{ number(s.high) }}</td>
<td>{{ s.n }}</td></tr>{% endfor %}</table><p>Spread: {{ '%.4f'|format(item.spread.lowest) }} to {{ '%.4f'|format(item.spread.highest) }}, standard
deviation {{ '%.4f'|format(item.spread.deviation) }} between variants.</p>{{ item.figure|safe }}{% endfor %}</html>"""


def number(value: float | None) -> str:
    """Four digits, or a dash."""
    return "-" if value is None else f"{value:.4f}"


def read(directory: Path) -> tuple[Results, list[dict[str, Any]]]:
    """Results by benchmark, and analyses. Raises ValueError where the directory holds neither."""
    results = {}
    for path in sorted(directory.glob("*.metrics.json")):
        content = json.loads(path.read_text("utf-8"))
        results[content["benchmark"]] = content
    analyses = [json.loads(path.read_text("utf-8")) for path in sorted(directory.glob("*analysis.json"))]
    if not results and not analyses:
        raise ValueError(f"{directory}: no *.metrics.json and no analysis.json")
    return results, analyses


def evolution_rows(versions: Mapping[str, Results]) -> list[dict[str, Any]]:
    """For each benchmark its first metric by version and the change from the version before; ids that differ from the first are left out."""
    names = dict.fromkeys(name for results in versions.values() for name in results)
    rows = []
    for name in names:
        own = [results.get(name) for results in versions.values()]
        first = next(entry for entry in own if entry)
        metric = next(iter(first["metrics"]))
        cells, before = [], None
        for entry in own:
            if entry is None or entry["benchmark_id"] != first["benchmark_id"]:
                cells.append({"text": "-", "change": None, "score": None})
                continue
            score = entry["metrics"][metric]
            text = f"{score['value']:.4f} [{number(score['low'])}, {number(score['high'])}]"
            cells.append({"text": text, "change": None if before is None else score["value"] - before, "score": score})
            before = score["value"]
        rows.append({"name": name, "metric": metric, "cells": cells})
    return rows


def figure(lines: Mapping[str, Sequence[tuple[str, dict[str, Any]]]]) -> str:
    """SVG: for each line its points in order with their intervals."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(9, 3.5), layout="constrained")
    axes = drawing.add_subplot()
    for name, points in lines.items():
        values = [score["value"] for _, score in points]
        errors = [[max(0.0, v - (s["low"] if s["low"] is not None else v)) for v, (_, s) in zip(values, points, strict=True)],
                  [max(0.0, (s["high"] if s["high"] is not None else v) - v) for v, (_, s) in zip(values, points, strict=True)]]  # fmt: skip
        axes.errorbar([label for label, _ in points], values, yerr=errors, marker="o", capsize=3, label=name)
    axes.grid(axis="y", alpha=0.3)
    if len(lines) > 1:
        axes.legend(fontsize=8, ncols=2)
    text = io.StringIO()
    drawing.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()[text.getvalue().index("<svg") :]


def render(sources: Mapping[str, Path]) -> str:
    """The page of version label -> directory."""
    found = {label: read(directory) for label, directory in sources.items()}
    versions = {label: results for label, (results, _) in found.items() if results}
    rows = evolution_rows(versions)
    labels = list(versions)
    lines = {
        row["name"]: [(label, cell["score"]) for label, cell in zip(labels, row["cells"], strict=True) if cell["score"]] for row in rows
    }
    analyses = [
        {**entry, "label": label, "figure": figure({entry["benchmark"]: list(entry["scores"].items())})}
        for label, (_, own) in found.items()
        for entry in own
    ]
    template = Environment(autoescape=True).from_string(TEMPLATE)
    return template.render(rows=rows, versions=labels, evolution=figure(lines) if len(labels) > 1 else "", analyses=analyses, number=number)
