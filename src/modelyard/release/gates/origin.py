"""The gates over what a model was made from: weights, data, contamination; and the suites on data and metrics. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from modelyard.formats.contamination import Checked, Report
from modelyard.formats.results import Results, Rows
from modelyard.release.compare import Comparison
from modelyard.release.gates.gate import Evidence, Gate, RefusedError, Use, number
from modelyard.release.gates.measured import answered, compared, records_of, tested
from modelyard.release.limits import ReleaseConfig

REQUIRED = ("base", "policy")
"""Models that every line measures."""
MAY_BE_EMPTY = ("thumbs",)
"""Sets without which a model is trained too: KTO learns from comparisons as well, and their search counts no document."""
TWIN = "no_contam"
"""The base model's twin that was trained without the documents that hold a benchmark item."""
IMPORTED_TEXT = "pretraining of the imported model"
"""What an imported model was trained on before: no set that anybody here could search."""


def weights_gate(evidence: Evidence) -> Gate:
    """The results were measured on the weights to be released."""
    for model in dict.fromkeys([*REQUIRED, *([] if evidence.ends_with_sft else ["sft"]), *evidence.weights, *evidence.results.weights]):
        wanted, found = evidence.weights.get(model), evidence.results.weights.get(model)
        if not wanted or not found:
            raise RefusedError(f"fingerprint of {model} is missing")
        if wanted != found:
            raise RefusedError(f"results are of other {model} weights ({found[:12]}) than the candidate's ({wanted[:12]})")
    return Gate(name="weights", verdict="PROMOTE", reason=f"results are of these weights ({evidence.weights['policy'][:12]})", metrics={})


def suite_gate(name: Literal["data", "metrics"], suite: Mapping[str, Any] | None) -> Gate:
    """The suites on the corpus (``data``) or on the table of metrics ran and found nothing."""
    if suite is None or not isinstance(suite.get("success"), bool):
        raise RefusedError(f"outcome of the {name} suite is missing")
    evaluated = number(suite.get("evaluated"), "number of expectations evaluated")
    if evaluated < 1:
        raise RefusedError(f"the {name} suite evaluated no expectation")
    failed = [str(item) for item in suite.get("failed", ())]
    good = suite["success"] and not failed
    reason = f"{evaluated:.0f} expectations met" if good else f"expectations not met: {', '.join(failed) or 'unnamed'}"
    return Gate(
        name=name,
        verdict="PROMOTE" if good else "BLOCK",
        reason=reason,
        metrics={f"release/{name}/evaluated": evaluated, f"release/{name}/failed": float(len(failed))},
    )


def metrics_gate(evidence: Evidence) -> Gate:
    """The suites on the table of metrics found nothing, and every metric is what its records say."""
    if evidence.contradiction:
        raise RefusedError(f"results contradict their records: {evidence.contradiction}")
    return suite_gate("metrics", evidence.metric_suite)


def contamination_gate(evidence: Evidence, config: ReleaseConfig, found: list[Comparison]) -> Gate:
    """Few items of any benchmark that matters are in training data, they were looked for in every set that a model was trained on, and
    a base model that has a twin owes none of its scores to them; the comparisons with the twin are added to ``found``."""
    gate = contamination_shares(evidence.contamination, config)
    aside = config.set_aside.pretraining_data
    trained = [use for use in evidence.trained if not (aside and use.name == IMPORTED_TEXT)]
    if not trained:
        raise RefusedError("which sets the models were trained on is not known")
    assert evidence.contamination
    searched = [name for name, one in evidence.results.benchmarks.items() if one.searched and config.of(name).own.gated]
    if not searched:
        raise RefusedError("no benchmark was measured whose items were looked for in training data")
    for name in searched:
        if name not in evidence.contamination:
            raise RefusedError(f"benchmark {name} was not checked for contamination")
        require_searched(name, evidence.contamination[name], trained, evidence.searched)
        require_counted(name, evidence.contamination[name], evidence.results.of("policy").get(name, ()))
    reason = f"{gate.reason}; what the imported base was trained on is set aside: {aside}" if aside else gate.reason
    gate = gate.model_copy(update={"reason": reason})
    return beside_twin(gate, evidence.results, config, found) if TWIN in evidence.results.weights else gate


def beside_twin(gate: Gate, results: Results, config: ReleaseConfig, found: list[Comparison]) -> Gate:
    """The gate, which HOLDs where the base model is further ahead of its twin than ``max_contamination_gain`` (paired tests)."""
    names = answered(results, TWIN, [name for name in compared(results, config, safety=False) if results.benchmarks[name].searched])
    if not names:
        raise RefusedError("no benchmark was measured on which the base model and its twin can be compared")
    without, base = (records_of(results, model, names, config) for model in (TWIN, "base"))
    gains = tested(without, base, dict.fromkeys(base, config.max_contamination_gain), config)
    found += gains
    ahead = [f"{c.benchmark} {c.difference:+.4f} (p {c.p_holm:.4f})" for c in gains if c.verdict == "better"]
    said = f"the base is ahead of its twin without those documents on {', '.join(ahead)}" if ahead else "no better than its twin"
    metrics = gate.metrics | {f"release/contamination_gain/{c.benchmark}": c.difference for c in gains}
    verdict = "HOLD" if ahead and gate.verdict == "PROMOTE" else gate.verdict
    return gate.model_copy(update={"verdict": verdict, "reason": f"{gate.reason}; {said}", "metrics": metrics})


def contamination_shares(report: Report | None, config: ReleaseConfig) -> Gate:
    """What the report alone says: enough items of every gated benchmark were looked for and few of them are in training
    data, by content (``max_contaminated``) and, where that is limited, as written."""
    if not report:
        raise RefusedError("contamination report is missing")
    packed = ("next_token", "validation_loss")
    named = [*([] if config.set_aside.preference else [config.preference]), *config.limits]
    if lacking := [name for name in named if name not in report and name not in packed]:
        raise RefusedError(f"benchmark {lacking[0]} was not checked for contamination")
    shares, over, metrics = dict[str, float](), list[str](), dict[str, float]()
    for name in [name for name in report if config.of(name).own.gated]:
        held = config.of(name)
        checked = report[name]
        if checked.n < held.min_items:
            raise RefusedError(f"only {checked.n} items of {name} were checked for contamination, at least {held.min_items} are needed")
        shares[name] = checked.content_share
        metrics |= {f"release/contamination/{name}": checked.content_share, f"release/contamination/{name}/written": checked.written_share}
        most = config.max_contaminated_written
        over += [name] if shares[name] > held.max_contaminated or (most is not None and checked.written_share > most) else []
    worst = max([*over, *(shares if not over else [])], key=shares.__getitem__, default="")
    allowed = config.of(worst).max_contaminated
    reason = f"worst share {shares.get(worst, 0):.1%} ({worst or 'none'}), at most {allowed:.1%} allowed"
    if worst:
        reason += f"; as written {report[worst].written_share:.1%}"
        reason += "" if config.max_contaminated_written is None else f", at most {config.max_contaminated_written:.1%} allowed"
    return Gate(name="contamination", verdict="BLOCK" if over else "PROMOTE", reason=reason, metrics=metrics)


def require_counted(benchmark: str, entry: Checked, rows: Rows) -> None:
    """Raise RefusedError where the report counts other items of ``benchmark``, or others as contaminated, than were answered."""
    answered = {str(row["item"]) for row in rows}
    met = {str(row["item"]) for row in rows if row.get("contaminated")}
    if rows and (entry.n, set(entry.content)) != (len(answered), met):
        raise RefusedError(
            f"the report names {len(set(entry.content))} of {entry.n} items of {benchmark} as contaminated, "
            f"its records {f'other {len(met)}' if len(set(entry.content)) == len(met) else len(met)} of {len(answered)}"
        )


def require_searched(benchmark: str, entry: Checked, trained: Sequence[Use], searched: Sequence[str]) -> None:
    """Raise RefusedError unless ``benchmark`` was looked for in every set that a model was trained on, of the very data it came from."""
    for use in trained:
        if use.data is None or use.data not in searched:
            raise RefusedError(
                f"{use.model} was trained on {use.data or 'unknown data'}, but {' and '.join(searched) or 'none'} was searched"
            )
        if use.name not in entry.sets or (entry.sets[use.name].documents < 1 and use.name not in MAY_BE_EMPTY):
            raise RefusedError(f"{use.name}, which {use.model} was trained on, was not searched for items of {benchmark}")
