"""The evals stage on a real engine and tokenizer, at the smallest size."""

import json
import math
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from itertools import chain
from pathlib import Path

import pytest

from modelyard.evals import gather
from modelyard.evals.evaluate import run
from modelyard.evals.gather import GatherConfig
from modelyard.evals.prepare import prepared
from modelyard.evals.recount import recount
from modelyard.evals.results_artifact import samples
from modelyard.formats.records import Record
from modelyard.formats.results import read_results
from modelyard.model import model_directory
from modelyard.model.encoder import Encoder
from modelyard.model.inference import generate
from modelyard.model.network import parallel
from modelyard.model.subject import Subject
from modelyard.progress import silent
from modelyard.release.decision import comparable
from modelyard.scaling.capability import tried
from modelyard.scaling.right_answers import answers, problems
from tests.unit.evals.small_line import CONFIG, EXECUTION, write_model, write_tokenizer


def rows_of(directory: Path, model: str, benchmark: str) -> list[dict]:
    return [json.loads(line) for line in (directory / "records" / model / f"{benchmark}.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def measured(inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, float], Path]:
    out = tmp_path_factory.mktemp("results")
    return dict(run(CONFIG, inputs, out, out / "checkpoints", EXECUTION, silent)), out


def test_evaluate_policy_equal_to_sft_has_no_kl_and_ties_everywhere(measured: tuple[dict[str, float], Path]) -> None:
    metrics, out = measured

    assert metrics["evals/policy/openings/kl_to_sft"] == pytest.approx(0.0, abs=1e-5)
    assert metrics["evals/policy/openings/win_rate_over_sft"] == 0.5
    assert metrics["evals/policy/openings/win_rate_over_sft_clean_n"] == 3
    assert metrics["evals/policy/openings/win_rate_over_sft_contaminated_n"] == 2
    assert metrics["evals/base/human_eval/pass_at_1"] == 0.0
    assert metrics["evals/policy/toxicity/toxicity"] == 0.0
    results = read_results(out)
    assert results.metrics["evals/sft/validation_loss/loss"].n == 6
    assert results.weights["sft"] != results.weights["base"]
    records = rows_of(out, "policy", "openings")
    assert [record["contaminated"] for record in records] == [True, True, False, False, False]
    assert {record["benchmark_id"] for record in records} == {results.benchmarks["openings"].id}
    assert all(len(record["logprobs"]) >= 1 for record in records)
    notes = [record["note"] for record in rows_of(out, "base", "human_eval")]
    assert "prompt cut" not in notes[0]
    assert "prompt cut" in notes[1]


def test_evaluate_killed_at_any_question_asks_for_the_rest_and_writes_the_same(
    inputs: dict[str, Path], measured: tuple[dict[str, float], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def killed_at(number: int) -> None:
        def counting(answer: Callable[..., object], way: str) -> Callable[..., object]:
            def counted(*given: object, **named: object) -> object:
                asked.append(way)
                if len(asked) == number:
                    raise KeyboardInterrupt
                return answer(*given, **named)

            return counted

        monkeypatch.setattr(generate, "_generate_batch", counting(generate._generate_batch, "drawn"))
        for way in ("_likelihoods", "_row_logprobs", "_next_token", "_logprobs"):
            monkeypatch.setattr(Subject, way, counting(getattr(Subject, way), way))

    parts = []
    for number in (4, 9, 0):
        asked.clear()
        with monkeypatch.context() as monkeypatch:
            killed_at(number)
            with pytest.raises(KeyboardInterrupt) if number else nullcontext():
                run(CONFIG, inputs, tmp_path / "out", tmp_path / "checkpoints", EXECUTION, silent)
        parts.append(asked[: number - 1] if number else list(asked))
        with (tmp_path / "checkpoints" / "base.jsonl").open("a") as file:
            file.write('["half a li')  # the writer was killed

    assert read_results(tmp_path / "out") == read_results(measured[1])
    for model in ("base", "sft", "policy"):
        for benchmark in (*CONFIG.names, "validation_loss"):
            assert rows_of(tmp_path / "out", model, benchmark) == rows_of(measured[1], model, benchmark)
    assert [len(part) for part in parts[:2]] == [3, 8]
    again = tmp_path / "again"
    asked.clear()
    with monkeypatch.context() as monkeypatch:
        killed_at(0)
        run(CONFIG, inputs, again / "out", again / "checkpoints", EXECUTION, silent)
    assert [*chain.from_iterable(parts)] == asked


def test_evaluate_what_was_measured_before_the_policy_is_not_asked_again_and_gives_the_same(
    inputs: dict[str, Path], measured: tuple[dict[str, float], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, opened = tmp_path / "before", []
    earlier = {role: path for role, path in inputs.items() if role != "policy"}
    metrics = run(CONFIG, earlier, before, tmp_path / "checkpoints", EXECUTION, silent)
    open_model = Subject.open
    monkeypatch.setattr(Subject, "open", lambda name, *given: (opened.append(name), open_model(name, *given))[1])
    told: list[tuple[int, int]] = []

    found = run(
        CONFIG,
        {**inputs, "before": before},
        tmp_path / "out",
        tmp_path / "checkpoints",
        EXECUTION,
        lambda done, total, metrics={}, unit="step": told.append((done, total)),
    )

    assert opened == ["policy", "sft"]
    assert found == measured[0]
    assert metrics.items() <= measured[0].items()
    assert read_results(tmp_path / "out") == read_results(measured[1])
    for file in ("calibration.json", "samples.json", "weights.json"):
        assert (tmp_path / "out" / file).read_text() == (measured[1] / file).read_text()
    assert told[-1][0] == told[-1][1] == sum(len(rows) for rows in read_results(before).of("base").values())


def test_evaluate_what_was_measured_before_and_is_not_of_this_line_is_refused(inputs: dict[str, Path], tmp_path: Path) -> None:
    earlier = {role: path for role, path in inputs.items() if role != "policy"}
    run(CONFIG, {**earlier, "sft": inputs["base"]}, tmp_path / "before", tmp_path, EXECUTION, silent)
    given = {**inputs, "before": tmp_path / "before"}

    with pytest.raises(ValueError, match="sft has other weights"):
        run(CONFIG, given, tmp_path, tmp_path, EXECUTION, silent)
    with pytest.raises(ValueError, match="validation_loss is another benchmark"):
        run(CONFIG.model_copy(update={"validation_rows": 4}), given, tmp_path, tmp_path, EXECUTION, silent)


def test_evaluate_second_sft_model_that_is_released_is_as_far_from_the_first_as_a_policy_would_be(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    config = CONFIG.model_copy(update={"benchmarks": [one for one in CONFIG.benchmarks if one.name == "openings"]})
    released = {**inputs, "policy": inputs["base"], "sft_start": inputs["base"]}
    assert run(config, released, tmp_path, tmp_path / "checkpoints", EXECUTION, silent)["evals/policy/openings/kl_to_sft"] > 0.1


def test_evaluate_every_benchmark_has_records_of_every_model_under_one_id(measured: tuple[dict[str, float], Path]) -> None:
    results = read_results(measured[1])

    assert list(results.benchmarks) == ["validation_loss", "next_token", *CONFIG.names]
    for name, known in results.benchmarks.items():
        for model in ("base", "sft", "policy"):
            rows = results.of(model)[name]
            assert {(row["benchmark_id"], row["weights"]) for row in rows} == {(known.id, results.weights[model])}
            assert f"evals/{model}/{name}/{known.metrics[0]}" in results.metrics
    assert {name for name, known in results.benchmarks.items() if not known.searched} == {"validation_loss", "next_token"}
    assert "evals/policy/openings/kl_to_sft" not in results.shares
    assert "evals/policy/colours/acc_clean" in results.shares


def test_evaluate_completions_are_drawn_once_for_all_that_judge_them(measured: tuple[dict[str, float], Path]) -> None:
    openings, toxicity = (rows_of(measured[1], "policy", name) for name in ("openings", "toxicity"))

    assert [(row["output"], row["logprobs"]) for row in openings] == [(row["output"], row["logprobs"]) for row in toxicity]
    assert len({row["benchmark_id"] for row in (*openings, *toxicity)}) == 2


def test_samples_are_of_a_benchmark_that_every_model_was_asked(inputs: dict[str, Path], measured: tuple[dict[str, float], Path]) -> None:
    stage = prepared(CONFIG, inputs, EXECUTION)
    records = {
        name: [Record.model_validate(row) for row in rows_of(measured[1], "sft", name)] for name in CONFIG.names if name != "colours"
    }
    of_every_model = samples(stage, {"base": records, "sft": records})
    without = {name: found for name, found in records.items() if name != "openings"}  # as of images that a model of text is not shown

    assert [one["sft"] for one in of_every_model] == [one.output for one in records["openings"][:3]]
    assert [one["base"] for one in samples(stage, {"base": without, "sft": records})] != [one["base"] for one in of_every_model]
    assert samples(stage, {"base": {}, "sft": records}) == []


def test_evaluate_own_file_is_answered_as_transformers_free_sums_say(
    inputs: dict[str, Path], measured: tuple[dict[str, float], Path]
) -> None:
    metrics, out = measured
    subject = Subject.open("policy", inputs["policy"], EXECUTION, 4)

    for row, right in zip(rows_of(out, "policy", "colours"), ("red", "blue", "red"), strict=True):
        prefix = [subject.encoder.document_end, *subject.encoder.ids(f"{right}? It is")]
        totals = [sum(subject.logprobs([prefix], [subject.encoder.ids(f" {option}")])[0]) for option in ("red", "blue")]
        assert row["logprobs"] == pytest.approx(totals, abs=1e-4)
        assert row["score"] == float(("red", "blue")[totals.index(max(totals))] == right)
    assert metrics["evals/policy/colours/acc_n"] == 3
    assert metrics["evals/policy/colours/acc_contaminated_n"] == 1


def test_production_with_another_tokenizer_is_measured_by_the_same_benchmarks(
    inputs: dict[str, Path], measured: tuple[dict[str, float], Path], tmp_path: Path
) -> None:
    vocabulary = write_tokenizer(tmp_path / "tokens", 272)
    write_model(tmp_path / "production", tmp_path / "tokens", vocabulary, 9, "lm")
    theirs = tmp_path / "baseline"
    theirs.mkdir()
    read = {role: inputs[role] for role in ("benchmarks", "corpus", "contamination")}

    metrics = run(CONFIG, {**read, "policy": tmp_path / "production"}, theirs, tmp_path, EXECUTION, silent)

    ours, baseline = read_results(measured[1]), read_results(theirs)
    assert list(baseline.benchmarks) == [name for name in CONFIG.names if name != "openings"]
    assert comparable(theirs, measured[1])
    assert metrics["evals/policy/held_out_text/nats_per_byte_n"] == 3
    for name, known in baseline.benchmarks.items():
        assert known == ours.benchmarks[name]
        items = [[row["item"] for row in side.of("policy")[name]] for side in (ours, baseline)]
        assert items[0] == items[1]


def test_evaluate_what_judges_and_is_missing_is_named(inputs: dict[str, Path], tmp_path: Path) -> None:
    for role, message in (("scorer", "openings: needs the scorer model"), ("corpus", "toxicity: needs a classifier of abuse")):
        with pytest.raises(ValueError, match=message):
            run(CONFIG, {name: path for name, path in inputs.items() if name != role}, tmp_path, tmp_path, EXECUTION, silent)


def test_evaluate_foreign_tokenizer_is_refused(inputs: dict[str, Path], tmp_path: Path) -> None:
    import shutil

    other = shutil.copytree(inputs["sft"], tmp_path / "sft")
    (other / "tokenizer_config.json").write_text('{"chat_template": "another"}')

    with pytest.raises(ValueError, match="is not the one it was trained with"):
        run(CONFIG, {**inputs, "sft": other}, tmp_path, tmp_path, EXECUTION, silent)


def test_recount_of_the_records_gives_every_metric_and_an_edited_record_another(
    measured: tuple[dict[str, float], Path], tmp_path: Path
) -> None:
    results = Path(shutil.copytree(measured[1], tmp_path / "results"))
    (results / "artifact.json").write_text(json.dumps({"config": {"seed": CONFIG.seed}}))

    again = recount(results)

    kept = read_results(results).metrics
    assert set(again) == set(kept)
    for key, estimate in again.items():
        assert tuple(estimate) == pytest.approx(tuple(kept[key]), rel=1e-12, nan_ok=True), key

    file = results / "records" / "policy" / "last_word.jsonl"
    rows = [{**row, "score": 1.0, "values": dict.fromkeys(row["values"], 1.0)} for row in rows_of(results, "policy", "last_word")]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    moved = {key for key, estimate in recount(results).items() if estimate[:4] != kept[key][:4]}
    assert moved
    assert all(key.startswith("evals/policy/last_word/") for key in moved)


@pytest.mark.parametrize("file", ["calibration.json", "samples.json"])
def test_recount_refuses_what_the_card_shows_beside_the_metrics_and_no_record_says(
    measured: tuple[dict[str, float], Path], tmp_path: Path, file: str
) -> None:
    results = Path(shutil.copytree(measured[1], tmp_path / "results"))
    (results / "artifact.json").write_text(json.dumps({"config": {"seed": CONFIG.seed}}))
    content = json.loads((results / file).read_text())
    if file == "samples.json":
        content[0]["policy"] += " and nothing harmful"
    else:
        for bar in content["next_token"]["policy"]["bins"]:
            bar["accuracy"] = bar["confidence"]
    (results / file).write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf"{file}: .* of policy "):
        recount(results)


def test_what_a_ladder_asks_a_model_is_what_the_records_of_it_say(
    inputs: dict[str, Path], measured: tuple[dict[str, float], Path], tmp_path: Path
) -> None:
    def ask(*names: str) -> None:
        every = {one.name: one for one in CONFIG.benchmarks}
        sets = GatherConfig(seed=0, benchmarks=tuple(every[name] for name in names), context=24)
        gather.run_continuations(sets, {"held_out": inputs["held_out"]}, tmp_path, silent, [str(inputs["held_out"].parent)])

    names = ["last_word", "colours"]
    parallel.initialize(EXECUTION)
    ask(*names)

    found = answers(model_directory.load(inputs["base"], EXECUTION), Encoder(inputs["base"]), problems(names, tmp_path))

    for name in names:
        rows = rows_of(measured[1], "base", name)
        assert found[name] == pytest.approx({row["item"]: row["values"]["nats"] for row in rows}, abs=1e-5)
        assert tried(rows, 1e9).rates == pytest.approx({item: math.exp(-nats) for item, nats in found[name].items()}, rel=1e-5)
    with pytest.raises(ValueError, match=r"forecast.benchmarks: 'openings' has no text that is right after its prompt"):
        ask("openings")


def test_what_a_ladder_is_asked_is_known_by_its_texts_alone(inputs: dict[str, Path]) -> None:
    def defined(**changes: object) -> gather.Texts:
        sets = GatherConfig.model_validate({"seed": 0, "context": 24, "benchmarks": {"last_word": {"max_new_tokens": 3}}, **changes})
        return gather.defined_by_texts(sets, [inputs["held_out"]], [])

    assert defined(seed=1, context=48, benchmarks={"last_word": {"max_new_tokens": 5}}) == defined()
    assert defined(benchmarks={"last_word": {"max_new_tokens": 3, "limit": 2}}) != defined()
