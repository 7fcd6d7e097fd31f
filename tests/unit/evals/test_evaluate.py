"""The evals stage on a real engine and tokenizer, at the smallest size."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from modelyard.evals.production import run as measure_production
from modelyard.evals.suites import EvalsConfig
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from modelyard.evals.evaluate import run
from modelyard.evals.sandbox.run import Limits
from modelyard.execution import ExecutionConfig
from modelyard.formats.abuse import BUCKETS, AbuseModel
from modelyard.model import model_directory
from modelyard.model.asked import Decoding
from modelyard.model.network.architecture import ModelConfig
from modelyard.model.subject import ScorerModel, Subject
from modelyard.model.training.engine import Engine
from modelyard.model.training.trainer import History
from modelyard.progress import silent

EXECUTION = ExecutionConfig(threads=1)
SPECIAL = ["<|endoftext|>", "<|user|>", "<|assistant|>", "<|end|>", "<|pad|>"]
TEXTS = ["the king of the castle", "a fine film about a dog", "def f(x): return x", "an awful mess of a plot"]
CONFIG = EvalsConfig(
    seed=0,
    validation_rows=6,
    held_out_texts=3,
    last_word_items=4,
    last_word_tokens=3,
    human_eval_items=2,
    human_eval_tokens=6,
    openings=5,
    opening_tokens=6,
    opening_temperature=1.0,
    calibration_positions=2,
    calibration_rows=6,
    toxicity_threshold=0.5,
    sandbox=Limits(wall_seconds=5.0, cpu_seconds=5, memory_bytes=1 << 29, file_bytes=1 << 24, processes=2),
)


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
    directory.mkdir()
    tokenizer.save(str(directory / "tokenizer.json"))
    (directory / "tokenizer_config.json").write_text("{}")
    return -(-tokenizer.get_vocab_size() // 8) * 8


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("evals")
    tokens, corpus, contamination = (root / name for name in ("tokens", "corpus", "contamination"))
    vocabulary = write_tokenizer(tokens, 288)
    np.save(tokens / "validation.npy", np.random.default_rng(0).integers(5, vocabulary - 8, (6, 25)).astype(np.uint16))
    lines(corpus / "benchmarks" / "openings.jsonl", [{"id": f"o{i}", "prompt": "a fine", "text": "a fine film"} for i in range(5)])
    lines(corpus / "benchmarks" / "last_word.jsonl", [{"id": f"w{i}", "context": TEXTS[i][:-4], "word": "dog"} for i in range(4)])
    lines(corpus / "benchmarks" / "held_out_text.jsonl", [{"id": f"t{i}", "text": text * (1 + 9 * i)} for i, text in enumerate(TEXTS[:3])])
    problem = {
        "prompt": "def f(x):\n",
        "entry_point": "f",
        "test": "def check(candidate):\n    assert candidate(1) == 2\n",
        "canonical_solution": "",
    }
    lines(
        corpus / "benchmarks" / "human_eval.jsonl",
        [{"task_id": f"h{i}", **problem, "prompt": problem["prompt"] * (1 + 9 * i)} for i in range(2)],
    )
    AbuseModel(frozenset(), np.zeros(BUCKETS, np.float32), -1.0, frozenset()).save(corpus)
    contamination.mkdir()
    (contamination / "contaminated.json").write_text(json.dumps({"openings": ["o0", "o1"], "last_word": [], "human_eval": []}))
    for name, seed, head in (("base", 1, "lm"), ("sft", 2, "lm"), ("policy", 2, "lm"), ("scorer", 4, "scalar")):
        write_model(root / name, tokens, vocabulary, seed, head)
    return {name: root / name for name in ("base", "sft", "policy", "scorer", "tokens", "corpus", "contamination")}


def test_evaluate_policy_equal_to_sft_has_no_kl_and_ties_everywhere(inputs: dict[str, Path], tmp_path: Path) -> None:
    metrics = run(CONFIG, inputs, tmp_path, tmp_path / "checkpoints", EXECUTION, silent)

    assert metrics["evals/policy/kl_to_sft"] == pytest.approx(0.0, abs=1e-5)
    assert metrics["evals/policy/win_rate_over_sft"] == 0.5
    assert metrics["evals/policy/win_rate_over_sft_clean_n"] == 3
    assert metrics["evals/policy/win_rate_over_sft_contaminated_n"] == 2
    assert metrics["evals/base/human_eval_pass_at_1"] == 0.0
    assert metrics["evals/policy/toxicity"] == 0.0
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["evals/sft/validation_loss"]["n"] == 6
    weights = json.loads((tmp_path / "weights.json").read_text())
    assert weights["sft"] != weights["base"]
    records = [json.loads(line) for line in (tmp_path / "records" / "policy" / "openings.jsonl").read_text().splitlines()]
    assert [record["contaminated"] for record in records] == [True, True, False, False, False]
    assert {record["benchmark_id"] for record in records} == {json.loads((tmp_path / "benchmarks.json").read_text())["openings"]}
    assert all(len(record["logprobs"]) >= 1 for record in records)
    cut = [json.loads(line)["note"] for line in (tmp_path / "records" / "base" / "human_eval.jsonl").read_text().splitlines()]
    assert "prompt cut" not in cut[0]
    assert "prompt cut" in cut[1]


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


def test_production_with_another_tokenizer_is_measured_by_the_same_benchmarks(inputs: dict[str, Path], tmp_path: Path) -> None:
    mine, theirs = tmp_path / "results", tmp_path / "baseline"
    for out in (mine, theirs):
        out.mkdir()
    run(CONFIG, inputs, mine, tmp_path, EXECUTION, silent)
    production_tokens = tmp_path / "tokens"
    vocabulary = write_tokenizer(production_tokens, 272)
    write_model(tmp_path / "production", production_tokens, vocabulary, 9, "lm")

    metrics = measure_production(CONFIG, {**inputs, "policy": tmp_path / "production"}, theirs, tmp_path, EXECUTION, silent)

    ids = json.loads((theirs / "benchmarks.json").read_text())
    assert set(ids) == {"held_out_text", "last_word", "human_eval", "toxicity"}
    assert ids.items() <= json.loads((mine / "benchmarks.json").read_text()).items()
    assert metrics["evals/policy/nats_per_byte_n"] == 3
    for name in ids:
        sides = [(out / "records" / "policy" / f"{name}.jsonl").read_text().splitlines() for out in (mine, theirs)]
        assert [json.loads(line)["item"] for line in sides[0]] == [json.loads(line)["item"] for line in sides[1]]


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
    rows = np.load(inputs["tokens"] / "validation.npy")[:2]

    confidences, _ = subject.next_token(rows, 7)

    for row, confidence in zip(rows, confidences, strict=True):
        prefix = row[:7].tolist()
        candidates = range(subject.engine.model.vocab_size)
        likelihoods = subject.logprobs([prefix] * len(candidates), [[label] for label in candidates])
        assert confidence == pytest.approx(float(np.exp(max(line[0] for line in likelihoods))), abs=1e-5)


def test_judge_score_does_not_depend_on_its_batch(inputs: dict[str, Path]) -> None:
    documents = [[0, 7, 8, 9, 0], [0, 9, 0], [0, 11, 12, 13, 14, 15, 16, 0]]

    together = ScorerModel(inputs["scorer"], EXECUTION, 4).scores(documents)
    alone = [ScorerModel(inputs["scorer"], EXECUTION, 1).scores([document])[0] for document in documents]

    assert together == pytest.approx(alone, abs=1e-5)
    assert len(set(together)) == 3
