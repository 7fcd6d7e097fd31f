"""The ledger reads what the store holds, and does not count a forecast that was sealed late."""

from __future__ import annotations

import json
from pathlib import Path

from modelyard.commands.app import main
from modelyard.config import Config
from modelyard.store.artifacts import Store
from modelyard.store.manifest import Artifact, Spec


class Made(Config):
    number: int


def build(store: Store, name: str, number: int, metrics: dict[str, float], **parents: Artifact) -> Artifact:
    return store.build(Spec(name, Made(number=number), parents, "code"), lambda out, checkpoints: metrics).artifact


def predicted(loss: float) -> dict[str, float]:
    around = {"forecast/main/loss_low": loss - 0.1, "forecast/main/loss_high": loss + 0.1}
    return {"forecast/main/loss": loss, **around, "forecast/main/at_flops": 1e12, "forecast/ladder/reach": 120.0}


def test_ledger_shows_judged_open_and_late_forecasts_and_counts_only_what_was_sealed_before(tmp_path: Path, capsys) -> None:
    url = f"file://{tmp_path}/store"
    store = Store(url, str(tmp_path / "scratch"))
    good, waiting, late = (build(store, "forecast", n, predicted(3.0)) for n in (1, 2, 3))
    base = build(store, "base", 1, {"base/validation/loss": 3.06}, forecast=good)
    asked = {"last_word/claimed": 3.0, "last_word/missed": 1.0, "sums/claimed": 2.0, "sums/missed": 0.0}
    build(store, "decision", 1, {f"release/forecast/{key}": value for key, value in asked.items()}, base=base, forecast=good)
    early = build(store, "base", 3, {"base/validation/loss": 4.0}, forecast=late)
    manifest = tmp_path / "store" / early.ref / "artifact.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "started": (late.finished or 0) - 60}))

    assert main(["ledger", "--store", url, "--json", str(tmp_path / "ledger.json")]) == 0

    shown = capsys.readouterr().out
    rows = {row["forecast"]: row for row in json.loads((tmp_path / "ledger.json").read_text())}
    assert rows[good.ref]["error"] == 3.0 / 3.06 - 1
    assert rows[good.ref]["inside"]
    assert rows[good.ref]["sealed_before"]
    assert (rows[good.ref]["claimed"], rows[good.ref]["missed"]) == (5, 1)
    assert rows[waiting.ref]["measured"] is None
    assert rows[late.ref]["claimed"] is None
    assert rows[late.ref]["sealed_before"] is False
    assert "AFTER THE RUN BEGAN" in shown
    assert "1 judged: median error 1.96%, 1 inside their interval; 4 of 5 buckets of right answers as forecast" in shown


def test_ledger_of_an_empty_store_says_so(tmp_path: Path, capsys) -> None:
    assert main(["ledger", "--store", f"file://{tmp_path}"]) == 0
    assert "no forecasts" in capsys.readouterr().out
