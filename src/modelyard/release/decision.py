"""The decision stage: read the evidence of all stages, judge it, write ``decision.json``, ``card.html``,
``evolution.html`` and ``training_content.html``.

The baseline and the released versions are inputs like any other, so the decision's fingerprint says what it was compared
with. Results are counted again from their records before a gate reads them. A BLOCK is a result, not an error: whoever
runs the line turns it into an exit code.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from modelyard.complaint import complaint
from modelyard.formats import contamination, forecast, harms
from modelyard.formats.expectation import SuiteResult, Validate
from modelyard.formats.results import Results, ends_with_feedme, ends_with_sft, measured, read_results
from modelyard.model import model_directory
from modelyard.progress import Report
from modelyard.release import metric_suite
from modelyard.release.card import content_summary, evolution, model_card
from modelyard.release.gates.gate import MODELS, Classified, Decision, Evidence, Gate, Use
from modelyard.release.gates.origin import IMPORTED_TEXT
from modelyard.release.limits import ReleaseConfig
from modelyard.release.verdict import SEVERITY, decide, decide_early
from modelyard.stats.estimate import Estimate
from modelyard.store.file_hash import sha256_tree
from modelyard.store.manifest import MANIFEST

FILE = "decision.json"
Recount = Callable[[Path], Mapping[str, Estimate]]
"""(results artifact) -> what its metrics must be by its own records."""
TRAINED_ON = {
    "base": ("pretrain",),
    "no_contam": ("pretrain",),
    "projector": ("demonstrations",),
    "no_vision_projector": ("demonstrations",),
    "sft": ("demonstrations", "pretrain"),
    "no_vision": ("demonstrations", "pretrain"),
    "sft_start": ("demonstrations", "pretrain"),
    "reward": ("reward_comparisons", "demonstrations"),
    "gold": ("gold_comparisons", "demonstrations"),
    "policy": ("prompts", "pretrain"),
}
"""Model -> sets of the contamination report that its stage reads."""
TWINS = {"projector": "no_vision_projector", "seeing": "no_vision"}
"""Model that is shown images -> its twin that never was; ``seeing`` is the SFT model as it was trained."""
COMPARED, RATED = ("reward_comparisons",), ("reward_comparisons", "thumbs")
"""The same of a policy that learns from comparisons alone, and of KTO's."""
INSTRUCTIONS = "instructions"
"""The set of what a teacher wrote, of a model whose feedback holds it."""


class Judged(NamedTuple):
    """A decision and what it was made of."""

    decision: Decision
    evidence: Evidence
    suites: list[SuiteResult]
    """Outcome of the suites on the table of metrics."""


def judge(
    config: ReleaseConfig,
    inputs: Mapping[str, Path],
    validate: Validate,
    recount: Recount,
    unmeasured: str | None = None,
    lost_classifier: str | None = None,
) -> Judged:
    """What the evidence in ``inputs`` decides; the same inputs always decide the same."""
    suites = metric_suite.check(read_results(inputs["results"]), config, validate)
    evidence = gather(inputs, [result.model_dump() for result in suites], recount, unmeasured, lost_classifier)
    return Judged(decide(evidence, config), evidence, suites)


def run(
    config: ReleaseConfig,
    inputs: Mapping[str, Path],
    out: Path,
    report: Report,
    validate: Validate,
    recount: Recount,
    name: str = "modelyard",
    unmeasured: str | None = None,
    lost_classifier: str | None = None,
) -> dict[str, float]:
    """Judge ``inputs`` results, base, sft, policy, corpus, feedback, tokens and contamination; where the line has them also benchmarks (whose
    questions and images the card shows), reward, gold, forecast, no_contam, no_vision with what it is the twin of, sft_start (and ``begun``, the
    model that it was chosen from), instructions, ai_feedback, feedme, rbrm, content_classifier, production_classifier, baseline (production's
    scores), and ``version_1``, ``version_2``...: the results of the versions released before, in the order of their releases.

    Without a baseline it is a first release where ``release.first`` says so, unless ``unmeasured`` says why production has no scores.
    ``name`` is the registered model's, shown on the card. Metrics: ``release/decision/promote`` (1 or 0) and every gate's numbers.
    """
    decision, evidence, suites = judge(config, inputs, validate, recount, unmeasured, lost_classifier)
    for result in suites:
        result.keep_page(out)
    report(1, 2, unit="page")
    (out / FILE).write_text(decision.model_dump_json(indent=1), "utf-8")
    for file, page in pages(name, inputs, decision, evidence.results).items():
        (out / file).write_text(page, "utf-8")
    (out / content_summary.FILE).write_text(content_summary.build(name, inputs, config.training_content), "utf-8")
    report(2, 2, unit="page")
    verdicts = {f"release/{gate.name}/severity": float(SEVERITY[gate.verdict]) for gate in decision.gates}
    numbers = {key: value for gate in decision.gates for key, value in gate.metrics.items()}
    return {"release/decision/promote": float(decision.verdict == "PROMOTE"), **verdicts, **numbers}


def pages(name: str, inputs: Mapping[str, Path], decision: Decision, results: Results) -> dict[str, str]:
    """File name -> page about a decision, made of it and of what it was made of alone; ``name`` is the registered model's."""
    return {
        model_card.FILE: model_card.build(name, inputs, decision, results),
        evolution.FILE: evolution.of_versions(name, inputs, results),
    }


def gather(
    inputs: Mapping[str, Path], metric_suites: Any, recount: Recount, unmeasured: str | None, lost_classifier: str | None = None
) -> Evidence:
    """The evidence in the artifacts' files and the suites' outcomes; what is missing becomes None and is refused by its gate."""
    results = read_results(inputs["results"])
    loss = results.metrics.get("evals/base/validation_loss/loss")
    return Evidence(
        results=results,
        weights={model: sha256_tree(inputs[model] / "checkpoint") for model in measured(MODELS, inputs)},
        suite=suite_outcome(_json(inputs["corpus"] / "expectations.json")),
        metric_suite=suite_outcome(metric_suites),
        contradiction=contradiction(results.metrics, inputs["results"], recount),
        contamination=_report(inputs["contamination"]),
        searched=tuple(filter(None, (_parent(inputs["contamination"], role) for role in ("corpus", "feedback", INSTRUCTIONS)))),
        trained=tuple(use for role in trained_roles(inputs) for use in uses(role, inputs)),
        forecast=_forecast(inputs["forecast"]) if "forecast" in inputs else None,
        sealed_at=_finished(inputs["forecast"]) if "forecast" in inputs else None,
        base=_run_of(inputs["base"]),
        final_loss=loss.value if loss else None,
        baseline=read_results(inputs["baseline"]) if "baseline" in inputs else None,
        unmeasured=unmeasured,
        classifier=_classified(inputs.get("content_classifier")),
        production_classifier=_classified(inputs.get("production_classifier")),
        lost_classifier=lost_classifier,
        ends_with_sft=ends_with_sft(inputs),
        sees=model_directory.read(inputs["policy"]).model.vision is not None,
        twin_differs=twin_differs(inputs),
    )


def twin_differs(inputs: Mapping[str, Path]) -> str:
    """What else than ``blank`` differs between how a line's own models that are shown images were made and how their twins were; "" where nothing
    does, or there is no twin."""
    for role, twin in TWINS.items():
        if twin not in inputs:
            continue
        if role not in inputs:
            return f"there is a {twin} and no {role}"
        own, other = (_json(inputs[name] / MANIFEST) or {} for name in (role, twin))
        if not other.get("config", {}).get("blank"):
            return f"{twin} was not trained blank"
        keys = sorted(set(own["config"]) | set(other["config"]))
        if differ := [key for key in keys if key != "blank" and own["config"].get(key) != other["config"].get(key)]:
            return f"{role}.{differ[0]}"
        parents = [{name: ref for name, ref in one["parents"].items() if name != "projector"} for one in (own, other)]
        if parents[0] != parents[1] or ("projector" in own["parents"]) is not ("projector" in other["parents"]):
            return f"what {role} and {twin} were made from"
    return ""


def trained_roles(inputs: Mapping[str, Path]) -> list[str]:
    """The models among ``inputs``; one that plays two roles is named by what it was trained as."""
    sft = ends_with_sft(inputs) or ends_with_feedme(inputs)
    return [role for role in TRAINED_ON if role in inputs and not (role == "policy" and sft)]


def contradiction(metrics: Mapping[str, Estimate], directory: Path, recount: Recount) -> str:
    """The first metric that is not what the records say, and both values; "" where there is none."""
    try:
        again = recount(directory)
    except (ValueError, KeyError, TypeError) as error:
        return f"the records cannot be counted again: {complaint(error)}"
    for key in sorted(set(metrics) | set(again)):
        if key not in metrics or key not in again:
            return f"{key} is in {'results.json' if key in metrics else 'the records'} alone"
        if not all(same(one, other) for one, other in zip(metrics[key], again[key], strict=True)):
            return f"{key} is {metrics[key]}, but its records say {again[key]}"
    return ""


def same(one: float, other: float) -> bool:
    """Whether two numbers are equal but for how another processor rounds a sum."""
    return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12) or (math.isnan(one) and math.isnan(other))


def early(config: ReleaseConfig, corpus: Path, searched: Path) -> list[Gate]:
    """The gates that these two artifacts can answer alone."""
    return decide_early(suite_outcome(_json(corpus / "expectations.json")), _report(searched), config)


def uses(role: str, inputs: Mapping[str, Path]) -> list[Use]:
    """The training sets that the model ``role`` was made of, and the data they came from, as its own manifest or that of its tokens says."""
    feedback, corpus = _parent(inputs[role], "feedback"), _parent(inputs["tokens"], "corpus")
    for made in ("ai_feedback", "feedme"):
        if made in inputs and feedback == _parent_name(inputs[made]):
            feedback = _parent(inputs[made], "feedback")  # what a model wrote answers people's prompts
    taught = _parent_name(inputs[INSTRUCTIONS]) if INSTRUCTIONS in inputs else None
    if taught and feedback == taught:
        feedback = _parent(inputs[INSTRUCTIONS], "feedback")
    else:
        taught = None
    learned = TRAINED_ON[role]
    if role == "policy" and _parent(inputs[role], "reference"):
        learned = RATED if (_json(inputs[role] / MANIFEST) or {}).get("config", {}).get("algorithm") == "kto" else COMPARED
    found = [Use(role, name, corpus if name == "pretrain" else feedback) for name in learned]
    found += [Use(role, INSTRUCTIONS, taught)] if taught else []
    if role in ("base", "no_contam") and (kind := _kind(inputs[role])) in ("import", "continue"):
        return [Use(role, IMPORTED_TEXT, None), *(found if kind == "continue" else [])]
    return found


def _kind(directory: Path) -> str | None:
    """Whether the base model was pretrained, imported or continued, as its own config says."""
    manifest = _json(directory / MANIFEST)
    return manifest.get("config", {}).get("kind") if manifest else None


def _parent(directory: Path, role: str) -> str | None:
    """``name/version`` of what the artifact in ``directory`` was made from in this role."""
    manifest = _json(directory / MANIFEST)
    return manifest["parents"].get(role) if manifest else None


def _parent_name(directory: Path) -> str:
    """``name/version`` of the artifact in ``directory``."""
    return f"{directory.parent.name}/{directory.name}"


def _report(directory: Path) -> contamination.Report | None:
    return contamination.read_report(directory) if (directory / contamination.FILE).is_file() else None


def _classified(directory: Path | None) -> Classified | None:
    return Classified(harms.read_report(directory), harms.read_verdicts(directory)) if directory else None


def _forecast(directory: Path) -> forecast.SealedForecast | None:
    return forecast.read_forecast(directory) if (directory / forecast.FILE).is_file() else None


def _finished(directory: Path) -> float | None:
    """When an artifact was committed."""
    manifest = _json(directory / MANIFEST)
    return manifest.get("finished") if manifest else None


def _run_of(directory: Path) -> Mapping[str, Any] | None:
    """Start and compute of the run that made a model."""
    manifest = _json(directory / MANIFEST)
    return {"started": manifest.get("started"), "flops": manifest.get("metrics", {}).get("base/train/flops")} if manifest else None


def comparable(scores: Path, results: Path) -> bool:
    """Whether two results artifacts were measured by the same benchmarks, as far as versions are compared on them."""
    one, other = read_results(scores).benchmarks, read_results(results).benchmarks
    wanted = {name: measured.id for name, measured in other.items() if measured.between_versions}
    return all(name in one and one[name].id == identity for name, identity in wanted.items())


def read_decision(directory: Path) -> Decision:
    """``decision.json`` of a decision artifact."""
    return Decision.model_validate_json((directory / FILE).read_text("utf-8"))


def suite_outcome(suites: Any) -> Mapping[str, Any] | None:
    """Success, expectations evaluated and names of the failed ones, over all suites of ``expectations.json``; None when there are none."""
    if not isinstance(suites, list) or not suites:
        return None
    outcomes = [result for suite in suites for result in suite["results"]]
    failed = [str(result["name"]) for result in outcomes if result["success"] is not True]
    return {"success": not failed, "evaluated": len(outcomes), "failed": failed}


def _json(path: Path) -> Any:
    return json.loads(path.read_text("utf-8")) if path.is_file() else None
