"""Pictures of what a person sees of a finished line: its pages, and with ``--servers`` its run in Prefect and its curves in MLflow. Needs Chromium.

``python -m bench.screenshots HOME OUT`` draws the pages of the newest release in ``HOME/store`` again from its artifacts, with the code that
runs, so that the pictures of the documentation show today's pages. Prefect's pages are signed in to with the home's own auth string.
"""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from bench.browser import Page, Scheme, browser
from bench.program import program

SERVERS_SETTLE_SECONDS = 20.0
SERVERS_WINDOW = (1400, 1000)
VIEWS: tuple[tuple[str, int, int, Scheme], ...] = (("", 1200, 1500, "light"), ("-dark", 1200, 1500, "dark"), ("-phone", 390, 844, "light"))
"""Suffix of the file, CSS pixels, colour scheme."""
PICTURED = ("card", "evolution", "training-content", "data-report")


@contextmanager
def shown(home: Path) -> Iterator[tuple[str, str]]:
    """Addresses of Prefect and MLflow on ``home``."""
    environment = {**os.environ, "MODELYARD_HOME": str(home), "PYTHONUNBUFFERED": "1"}
    servers = subprocess.Popen([sys.executable, "-m", "modelyard", "ui"], env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert servers.stdout is not None
        said = [servers.stdout.readline() for _ in range(2)]
        found = re.findall(r"http://\S+", "".join(said))
        if len(found) != 2:
            raise RuntimeError(f"the servers did not start: {said}")
        yield found[0], found[1]
    finally:
        servers.terminate()
        servers.wait()


def pages(store_url: str, scratch: str) -> dict[str, str]:
    """Name -> HTML of the newest decision's pages and of its corpus's report. Raises ValueError where the store has no decision."""
    from modelyard.data.corpus import report
    from modelyard.formats.expectation import SuiteResult
    from modelyard.formats.results import read_results
    from modelyard.release.card import content_summary, evolution, model_card
    from modelyard.release.decision import read_decision
    from modelyard.release.limits import LineDecision
    from modelyard.store.artifacts import Store
    from modelyard.store.lineage import all_artifacts

    store = Store(store_url, scratch)
    decisions = [one for one in all_artifacts(store) if one.name == "decision"]
    if not decisions:
        raise ValueError(f"{store.storage.url}: no decision")
    newest = max(decisions, key=lambda one: one.finished or 0.0)
    rules = LineDecision.model_validate(newest.config)
    inputs = {role: store.fetch(store.get(ref)) for role, ref in newest.parents.items()}
    results, decision, corpus = read_results(inputs["results"]), read_decision(store.fetch(newest)), inputs["corpus"]
    suites = [SuiteResult.model_validate(row) for row in json.loads((corpus / "expectations.json").read_text("utf-8"))]
    kept = [json.loads((corpus / f"{name}.json").read_text("utf-8")) for name in ("statistics", "sources", "abuse")]
    return {
        "card": model_card.build(rules.line, inputs, decision, results),
        "evolution": evolution.of_versions(rules.line, inputs, results),
        "training-content": content_summary.build(rules.line, inputs, rules.training_content),
        "data-report": report.page("corpus", kept[0], kept[1], suites, corpus / "rejects", kept[2]),
    }


def addresses(prefect: str, mlflow: str, auth: str) -> dict[str, str]:
    """Name -> address of the servers' pages about the newest run and its base model."""
    from mlflow import MlflowClient
    from prefect.client.orchestration import SyncPrefectClient

    client = SyncPrefectClient(f"{prefect}/api", auth_string=auth)
    run = max(client.read_flow_runs(), key=lambda found: str(found.created))
    artifacts = {found.key: found for found in client.read_latest_artifacts()}
    tracker = MlflowClient(mlflow)
    experiment = next(found for found in tracker.search_experiments() if found.name != "Default")
    staged = tracker.search_runs([experiment.experiment_id])
    base = next(found for found in staged if found.data.tags.get("stage") in ("base", "imported"))
    return {
        "prefect-run": f"{prefect}/runs/flow-run/{run.id}",
        "prefect-stage": f"{prefect}/artifacts/artifact/{artifacts['base'].latest_id}",
        "mlflow-runs": f"{mlflow}/#/experiments/{experiment.experiment_id}/runs",
        "mlflow-base": f"{mlflow}/#/experiments/{experiment.experiment_id}/runs/{base.info.run_id}/model-metrics",
    }


def take(page: Page, written: Mapping[str, str], out: Path, scale: float, section: str) -> Iterator[Path]:
    """A picture of each page in each view, or of its sections that ``section`` names, beginning with the first."""
    with tempfile.TemporaryDirectory() as place:
        for name, html in written.items():
            file = Path(place) / f"{name}.html"
            file.write_text(html, "utf-8")
            for suffix, width, height, scheme in VIEWS:
                target = out / f"{name}{suffix}.png"
                page.window(width, height, scheme, scale)
                picture(page, file.as_uri(), target, section=section)
                yield target


def picture(page: Page, url: str, target: Path, settle: float = 1.0, section: str = "") -> None:
    """A picture of the window ``settle`` seconds after the page has loaded, without sections that are not ``section``'s."""
    page.go(url)
    if section:
        named = f"one.textContent.trim().startsWith({json.dumps(section)})"
        page.run(f"document.querySelectorAll('header, main > *').forEach(one => {{ if (!({named})) one.remove() }})")
    time.sleep(settle)
    page.picture(target)


def main(
    home: Annotated[Path, typer.Argument(help="Directory of a finished line, such as .modelyard.")],
    out: Annotated[Path, typer.Argument(help="Directory of the pictures.")],
    store: Annotated[str, typer.Option(help="URL of the line's store; that of the home.")] = "",
    only: Annotated[list[str], typer.Option(help=f"Pages: {', '.join(PICTURED)}.")] = [],
    section: Annotated[str, typer.Option(help="Only sections whose heading begins so.")] = "",
    servers: Annotated[bool, typer.Option("--servers", help="Prefect's and MLflow's pages too.")] = False,
    scale: Annotated[float, typer.Option(min=0.5, max=3.0, help="Pixels of the picture for each of a page's.")] = 1.0,
) -> int:
    """Take them all; prints each file."""
    from modelyard.adapters.servers.prefect_server import auth_string

    home = home.absolute()
    if unknown := set(only) - set(PICTURED):
        raise ValueError(f"--only {sorted(unknown)[0]}: none of {', '.join(PICTURED)}")
    with tempfile.TemporaryDirectory() as scratch:
        written = pages(store or f"file://{home}/store", scratch)
    out.mkdir(parents=True, exist_ok=True)
    with browser() as running, running.tab() as page:
        for file in take(page, {name: html for name, html in written.items() if not only or name in only}, out, scale, section):
            sys.stdout.write(f"{file}\n")
        if servers:
            auth = auth_string(home / "prefect")
            page.window(*SERVERS_WINDOW)
            page.remember({"prefect-password": base64.b64encode(auth.encode()).decode()})
            with shown(home) as (prefect, mlflow):
                for name, url in addresses(prefect, mlflow, auth).items():
                    started = time.monotonic()
                    picture(page, url, out / f"{name}.png", SERVERS_SETTLE_SECONDS)
                    sys.stdout.write(f"{out / name}.png  {url}  {time.monotonic() - started:.0f} s\n")
    return 0


if __name__ == "__main__":
    sys.exit(program(main))
