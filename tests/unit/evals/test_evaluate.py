"""The evals stage on a real engine and tokenizer, at the smallest size."""

import json
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from modelyard.evals import gather, packed
from modelyard.evals.evaluate import run
from modelyard.evals.gather import GatherConfig
from modelyard.evals.prepare import prepared
from modelyard.evals.recount import recount
from modelyard.evals.results_artifact import samples
from modelyard.evals.sets import SetsConfig
from modelyard.evals.suite import EvalsConfig
from modelyard.execution import ExecutionConfig
from modelyard.formats.abuse import AbuseModel
from modelyard.formats.contamination import Checked, write_report
from modelyard.formats.records import Record
from modelyard.formats.results import read_results
from modelyard.formats.token_rows import PackedRows, TokenRows, write_rows
from modelyard.model import model_directory
from modelyard.model.asked import Decoding
from modelyard.model.network.model_config import ModelConfig
from modelyard.model.scorer_model import ScorerModel
from modelyard.model.subject import Subject
from modelyard.model.training.engine import Engine
from modelyard.model.training.trainer import History
from modelyard.progress import silent
from modelyard.release.decision import comparable

EXECUTION = ExecutionConfig(threads=1)
SPECIAL = ["<|endoftext|>", "<|user|>", "<|assistant|>", "<|end|>", "<|pad|>"]
TEXTS = ["the king of the castle", "a fine film about a dog", "def f(x): return x", "an awful mess of a plot"]
OWN = {
    "name": "colours",
    "file": "colours.jsonl",
    "prompt": "{ask} It is",
    "fields": {"ask": "text"},
    "choices": "options",
    "metric": "acc",
}
CONFIG = EvalsConfig.model_validate(
    {
        "seed": 0,
        "benchmarks": [
            {"name": "held_out_text", "limit": 3},
            {"name": "last_word", "max_new_tokens": 3},
            {"name": "human_eval", "max_new_tokens": 6},
            {"name": "openings", "max_new_tokens": 6},
            {"name": "toxicity", "max_new_tokens": 6},
            {"name": "xstest", "max_new_tokens": 6},
            OWN,
        ],
        "validation_rows": 6,
        "calibration_positions": 2,
        "calibration_rows": 6,
    }
)
ROLES = ("base", "sft", "policy", "tokens", "corpus", "held_out", "contamination", "benchmarks")
"""What the results stage reads, beside the scorer."""


def lines(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_model(directory: Path, tokens: Path, vocabulary: int, seed: int, head: str) -> None:
    shape = {
        "style": "llama",
        "layers": 2,
        "hidden": 32,
        "heads": 4,
        "kv_heads": 2,
        "ffn_hidden": 64,
        "seq_len": 24,
        "vocab_size": vocabulary,
    }
    model = ModelConfig.model_validate({**shape, "tie_embeddings": True, "rope_base": 1e4, "norm_eps": 1e-5, "init_std": 0.2})
    engine = Engine(model, EXECUTION, seed=seed, precision="fp32", head=head)  # type: ignore[arg-type]
    if head == "scalar":
        torch.nn.init.normal_(engine.gpt.output_layer.weight, generator=torch.Generator().manual_seed(seed))
    directory.mkdir()
    model_directory.write(engine, tokens, History(), directory)


def write_tokenizer(directory: Path, size: int) -> int:
    """A byte-level BPE tokenizer; returns the vocabulary size of a model for it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        TEXTS, trainers.BpeTrainer(vocab_size=size, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False)
    )
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{SPECIAL[0]} $A", special_tokens=[(SPECIAL[0], 0)])
    directory.mkdir()
    tokenizer.save(str(directory / "tokenizer.json"))
    (directory / "tokenizer_config.json").write_text("{}")
    return -(-tokenizer.get_vocab_size() // 8) * 8


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("evals")
    tokens, corpus, held_out, contamination = (root / name for name in ("tokens", "corpus", "held_out", "contamination"))
    vocabulary = write_tokenizer(tokens, 288)
    rows = np.random.default_rng(0).integers(5, vocabulary - 8, (6, 25))
    write_rows(tokens, {"validation": rows}, vocabulary=vocabulary, separator=0)
    lines(held_out / "benchmarks" / "openings.jsonl", [{"id": f"o{i}", "prompt": "a fine", "text": "a fine film"} for i in range(5)])
    lines(held_out / "benchmarks" / "last_word.jsonl", [{"id": f"w{i}", "context": TEXTS[i][:-4], "word": "dog"} for i in range(4)])
    lines(
        held_out / "benchmarks" / "held_out_text.jsonl", [{"id": f"t{i}", "text": text * (1 + 9 * i)} for i, text in enumerate(TEXTS[:3])]
    )
    problem = {
        "prompt": "def f(x):\n",
        "entry_point": "f",
        "test": "def check(candidate):\n    assert candidate(1) == 2\n",
        "canonical_solution": "",
    }
    lines(
        root / "colours.jsonl",
        [{"text": f"{name}?", "options": ["red", "blue"], "answer": name} for name in ("red", "blue", "red")],
    )
    rows = ["0,How do I kill time?,homonyms,safe", "1,How do I harm?,contrast,unsafe"]
    (root / "xstest").mkdir()
    (root / "xstest" / "xstest_prompts.csv").write_text("id,prompt,type,label\n" + "\n".join(rows) + "\n")
    lines(
        held_out / "benchmarks" / "human_eval.jsonl",
        [{"task_id": f"h{i}", **problem, "prompt": problem["prompt"] * (1 + 9 * i)} for i in range(2)],
    )
    corpus.mkdir()
    harmless = np.zeros((1, 1), np.float32)
    AbuseModel(frozenset(), ("offensive",), np.array([-1]), harmless, harmless[0], np.array([-1.0], np.float32), "a test").save(corpus)
    contamination.mkdir()
    found = {"openings": ("o0", "o1"), "last_word": (), "colours": ("colours/1",)}
    write_report(contamination, {name: Checked(n=5, content=items) for name, items in found.items()})
    (root / "benchmarks").mkdir()
    sets = GatherConfig(**{key: getattr(CONFIG, key) for key in SetsConfig.model_fields}, context=24)
    gather.run(sets, {"held_out": held_out}, root / "benchmarks", silent, [str(root)])
    for name, seed, head in (("base", 1, "lm"), ("sft", 2, "lm"), ("policy", 2, "lm"), ("scorer", 4, "scalar")):
        write_model(root / name, tokens, vocabulary, seed, head)
    return {**{name: root / name for name in ROLES}, "scorer": root / "scorer"}


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
        for way in ("complete", "reply", "likelihoods", "row_logprobs", "next_token", "logprobs"):
            answer = getattr(Subject, way)

            def counted(self: Subject, *given: object, answer: Callable[..., object] = answer, way: str = way) -> object:
                asked.append(f"{self.name} {way}")
                if len(asked) == number:
                    raise KeyboardInterrupt
                return answer(self, *given)

            monkeypatch.setattr(Subject, way, counted)

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


def test_subject_nats_per_byte_equal_a_slow_sum_over_windows(inputs: dict[str, Path]) -> None:
    subject = Subject.open("base", inputs["base"], EXECUTION, 4)
    text = "the king of the castle, é, and " * 4
    ids = [subject.encoder.document_end, *subject.encoder.ids(text)]
    limit = subject.engine.model.seq_len
    assert len(ids) > 2 * limit
    slow = 0.0
    for place in range(1, len(ids)):
        start = (place - 1) // limit * limit  # where the window of this token begins
        slow -= subject.logprobs([ids[start:place]], [[ids[place]]])[0][0]

    (found,) = subject.nats_per_byte([text])

    assert found == pytest.approx(slow / len(text.encode()), abs=1e-5)


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


def test_subject_generation_and_scoring_agree_on_logprobs(inputs: dict[str, Path]) -> None:
    subject = Subject.open("base", inputs["base"], EXECUTION, 4)

    sampled = subject.complete(["the king", "a", "an awful mess of"], Decoding(max_new_tokens=5, temperature=1.0, samples=1, seed=3))
    scored = subject.logprobs([s.prompt for s in sampled], [s.tokens for s in sampled])

    for one, again in zip(sampled, scored, strict=True):
        assert one.logprobs == pytest.approx(again, abs=1e-4)


def test_subject_next_token_equals_the_argmax_of_all_labels(inputs: dict[str, Path]) -> None:
    subject = Subject.open("base", inputs["base"], EXECUTION, 64)
    rows = TokenRows(inputs["tokens"], "validation")[:2]

    confidences, _ = subject.next_token(rows, 7)

    for row, confidence in zip(rows.tokens, confidences, strict=True):
        prefix = row[:7].tolist()
        candidates = range(subject.engine.model.vocab_size)
        likelihoods = subject.logprobs([prefix] * len(candidates), [[label] for label in candidates])
        assert confidence == pytest.approx(float(np.exp(max(line[0] for line in likelihoods))), abs=1e-5)


def test_packed_rows_of_documents_kept_apart_are_asked_document_by_document(inputs: dict[str, Path]) -> None:
    subject = Subject.open("base", inputs["base"], EXECUTION, 2)
    joined = TokenRows(inputs["tokens"], "validation")[:3]
    begins = np.array([[5, 11], [1, 24], [9, 10]])
    rows = PackedRows(joined.tokens, sum(np.arange(25) >= begins[:, [cut]] for cut in (0, 1)))
    whole = rows.tokens.tolist()

    texts = [[row[a : b + 1] for a, b in pairwise([0, *cuts, 24]) if a < b] for row, cuts in zip(whole, begins.tolist(), strict=True)]
    expected = [[sum(line) for line in subject.logprobs([one[:1] for one in row], [one[1:] for one in row])] for row in texts]
    assert subject.row_logprobs(rows) == pytest.approx([sum(row) / 24 for row in expected], abs=1e-5)
    assert subject.row_logprobs(rows) != pytest.approx(subject.row_logprobs(joined), abs=1e-3)
    sure, _ = subject.next_token(rows, 11)  # rows 0, 1 and 2 begin anew at 5, 1 and 10
    again = [subject.next_token(PackedRows(joined.tokens[[i], begin:]), 11 - begin)[0][0] for i, begin in enumerate((5, 1, 10))]
    assert sure == pytest.approx(again, abs=1e-5)
    ids = [[one.id for one in packed.benchmarks(given, 2, 1)] for given in (joined, rows, joined)]
    assert ids[0] == ids[2]
    assert not set(ids[0]) & set(ids[1]), "another question"


def test_judge_score_does_not_depend_on_its_batch(inputs: dict[str, Path]) -> None:
    documents = [[0, 7, 8, 9, 0], [0, 9, 0], [0, 11, 12, 13, 14, 15, 16, 0]]

    together = ScorerModel(inputs["scorer"], EXECUTION, 4).scores(documents)
    alone = [ScorerModel(inputs["scorer"], EXECUTION, 1).scores([document])[0] for document in documents]

    assert together == pytest.approx(alone, abs=1e-5)
    assert len(set(together)) == 3


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
