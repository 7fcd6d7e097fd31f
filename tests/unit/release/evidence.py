"""A clean candidate's evidence, in memory and as artifacts' files; the tests change one thing each."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelyard.formats.contamination import Checked, Searched, write_report
from modelyard.formats.expectation import ExpectationResult, SuiteResult, read_suite
from modelyard.formats.forecast import LadderRun, SealedForecast, write_forecast
from modelyard.formats.results import Measured, Results, read_results
from modelyard.release.decision import TRAINED_ON
from modelyard.release.gates.gate import Decision, Evidence, Use
from modelyard.release.limits import BenchmarkLimits, ReleaseConfig, SetAside
from modelyard.stats.estimate import Estimate, proportion
from modelyard.store.file_hash import sha256_tree

CONFIG = ReleaseConfig(
    min_items=30,
    max_contaminated=0.05,
    forecast_tolerance=0.03,
    tolerance=0.0,
    max_alignment_tax=0.05,
    limits={
        "toxicity": BenchmarkLimits(max={"toxicity": 0.2}, max_increase={"toxicity": 0.05}),
        "held_out_text": BenchmarkLimits(gated=False),
    },
    alpha=0.05,
    min_win_rate=0.6,
    max_kl=6.0,
    max_calibration_error=0.2,
    max_calibration_increase=0.1,
    set_aside=SetAside(content_classifier="nobody labelled texts"),
    seed=0,
)
IDS = {"last_word": "id-1", "human_eval": "id-2", "toxicity": "id-3", "held_out_text": "id-4", "openings": "id-5"}
CONDUCT_IDS = {**IDS, "xstest": "id-x", "jailbreak": "id-j"}
FIRST = {
    "last_word": "acc",
    "human_eval": "pass_at_1",
    "toxicity": "toxicity",
    "held_out_text": "nats_per_byte",
    "openings": "value",
    "xstest": "exact",
    "jailbreak": "exact",
}
"""Benchmark -> the metric that stands for it."""


def measured(ids: dict[str, str]) -> dict[str, Measured]:
    """What results say of their benchmarks: ids and kinds."""
    return {
        name: Measured(
            id=identity,
            metrics=(FIRST.get(name, "acc"),),
            aspect="safety" if name in ("toxicity", "xstest", "jailbreak") else "",
            sides=("safe", "unsafe") if name == "xstest" else (),
            between_versions=name != "openings",
        )
        for name, identity in ids.items()
    }


N = 100
"""Prompts of each kind in the conduct benchmarks' records."""
METRICS = {
    "evals/base/validation_loss/loss": Estimate(3.01, 2.9, 3.1, 100),
    "evals/policy/toxicity/toxicity": Estimate(0.02, 0.0, 0.06, 100),
    "evals/sft/toxicity/toxicity": Estimate(0.01, 0.0, 0.05, 100),
    "evals/policy/openings/win_rate_over_sft": Estimate(0.75, 0.66, 0.82, 100),
    "evals/policy/openings/kl_to_sft": Estimate(4.0, 3.5, 4.5, 100),
    "evals/policy/next_token/calibration_error": Estimate(0.07, 0.05, 0.09, 100),
    "evals/base/next_token/calibration_error": Estimate(0.01, 0.0, 0.03, 100),
    "evals/policy/last_word/acc": Estimate(0.3, 0.2, 0.4, 100),
}
SETS = {name: Searched(documents=10) for sets in TRAINED_ON.values() for name in sets}
ITEMS = {name: 60 if name == "human_eval" else 100 for name in IDS}


def searched(n: int, content: int = 0, written: int = 0) -> Checked:
    """A benchmark of ``n`` items of which the first so many were found in training data by content, and as written."""
    return Checked(n=n, written=tuple(map(str, range(written))), content=tuple(map(str, range(content))), sets=SETS)


REPORT = {name: searched(items) for name, items in ITEMS.items()}
CORPUS, FEEDBACK = "corpus/0123456789abcdef", "feedback/fedcba9876543210"
DATA = {"corpus": CORPUS, "feedback": FEEDBACK}
CONDUCT_REPORT = {**REPORT, "xstest": searched(2 * N), "jailbreak": searched(N)}
SHAPE = {"style": "llama", "layers": 2, "hidden": 32, "heads": 4, "kv_heads": 2, "ffn_hidden": 64, "seq_len": 32, "vocab_size": 512}
MODEL = {**SHAPE, "tie_embeddings": True, "rope_base": 1e4, "norm_eps": 1e-5, "init_std": 0.02}


def satisfied(suite: str, frame: object, parameters: Mapping[str, object] = {}) -> SuiteResult:
    """Great Expectations' answer when all is well, without its seconds."""
    names = [entry["meta"]["name"] for entry in read_suite(suite)["expectations"]]
    return SuiteResult(suite=suite, results=[ExpectationResult(name=name, success=True, detail="") for name in names])


def agreeing(directory: Path) -> Mapping[str, Estimate]:
    """A count of the records that agrees with whatever the results say."""
    return read_results(directory).metrics


def scores(right: int, of: int = 100) -> list[float]:
    """``right`` items right, the rest wrong."""
    return [1.0] * right + [0.0] * (of - right)


def results(words: list[float], weights: str = "policy-1", **metrics: Estimate) -> Results:
    """Results whose last-word scores are ``words``; HumanEval is all wrong, nothing is toxic. Keyword ``a__b`` stands for
    metric ``evals/a/b``."""
    known = METRICS | {"evals/" + key.replace("__", "/"): value for key, value in metrics.items()}
    models = {"policy": (weights, words), "base": ("base-1", scores(30)), "sft": ("sft-1", scores(30))}
    found = {
        model: {
            "last_word": records("last_word", right, weight),
            "human_eval": records("human_eval", [0.0] * 60, weight),
            "toxicity": records("toxicity", [1.0] * 100, weight),
        }
        for model, (weight, right) in models.items()
    }
    return Results(known, {"base": "base-1", "sft": "sft-1", "policy": weights}, measured(IDS), found)


def with_records(results: Results, model: str, changed: dict[str, list[dict]]) -> Results:
    """The results with other records of a model on some benchmarks."""
    return results._replace(records={**results.records, model: {**results.of(model), **changed}})


def records(benchmark: str, values: list[float], weights: str) -> list[dict]:
    """One record an item."""
    shared = {"benchmark": benchmark, "benchmark_id": CONDUCT_IDS[benchmark], "weights": weights}
    return [{**shared, "item": str(k), "score": score} for k, score in enumerate(values)]


FORECAST = SealedForecast(
    prediction=3.0,
    low=2.9,
    high=3.1,
    a=30.0,
    b=-0.1,
    c=1.0,
    at_compute=1e14,
    backtest=None,
    steepening=0.5,
    objection="",
    points=tuple(LadderRun(compute=10.0**k, loss=5.0 - k / 10) for k in range(9, 13)),
)
GOOD = Evidence(
    results=results(scores(30)),
    weights={"base": "base-1", "sft": "sft-1", "policy": "policy-1"},
    suite={"success": True, "evaluated": 12, "failed": []},
    metric_suite={"success": True, "evaluated": 9, "failed": []},
    contradiction="",
    contamination=REPORT,
    searched=(CORPUS, FEEDBACK),
    trained=tuple(Use(model, name, CORPUS if name == "pretrain" else FEEDBACK) for model, sets in TRAINED_ON.items() for name in sets),
    forecast=FORECAST,
    sealed_at=1000.0,
    base={"started": 1001.0, "flops": 1e14},
    final_loss=3.02,
    baseline=results(scores(30), weights="production-1"),
    unmeasured=None,
)


def write(path: Path, content: object) -> None:
    """Content as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def write_results(directory: Path, weights: dict[str, str], right: int) -> None:
    """A results artifact whose policy has ``right`` of 100 last words right."""
    write(directory / "results.json", {key: {**estimate.plain(), "share": False} for key, estimate in METRICS.items()})
    write(directory / "weights.json", weights)
    write_benchmarks(directory, IDS)
    write(directory / "samples.json", [{"prompt": "A <b>film</b>", "text": "", "base": " x", "sft": " y", "policy": " z"}])
    bins = {"error": 0.1, "bins": [{"low": 0.2, "high": 0.3, "n": 5, "confidence": 0.3, "accuracy": 0.4}]}
    write(directory / "calibration.json", {"next_token": {"base": bins, "sft": bins, "policy": bins}})
    for model, weight in weights.items():
        (directory / "records" / model).mkdir(parents=True, exist_ok=True)
        for name, hits in (("last_word", right), ("human_eval", 0), ("toxicity", 100)):
            rows = records(name, scores(hits, ITEMS[name]), weight)
            (directory / "records" / model / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))


def write_benchmarks(directory: Path, ids: dict[str, str]) -> None:
    """``benchmarks.json`` of a results artifact."""
    write(directory / "benchmarks.json", {name: one.model_dump() for name, one in measured(ids).items()})


def write_all(root: Path) -> dict[str, Path]:
    """Role -> directory of everything that the decision stage reads, production's scores included."""
    roles = ("corpus", "tokens", "contamination", "forecast", "base", "sft", "reward", "gold", "policy", "results", "baseline")
    found = {name: root / name for name in roles}
    for role, directory in found.items():
        write(directory / "artifact.json", {"name": role, "config": {}, "parents": {} if role in ("corpus", "base", "forecast") else DATA})
    for model in ("base", "sft", "policy"):
        write(found[model] / "checkpoint" / "weights", model)
        write(found[model] / "model.json", {"model": MODEL, "head": "lm", "precision": "fp32"})
    (found["base"] / "history.jsonl").write_text('{"step": 1, "base/train/loss": 5.0}\n{"step": 2, "base/train/loss": 4.0}\n')
    (found["policy"] / "history.jsonl").write_text('{"step": 1, "policy/objective/kl": 0.1, "policy/objective/reward": 0.2}\n')
    write(found["corpus"] / "expectations.json", [{"suite": "documents", "results": [{"name": "ids", "success": True, "detail": ""}]}])
    measured = {"value": 0.8, "low": 0.7, "high": 0.9, "n": 400, "stderr": 0.05}
    write(found["corpus"] / "abuse.json", {"origin": "824 labelled texts (MIT)", "average_precision/any": measured})
    write(found["corpus"] / "sources.json", [{"name": "s", "package": "p", "version": "1", "sha256": "ab" * 32, "licence": "MIT"}])
    write_report(found["contamination"], REPORT)
    write_forecast(found["forecast"], FORECAST)
    write(found["forecast"] / "artifact.json", {"name": "forecast", "parents": {}, "finished": 1000.0})
    run = {"started": 1001.0, "metrics": {"base/train/flops": 1e14}}
    write(found["base"] / "artifact.json", {"name": "base", "config": {"kind": "pretrain"}, "parents": {}, **run})
    weights = {model: sha256_tree(found[model] / "checkpoint") for model in ("base", "sft", "policy")}
    write_results(found["results"], weights, 50)
    write_results(found["baseline"], {**weights, "policy": "production"}, 50)
    return found


def rows(answered: int, refused: int, resisted: int, weights: str) -> dict[str, list[dict]]:
    """Records of N safe prompts (``answered`` of them), N unsafe ones (``refused``) and N jailbreaks (``resisted``)."""

    def some(benchmark: str, group: str, right: int, conduct: tuple[str, str]) -> list[dict]:
        shared = {"benchmark": benchmark, "benchmark_id": CONDUCT_IDS[benchmark], "weights": weights, "group": group}
        return [{**shared, "item": f"{group}-{k}", "score": float(k < right), "parsed": conduct[k >= right]} for k in range(N)]

    safe, unsafe = some("xstest", "safe", answered, ("answer", "refusal")), some("xstest", "unsafe", refused, ("refusal", "answer"))
    return {"xstest": [*safe, *unsafe], "jailbreak": some("jailbreak", "role_play", resisted, ("refusal", "answer"))}


def write_conduct(directory: Path, model: str, numbers: tuple[int, int, int]) -> None:
    """Records of conduct in a results artifact and the rates that follow, as the evals stage leaves them."""
    weights = json.loads((directory / "weights.json").read_text())[model]
    for name, found in rows(*numbers, weights).items():
        (directory / "records" / model / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))
    known = json.loads((directory / "benchmarks.json").read_text())
    write(directory / "benchmarks.json", {name: one.model_dump() for name, one in measured(CONDUCT_IDS).items()} | known)
    rates = zip(("xstest/over_refusal", "xstest/unsafe_answered", "jailbreak/unsafe_answered"), numbers, strict=True)
    table = json.loads((directory / "results.json").read_text())
    table |= {f"evals/{model}/{key}": proportion(N - right, N).plain() for key, right in rates}
    write(directory / "results.json", table)


def verdict_of(decision: Decision, name: str) -> tuple[str, str]:
    """Verdict and reason of one gate."""
    (gate,) = [gate for gate in decision.gates if gate.name == name]
    return gate.verdict, gate.reason


def changed(**metrics: Any) -> Evidence:
    """A good candidate with other values of some metrics."""
    return GOOD._replace(results=results(scores(30), **metrics))
