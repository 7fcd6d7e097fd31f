"""The decision stage on artifacts as files: decision.json and a self-contained card."""

import re
from pathlib import Path

import pytest

from modelyard.adapters.expectations import validate
from modelyard.formats.contamination import Searched, write_report
from modelyard.formats.harms import Report, Verdict
from modelyard.formats.results import read_results
from modelyard.formats.teacher import Teacher, source
from modelyard.progress import silent
from modelyard.release.decision import comparable, gather, read_decision, run, suite_outcome, uses
from modelyard.release.gates.gate import Decision
from modelyard.release.verdict import decide
from modelyard.stats.estimate import Estimate

from .evidence import (
    CONFIG,
    CORPUS,
    DATA,
    FEEDBACK,
    IDS,
    METRICS,
    REPORT,
    agreeing,
    satisfied,
    write,
    write_all,
    write_benchmarks,
    write_results,
)

PASSED = [{"suite": "metrics", "results": [{"name": "metric_keys_unique", "success": True, "detail": ""}]}]


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Path]:
    return write_all(tmp_path)


def test_decision_clean_evidence_is_promoted_and_card_is_whole(inputs: dict[str, Path], tmp_path: Path) -> None:
    metrics = run(CONFIG, inputs, tmp_path, silent, satisfied, agreeing, "line")

    assert read_decision(tmp_path).verdict == "PROMOTE", read_decision(tmp_path)
    assert metrics["release/decision/promote"] == 1.0
    card = (tmp_path / "card.html").read_text()
    assert card.count("<svg") == 7
    assert not re.findall(r"(?:src|href)=[\"'](?!data:|#)", card.replace('xlink:href="#', ""))
    assert "&lt;b&gt;film&lt;/b&gt;" in card
    assert "models:/line@production" in card


def judged(inputs: dict[str, Path], unmeasured: str | None = None) -> Decision:
    """The decision without its card, which costs a second of drawing."""
    return decide(gather(inputs, PASSED, agreeing, unmeasured), CONFIG)


def blocking(decision: Decision) -> list[str]:
    return [gate.name for gate in decision.gates if gate.verdict == "BLOCK"]


def test_decision_other_weights_than_measured_are_blocked(inputs: dict[str, Path]) -> None:
    write(inputs["policy"] / "checkpoint" / "weights", "tampered")

    assert blocking(judged(inputs)) == ["weights"]


def test_decision_regression_against_the_baseline_is_blocked(inputs: dict[str, Path]) -> None:
    write_results(inputs["baseline"], {"policy": "production"}, 80)

    decision = judged(inputs)

    assert blocking(decision) == ["regression"]
    assert {c.benchmark: c.verdict for c in decision.comparisons} == {"last_word": "worse", "human_eval": "same"}


def test_decision_without_baseline_is_a_first_release(inputs: dict[str, Path]) -> None:
    found = gather({name: path for name, path in inputs.items() if name != "baseline"}, PASSED, agreeing, None)

    assert decide(found, CONFIG.model_copy(update={"first": True})).verdict == "PROMOTE"
    assert decide(found, CONFIG).verdict == "HOLD"


@pytest.mark.parametrize(
    ("again", "message"),
    [
        ({"value": 1.0, "low": 1.0, "high": 1.0}, "but its records say 1.000"),
        ({"n": 10**18}, "n=1000000000000000000"),
        (None, "is in results.json alone"),
    ],
)
def test_decision_results_that_contradict_their_records_are_blocked(inputs: dict[str, Path], again: dict | None, message: str) -> None:
    key = "evals/policy/last_word/acc"

    def recount(directory: Path) -> dict[str, Estimate]:
        rest = {name: estimate for name, estimate in agreeing(directory).items() if name != key}
        return rest if again is None else {**rest, key: METRICS[key]._replace(**again)}

    decision = decide(gather(inputs, PASSED, recount, None), CONFIG)

    assert blocking(decision) == ["metrics"]
    (reason,) = [gate.reason for gate in decision.gates if gate.name == "metrics"]
    assert re.search(f"results contradict their records: {key} .*{message}", reason)


def test_decision_production_without_scores_is_held_with_the_reason(inputs: dict[str, Path], tmp_path: Path) -> None:
    first = {name: path for name, path in inputs.items() if name != "baseline"}

    metrics = run(CONFIG, first, tmp_path, silent, satisfied, agreeing, unmeasured="policy/abc is not in the store")

    assert read_decision(tmp_path).verdict == "HOLD"
    assert metrics["release/regression/severity"] == 1.0
    assert "policy/abc is not in the store" in (tmp_path / "card.html").read_text()


def test_decision_with_a_content_classifier_compares_it_with_productions_and_shows_both(inputs: dict[str, Path], tmp_path: Path) -> None:
    found = {**inputs, "content_classifier": tmp_path / "new", "production_classifier": tmp_path / "old"}
    write_classifier(found["content_classifier"], blocked=10)
    write_classifier(found["production_classifier"], blocked=38)

    metrics = run(CONFIG, found, tmp_path, silent, satisfied, agreeing, "line")

    assert read_decision(tmp_path).verdict == "HOLD"
    assert metrics["release/content_classifier/severity"] == 1.0
    assert metrics["release/content_classifier/hate"] == pytest.approx(-0.7)
    card = (tmp_path / "card.html").read_text()
    assert "<h2>Content classifier</h2>" in card
    assert "The content classifier against production" in card
    lost = gather({**inputs, "content_classifier": found["content_classifier"]}, PASSED, agreeing, None, "content_classifier/gone")
    assert decide(lost, CONFIG).verdict == "HOLD"


def write_classifier(directory: Path, blocked: int) -> None:
    """A classifier's report and its verdicts on 40 hateful texts, so many of them blocked, and 40 safe prompts, none blocked."""
    said = [Verdict(id=f"h{n}", group="labelled", labels={"hate": 1}, scores={}, flags=("hate",) if n < blocked else ()) for n in range(40)]
    said += [Verdict(id=f"s{n}", group="safe", scores={}, flags=()) for n in range(40)]
    report = Report(origin="80 texts", decoder="", protected=("hate",), categories={}, blocked={}, baseline_blocked={}, reliability=())
    directory.mkdir()
    (directory / "classifier.json").write_text(report.model_dump_json())
    (directory / "verdicts.jsonl").write_text("".join(one.model_dump_json() + "\n" for one in said))


def test_decision_policy_by_kto_was_trained_on_thumbs_too(inputs: dict[str, Path]) -> None:
    made = {"name": "policy", "config": {"algorithm": "kto"}, "parents": {**DATA, "reference": "reference/kept"}}
    write(inputs["policy"] / "artifact.json", made)
    assert [use.name for use in uses("policy", inputs)] == ["reward_comparisons", "thumbs"]


@pytest.mark.parametrize("role", ["tokens", "reward", "gold", "policy"])
def test_decision_model_made_from_other_data_than_searched_is_blocked(inputs: dict[str, Path], role: str) -> None:
    data = {"corpus": "corpus/another"} if role == "tokens" else {"feedback": "feedback/another"}
    write(inputs[role] / "artifact.json", {"name": role, "parents": {**DATA, **data}})

    decision = judged(inputs)

    assert blocking(decision) == ["contamination"]
    assert f"/another, but {CORPUS} and {FEEDBACK} was searched" in str(decision)


def test_decision_policy_of_comparisons_was_trained_on_them_and_the_card_names_its_algorithm(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    made = {"name": "policy", "config": {"algorithm": "kwise_dpo"}, "parents": {**DATA, "reference": "reference/kept"}}
    write(inputs["policy"] / "artifact.json", made)

    run(CONFIG, inputs, tmp_path, silent, satisfied, agreeing, "line")

    assert [(use.name, use.data) for use in uses("policy", inputs)] == [("reward_comparisons", FEEDBACK)]
    assert read_decision(tmp_path).verdict == "PROMOTE"
    assert "aligned by K-wise DPO with human ratings" in (tmp_path / "card.html").read_text()


def test_decision_card_of_a_distilled_policy_names_its_teacher_and_the_licence(inputs: dict[str, Path], tmp_path: Path) -> None:
    write(inputs["policy"] / "artifact.json", {"name": "policy", "config": {"algorithm": "opd"}, "parents": DATA})
    teacher = Teacher(name="Elder <1>", licence="CC-BY-4.0", identity="e1e2")
    write(inputs["policy"] / "sources.json", [source(teacher, served=False)])

    run(CONFIG, inputs, tmp_path, silent, satisfied, agreeing, "line")

    card = (tmp_path / "card.html").read_text()
    assert "aligned by on-policy distillation from a teacher. Beside" in card
    assert "Elder &lt;1&gt; e1e2; licence: CC-BY-4.0" in card
    assert "Elder <1>" not in card


def test_decision_line_that_ends_with_feedme_counts_its_model_once_and_names_it(inputs: dict[str, Path], tmp_path: Path) -> None:
    write(inputs["policy"] / "artifact.json", {"name": "sft", "parents": {**DATA, "feedback": "feedme/0b"}})
    inputs = {**inputs, "sft_start": inputs["policy"], "feedme": tmp_path / "feedme" / "0b"}
    write(inputs["feedme"] / "artifact.json", {"name": "feedme", "parents": DATA})

    run(CONFIG, inputs, tmp_path, silent, satisfied, agreeing, "line")

    trained = gather(inputs, PASSED, agreeing, None).trained
    assert [use.name for use in trained if use.model == "sft_start"] == ["demonstrations", "pretrain"]
    assert not [use for use in trained if use.model == "policy"]
    assert read_decision(tmp_path).verdict == "PROMOTE"
    assert "aligned by FeedME with human ratings" in (tmp_path / "card.html").read_text()


TAUGHT = {"name": "Big <1>", "licence": "CC-BY-4.0", "identity": "b1b2"}


def write_taught(inputs: dict[str, Path], root: Path, searched: bool) -> str:
    """A line whose SFT learned from a teacher too; its ``name/version``. ``searched``: the contamination check knows of it."""
    directory = root / "instructions" / "0a0b"
    counts = {"seeds": 12, "requests": 34, "proposed": 567, "kept": 89, "people": 210, "left_out": {"near_duplicate": 345}}
    write(directory / "artifact.json", {"name": "instructions", "parents": {"feedback": FEEDBACK}})
    write(directory / "instructions.json", {"teacher": TAUGHT, **counts})
    write(directory / "sources.json", [{"name": "Big <1>", "package": "teacher", "version": "", "sha256": "", "licence": "CC-BY-4.0"}])
    inputs["instructions"] = directory
    ref = f"{directory.parent.name}/{directory.name}"
    write(inputs["sft"] / "artifact.json", {"name": "sft", "parents": {**DATA, "feedback": ref}})
    if searched:
        write(inputs["contamination"] / "artifact.json", {"name": "contamination", "parents": {**DATA, "instructions": ref}})
        report = {
            name: one.model_copy(update={"sets": {**one.sets, "instructions": Searched(documents=89)}}) for name, one in REPORT.items()
        }
        write_report(inputs["contamination"], report)
    return ref


def test_decision_model_that_a_teacher_taught_was_searched_for_it_and_the_card_says_who(inputs: dict[str, Path], tmp_path: Path) -> None:
    ref = write_taught(inputs, tmp_path, searched=True)
    assert [(use.name, use.data) for use in uses("sft", inputs)] == [
        ("demonstrations", FEEDBACK),
        ("pretrain", CORPUS),
        ("instructions", ref),
    ]
    assert uses("gold", inputs)[0].data == FEEDBACK

    run(CONFIG, inputs, tmp_path, silent, satisfied, agreeing, "line")

    assert read_decision(tmp_path).verdict == "PROMOTE", read_decision(tmp_path)
    card = (tmp_path / "card.html").read_text()
    for said in ("<dd>Big &lt;1&gt;</dd>", "<dd>CC-BY-4.0</dd>", "89 of the teacher, 210 of people", "near duplicate", ">345<"):
        assert said in card
    assert "<td>Big &lt;1&gt;</td>" in card, "among the sources"
    summary = (tmp_path / "training_content.html").read_text()
    assert "89 instructions and answers that Big &lt;1&gt; (b1b2; licence: CC-BY-4.0) wrote" in summary


def test_decision_teachers_demonstrations_that_nobody_searched_are_blocked(inputs: dict[str, Path], tmp_path: Path) -> None:
    ref = write_taught(inputs, tmp_path, searched=False)
    decision = judged(inputs)
    assert blocking(decision) == ["contamination"]
    assert f"sft was trained on {ref}, but {CORPUS} and {FEEDBACK} was searched" in str(decision)
    write(inputs["sft"] / "artifact.json", {"name": "sft", "parents": DATA})
    assert blocking(judged(inputs)) == [], "a model that did not learn from it needs no search of it"


def test_results_of_other_benchmark_ids_are_not_comparable(inputs: dict[str, Path]) -> None:
    assert comparable(inputs["baseline"], inputs["results"])

    write_benchmarks(inputs["baseline"], {**IDS, "held_out_text": "of another corpus"})

    assert not comparable(inputs["baseline"], inputs["results"])


@pytest.mark.parametrize(
    ("artifact", "file", "gate"),
    [
        ("corpus", "expectations.json", "data"),
        ("contamination", "report.json", "contamination"),
        ("forecast", "forecast.json", "forecast"),
    ],
)
def test_decision_missing_evidence_never_promotes(inputs: dict[str, Path], artifact: str, file: str, gate: str) -> None:
    (inputs[artifact] / file).unlink()

    assert blocking(judged(inputs)) == [gate]


def test_decision_card_is_written_for_a_blocked_release_without_a_forecast(inputs: dict[str, Path], tmp_path: Path) -> None:
    (inputs["forecast"] / "forecast.json").unlink()

    run(CONFIG, inputs, tmp_path, silent, satisfied, agreeing)

    assert read_decision(tmp_path).verdict == "BLOCK"
    assert (tmp_path / "card.html").read_text().count("<svg") == 6


def test_results_damaged_file_is_named(inputs: dict[str, Path]) -> None:
    (inputs["results"] / "results.json").write_text("{")

    with pytest.raises(ValueError, match="not a results artifact"):
        read_results(inputs["results"])


def test_suite_outcome_names_what_failed() -> None:
    suites = [{"results": [{"name": "a", "success": True}]}, {"results": [{"name": "b", "success": False}, {"name": "c", "success": None}]}]

    assert suite_outcome(suites) == {"success": False, "evaluated": 3, "failed": ["b", "c"]}
    assert suite_outcome([]) is None


def test_decision_metrics_that_break_their_suite_are_blocked_and_the_page_is_kept(inputs: dict[str, Path], tmp_path: Path) -> None:
    table = {key: {**estimate.plain(), "share": key.endswith("/acc")} for key, estimate in METRICS.items()}
    table["evals/sft/last_word/acc"] = {"value": 1.2, "low": 1.1, "high": 1.3, "n": 100, "share": True}  # no gate reads it
    table["evals/sft/openings/repetition"] = {"value": None, "low": 0.0, "high": 1.0, "n": 100, "share": True}
    write(inputs["results"] / "results.json", table)

    run(CONFIG, inputs, tmp_path, silent, validate, agreeing)

    decision = read_decision(tmp_path)
    assert blocking(decision) == ["metrics"]
    (gate,) = [gate for gate in decision.gates if gate.name == "metrics"]
    assert gate.reason.startswith("expectations not met: metric_value_there, ")
    assert gate.reason.endswith(", share_between_0_and_1")
    page = (tmp_path / "data_docs_shares.html").read_text()
    assert "greater than or equal to" in page
    assert "1.2" in page


def test_decision_page_of_all_versions_shows_the_chain_and_leaves_out_other_ids(inputs: dict[str, Path], tmp_path: Path) -> None:
    for number, words, ids in ((1, 40, {**IDS, "last_word": "id-0"}), (3, 45, IDS), (2, 48, IDS)):  # 2 was held until 3 served
        inputs[f"version_{number}"] = tmp_path / f"v{number}"
        write_results(inputs[f"version_{number}"], {"policy": f"policy-{number}"}, words)
        write_benchmarks(inputs[f"version_{number}"], ids)
        table = {key: {**estimate.plain(), "share": True} for key, estimate in METRICS.items()}
        table["evals/policy/last_word/acc"] |= {"value": words / 100, "low": words / 100 - 0.1, "high": words / 100 + 0.1}
        write(inputs[f"version_{number}"] / "results.json", table)

    run(CONFIG, inputs, tmp_path, silent, satisfied, agreeing, "line")

    page = (tmp_path / "evolution.html").read_text()
    assert re.findall(r"<th[^>]*>([^<]+)</th>", page) == ["Benchmark", "1", "3", "2", "this"]
    row = page[page.index("last_word (acc)") : page.index("</tr>", page.index("last_word (acc)"))]
    assert re.findall(r"<td[^>]*>([^<\s]+)", row) == ["-", "0.4500", "0.4800", "0.3000"]  # version 1 was measured by another id
    assert re.findall(r"[+-]0\.\d{4}", row) == ["+0.0300", "-0.1800"]
    assert "openings" not in page, "its gold model is another in every line"
    assert page.count("<svg") == page.count("<figcaption>") == page.count("<tr><td>")
