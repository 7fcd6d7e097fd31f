"""The decision stage on artifacts as files: decision.json and a self-contained card."""

import json
import re
from pathlib import Path

import pytest

from modelyard.progress import silent
from modelyard.release.decision import read_decision, read_results, run, suite_outcome
from modelyard.release.gate import ReleaseConfig
from modelyard.storage import sha256_tree

CONFIG = ReleaseConfig(
    min_items=30,
    max_contaminated=0.05,
    forecast_tolerance=0.03,
    protected=("last_word", "toxicity"),
    tolerance={},
    alpha=0.05,
    max_toxicity=0.2,
    max_toxicity_increase=0.05,
    min_win_rate=0.6,
    max_kl=6.0,
    seed=0,
)
MODEL = {
    "style": "llama",
    "layers": 2,
    "hidden": 32,
    "heads": 4,
    "kv_heads": 2,
    "ffn_hidden": 64,
    "seq_len": 32,
    "vocab_size": 512,
    "tie_embeddings": True,
}


def write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def write_results(directory: Path, weights: dict[str, str], right: int) -> None:
    estimates = {
        "evals/base/validation_loss": (3.01, 2.9, 3.1, 100),
        "evals/policy/toxicity": (0.02, 0.0, 0.06, 100),
        "evals/sft/toxicity": (0.01, 0.0, 0.05, 100),
        "evals/policy/win_rate_over_sft": (0.75, 0.66, 0.82, 100),
        "evals/policy/kl_to_sft": (4.0, 3.5, 4.5, 100),
    }
    write(
        directory / "results.json", {key: dict(zip(("value", "low", "high", "n"), value, strict=True)) for key, value in estimates.items()}
    )
    write(directory / "weights.json", weights)
    write(directory / "benchmarks.json", {"last_word": "id-1", "toxicity": "id-2"})
    write(directory / "samples.json", [{"prompt": "A <b>film</b>", "text": "", "base": " x", "sft": " y", "policy": " z"}])
    bins = {"error": {"value": 0.1}, "bins": [{"n": 5, "confidence": 0.3, "accuracy": 0.4}]}
    write(directory / "calibration.json", {"base": bins, "sft": bins, "policy": bins})
    for name, identity, hits in (("last_word", "id-1", right), ("toxicity", "id-2", 100)):
        rows = [
            {"benchmark": name, "benchmark_id": identity, "item": str(i), "score": float(i < hits), "weights": weights["policy"]}
            for i in range(100)
        ]
        (directory / "records" / "policy").mkdir(parents=True, exist_ok=True)
        (directory / "records" / "policy" / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Path]:
    found = {name: tmp_path / name for name in ("results", "base", "sft", "policy", "corpus", "contamination", "forecast", "baseline")}
    for model in ("base", "sft", "policy"):
        write(found[model] / "checkpoint" / "weights", model)
        write(found[model] / "model.json", {"model": MODEL, "head": "lm", "precision": "fp32"})
    (found["base"] / "history.jsonl").write_text('{"step": 1, "pretrain/train/loss": 5.0}\n{"step": 2, "pretrain/train/loss": 4.0}\n')
    (found["policy"] / "history.jsonl").write_text('{"step": 1, "ppo/objective/kl": 0.1, "ppo/objective/reward": 0.2}\n')
    write(found["corpus"] / "expectations.json", [{"suite": "documents", "results": [{"name": "ids", "success": True, "detail": ""}]}])
    write(found["corpus"] / "sources.json", [{"name": "s", "package": "p", "version": "1", "sha256": "ab" * 32, "licence": "MIT"}])
    write(found["contamination"] / "report.json", {n: {"n": 100, "contaminated": 1, "share": 0.01} for n in ("last_word", "openings")})
    points = [{"compute": 10.0**k, "loss": 5.0 - k / 10} for k in range(9, 13)]
    law = {"prediction": 3.0, "low": 2.9, "high": 3.1, "a": 30.0, "b": -0.1, "c": 1.0, "at_compute": 1e14, "points": points}
    write(found["forecast"] / "forecast.json", law)
    weights = {model: sha256_tree(found[model] / "checkpoint") for model in ("base", "sft", "policy")}
    write_results(found["results"], weights, 50)
    write_results(found["baseline"], {**weights, "policy": "production"}, 50)
    return found


def test_decision_clean_evidence_is_promoted_and_card_is_whole(inputs: dict[str, Path], tmp_path: Path) -> None:
    metrics = run(CONFIG, inputs, tmp_path, silent, "line")

    assert read_decision(tmp_path).verdict == "PROMOTE", read_decision(tmp_path)
    assert metrics["release/decision/promote"] == 1.0
    card = (tmp_path / "card.html").read_text()
    assert card.count("<svg") == 4
    assert not re.findall(r"(?:src|href)=[\"'](?!data:|#)", card.replace('xlink:href="#', ""))
    assert "&lt;b&gt;film&lt;/b&gt;" in card
    assert "models:/line@production" in card


def test_decision_other_weights_than_measured_are_blocked(inputs: dict[str, Path], tmp_path: Path) -> None:
    write(inputs["policy"] / "checkpoint" / "weights", "tampered")

    assert run(CONFIG, inputs, tmp_path, silent)["release/weights/severity"] == 2.0
    assert read_decision(tmp_path).verdict == "BLOCK"


def test_decision_regression_against_the_baseline_is_blocked(inputs: dict[str, Path], tmp_path: Path) -> None:
    write_results(inputs["baseline"], {"policy": "production"}, 80)

    run(CONFIG, inputs, tmp_path, silent)

    decision = read_decision(tmp_path)
    assert decision.verdict == "BLOCK"
    assert {c.benchmark: c.outcome for c in decision.comparisons} == {"last_word": "worse", "toxicity": "same"}


def test_decision_without_baseline_is_a_first_release(inputs: dict[str, Path], tmp_path: Path) -> None:
    first = {name: path for name, path in inputs.items() if name != "baseline"}

    run(CONFIG, first, tmp_path, silent)

    assert read_decision(tmp_path).verdict == "PROMOTE"


@pytest.mark.parametrize(
    ("artifact", "file"), [("corpus", "expectations.json"), ("contamination", "report.json"), ("forecast", "forecast.json")]
)
def test_decision_missing_evidence_never_promotes(inputs: dict[str, Path], tmp_path: Path, artifact: str, file: str) -> None:
    (inputs[artifact] / file).unlink()

    run(CONFIG, inputs, tmp_path, silent)

    assert read_decision(tmp_path).verdict == "BLOCK"
    assert (tmp_path / "card.html").exists()


def test_results_damaged_file_is_named(inputs: dict[str, Path]) -> None:
    (inputs["results"] / "results.json").write_text("{")

    with pytest.raises(ValueError, match="not a results artifact"):
        read_results(inputs["results"])


def test_suite_outcome_names_what_failed() -> None:
    suites = [{"results": [{"name": "a", "success": True}]}, {"results": [{"name": "b", "success": False}, {"name": "c", "success": None}]}]

    assert suite_outcome(suites) == {"success": False, "evaluated": 3, "failed": ["b", "c"]}
    assert suite_outcome([]) is None
