"""The command on a real model, tokenizer and server: the same scores from our directory, Hugging Face's, the registry and an endpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from modelyard.adapters.mlflow.model_source import local_directory
from modelyard.adapters.mlflow.packaging import WEIGHTS
from modelyard.commands.app import main
from modelyard.evals.catalog import build
from modelyard.execution import ExecutionConfig
from modelyard.model.asked import Likelihood
from modelyard.model.inference.screening import SIGMAS, is_close, token_error
from modelyard.model.subject import Subject
from tests.unit.commands.evaluated import PASSAGES, QUESTIONS, chatting, data, directory
from tests.unit.completions_server import serving

__all__ = ["chatting", "data", "directory"]
EXECUTION = ExecutionConfig(threads=1)


def run(model: str | Path, benchmark: str, data: Path, out: Path, *more: str) -> list[dict[str, Any]]:
    assert main(["eval", str(model), "--benchmark", benchmark, "--data", str(data), "--threads", "1", "--out", str(out), *more]) == 0
    return [json.loads(line) for line in out.read_text().splitlines()]


def reference(directory: Path, pairs: list[tuple[str, str]], *, special: bool = True) -> list[tuple[float, bool]]:
    """Summed log p and greediness by transformers, one continuation at a time, with lm-evaluation-harness's rule of where tokens are cut;
    ``special``: a text begins as the tokenizer begins it."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(directory), AutoTokenizer.from_pretrained(directory)
    found = []
    for context, continuation in pairs:
        prefix, whole = (tokenizer.encode(text, add_special_tokens=special) for text in (context, context + continuation))
        with torch.no_grad():
            logprobs = torch.log_softmax(model(torch.tensor([whole[:-1]])).logits[0], -1)[len(prefix) - 1 :]
        wanted = torch.tensor(whole[len(prefix) :])
        found.append((float(logprobs.gather(1, wanted[:, None]).sum()), bool((logprobs.argmax(-1) == wanted).all())))
    return found


def test_command_hugging_face_directory_equals_transformers(directory: Path, data: Path, tmp_path: Path) -> None:
    arc = run(directory / "hf", "arc-easy", data, tmp_path / "arc.jsonl")
    mmlu = run(directory / "hf", "mmlu", data, tmp_path / "mmlu.jsonl", "--shots", "2")
    words = run(directory / "hf", "lambada", data, tmp_path / "lambada.jsonl")

    for records, letters in ((arc, False), (mmlu, True)):
        for number, entry in enumerate(records):
            texts = list("ABCD") if letters else QUESTIONS[number][1]
            expected = [total for total, _ in reference(directory / "hf", [(entry["prompt"], f" {text}") for text in texts])]
            assert entry["logprobs"] == pytest.approx(expected, abs=1e-3)
            assert entry["choice"] == max(range(len(texts)), key=lambda i: expected[i])
            assert entry["choice_normalised"] == max(range(len(texts)), key=lambda i: expected[i] / len(texts[i]))
    assert mmlu[-1]["prompt"].startswith("The following are multiple choice questions (with answers) about old ships.\n\nWhich one")
    assert mmlu[-1]["prompt"].count("Answer:") == 3
    for entry, (context, word) in zip(words, PASSAGES, strict=True):
        ((total, greedy),) = reference(directory / "hf", [(context, f" {word}")])
        assert sum(entry["logprobs"]) == pytest.approx(total, abs=1e-3)
        assert bool(entry["score"]) is greedy
    summary = json.loads((tmp_path / "arc.metrics.json").read_text())
    assert summary["metrics"]["acc"]["n"] == 4
    assert summary["metrics"]["acc"]["value"] == sum(entry["values"]["acc"] for entry in arc) / 4


def test_command_our_directory_starts_texts_as_in_pretraining(directory: Path, data: Path, tmp_path: Path) -> None:
    records = run(directory / "ours", "arc_easy", data, tmp_path / "r.jsonl", "--limit", "2")

    numbers = [int(entry["item"].removeprefix("arc_easy/")) for entry in records]
    assert len(set(numbers)) == 2, "a sample, not the first two"
    pairs = [(records[0]["prompt"], f" {text}") for text in QUESTIONS[numbers[0]][1]]
    assert records[0]["logprobs"] == pytest.approx([total for total, _ in reference(directory / "hf", pairs)], abs=1e-3)


def test_command_in_bf16_gives_what_fp32_gives_to_its_rounding(directory: Path, data: Path, tmp_path: Path, capsys: Any) -> None:
    exact, rounded = (
        [p for entry in run(directory / "hf", "arc_easy", data, tmp_path / f"{precision}.jsonl", "--precision", precision)
         for p in entry["logprobs"]]
        for precision in ("fp32", "bf16")
    )  # fmt: skip
    assert rounded == pytest.approx(exact, rel=0.02)
    assert rounded != pytest.approx(exact, rel=1e-6)
    arguments = ["--benchmark", "arc_easy", "--data", str(data), "--out", str(tmp_path / "r.jsonl"), "--precision", "bf16"]
    assert main(["eval", "http://localhost:1/v1#x", *arguments]) == 2
    assert "--precision: a server computes as it was started" in capsys.readouterr().err


def test_command_long_text_is_read_in_windows(directory: Path, data: Path, tmp_path: Path) -> None:
    (entry,) = run(directory / "ours", "perplexity", data, tmp_path / "r.jsonl", "--limit", "1")

    subject = Subject.open("x", directory / "ours", EXECUTION, 4)
    assert entry["values"]["tokens"] == len(subject.encoder.ids(entry["prompt"])) > 256
    assert entry["values"]["nats"] / entry["values"]["bytes"] == pytest.approx(subject.nats_per_byte([entry["prompt"]])[0], abs=1e-4)


def test_command_registry_uri_is_the_exported_model(directory: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from modelyard.adapters.mlflow.server import client, experiment_id

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.chdir(tmp_path)
    server = client(uri)
    created = server.create_run(experiment_id(server, uri, "tiny"))
    server.log_artifacts(created.info.run_id, str(directory / "hf"), f"model/{WEIGHTS}")  # as packaging lays a release out
    server.create_registered_model("tiny")
    version = server.create_model_version("tiny", source=f"{created.info.artifact_uri}/model", run_id=created.info.run_id)
    server.set_registered_model_alias("tiny", "production", version.version)

    ours = run(directory / "hf", "arc_easy", data, tmp_path / "a.jsonl")
    theirs = run("models:/tiny@production", "arc_easy", data, tmp_path / "b.jsonl")
    assert [entry["logprobs"] for entry in theirs] == [entry["logprobs"] for entry in ours]
    assert theirs[0]["weights"] == ours[0]["weights"]
    assert local_directory(f"models:/tiny/{version.version}", tmp_path / "again").is_dir()
    assert main(["eval", "models:/tiny@nobody", "--benchmark", "arc_easy", "--data", str(data), "--out", str(tmp_path / "c.jsonl")]) == 2


def test_endpoint_gives_the_local_models_scores(directory: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelyard.model.endpoint.WORKERS", 1)
    monkeypatch.setattr("modelyard.model.completions_client.ended_within", lambda ended, seconds: False)
    with serving(Subject.open("x", directory / "hf", EXECUTION, 4)) as base:
        url = f"{base}#tiny"
        for name in ("arc_easy", "lambada"):
            ours = run(directory / "hf", name, data, tmp_path / "a.jsonl")
            theirs = run(url, name, data, tmp_path / "b.jsonl")
            for a, b in zip(ours, theirs, strict=True):
                assert a["logprobs"] == pytest.approx(b["logprobs"], abs=1e-4)
                assert (a["choice"], a["score"]) == (b["choice"], b["score"])
        letters = [
            run(model, "mmlu_letter", data, tmp_path / "c.jsonl", "--limit", "2", "--shots", "2") for model in (url, directory / "hf")
        ]
    assert [entry["output"] for entry in letters[0]] == [entry["output"] for entry in letters[1]]
    assert any(entry["output"] for entry in letters[0])


def test_chat_only_server_answers_multiple_choice_by_letter(
    chatting: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr("modelyard.model.endpoint.WORKERS", 1)
    monkeypatch.setattr("modelyard.model.completions_client.ended_within", lambda ended, seconds: False)
    letter = ["--choose-by", "letter", "--max-new-tokens", "3"]
    with serving(Subject.open("x", chatting, EXECUTION, 4), only="chat/completions") as base:
        url = f"{base}#tiny"
        theirs = run(url, "arc_easy", data, tmp_path / "a.jsonl", "--chat", "--shots", "1", *letter)
        explained = run(
            url, "mmlu_explained", data, tmp_path / "e.jsonl", "--chat", "--shots", "1", "--limit", "1", "--max-new-tokens", "3"
        )
        plain = main(["eval", url, "--benchmark", "arc_easy", "--data", str(data), "--out", str(tmp_path / "b.jsonl"), *letter])
    refusal = capsys.readouterr().err
    ours = run(chatting, "arc_easy", data, tmp_path / "c.jsonl", "--chat", "--shots", "1", *letter)
    unasked = run(chatting, "arc_easy", data, tmp_path / "d.jsonl", *letter)
    here = run(chatting, "mmlu_explained", data, tmp_path / "f.jsonl", "--chat", "--shots", "1", "--limit", "1", "--max-new-tokens", "3")

    assert [one["output"] for one in explained] == [one["output"] for one in here], "the answer is asked for in a turn of its own"
    assert [one["output"] for one in theirs] == [one["output"] for one in ours]
    assert any(one["output"] for one in ours)
    assert theirs[0]["benchmark_id"] == ours[0]["benchmark_id"] != unasked[0]["benchmark_id"]
    shown = f"Question: {QUESTIONS[0][0]}\nA. sparrow\nB. granite rock\nC. oak\nD. trout\nAnswer:"
    asked = f"Answer with the letter of the right option.\n\n{shown} A\n\n"
    assert ours[0]["prompt"] == f"[user] {asked}{shown}\n[assistant]:"
    assert json.loads(theirs[0]["prompt"]) == [{"role": "user", "content": f"{asked}{shown}"}]
    assert [one["target"] for one in ours] == ["A", "B", "C", "A"]
    assert plain == 2
    assert "has no /completions for tiny; ask it through a chat template" in refusal


def test_likelihoods_in_chat_are_those_after_the_open_turn(chatting: Path, data: Path, tmp_path: Path) -> None:
    records = run(chatting, "arc_easy", data, tmp_path / "a.jsonl", "--chat")

    prompt = f"[user] Question: {QUESTIONS[1][0]}\nAnswer:\n[assistant]:"
    assert records[1]["prompt"] == prompt
    expected = [total for total, _ in reference(chatting, [(prompt, text) for text in QUESTIONS[1][1]], special=False)]
    assert records[1]["logprobs"] == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--benchmark", "perplexity", "--chat"], "perplexity: scores whole texts, so it has no chat form"),
        (["--benchmark", "lambada", "--choose-by", "letter"], "lambada: does not choose by likelihood"),
        (["--benchmark", "arc_harder"], "benchmark 'arc_harder': not known"),
        (["--benchmark", "gsm8k"], "missing data: none of gsm8k/train.jsonl"),
        (["--benchmark", "mmlu_cooking"], "mmlu has no subject 'cooking'; it has birds, old_ships"),
        (["--benchmark", "arc_easy", "--shots", "9"], "9 shots: "),
        (["--benchmark", "arc_easy", "--sample-seed", "1"], "--sample-seed is of the sample that --limit draws"),
        (["--benchmark", "arc_easy", "--screen", "--precision", "bf16"], "--screen decides close calls in fp32"),
        (["--benchmark", "arc_easy", "--limit", "0"], "must be a whole number from 1 on, or a share between 0 and 1, got 0"),
        (["--suite", "any.toml", "--limit", "2.5"], "must be a whole number from 1 on, or a share between 0 and 1, got 2.5"),
        (["--benchmark", "arc_easy", "--samples", "3"], "generates nothing, so --samples has no meaning"),
        (["--benchmark", "mmlu_letter", "--shots", "2", "--samples", "3"], "several samples at temperature 0"),
    ],
)
def test_command_bad_input_is_one_line(arguments: list[str], message: str, data: Path, tmp_path: Path, capsys: Any) -> None:
    code = main(["eval", str(tmp_path), "--data", str(data), "--out", str(tmp_path / "r.jsonl"), *arguments])

    error = capsys.readouterr().err
    assert code == 2
    assert message in error
    assert error.count("\n") == 1


def test_command_directory_without_a_model_is_named(data: Path, tmp_path: Path, capsys: Any) -> None:
    assert main(["eval", str(tmp_path), "--benchmark", "arc_easy", "--data", str(data), "--out", str(tmp_path / "r.jsonl")]) == 2

    assert "neither a model directory (model.json) nor a Hugging Face one (config.json)" in capsys.readouterr().err


def test_screened_choices_are_those_of_fp32(directory: Path) -> None:
    exact, quick = (Subject.open("x", directory / "hf", EXECUTION, 4, screen=screen) for screen in (False, True))
    generator = torch.Generator().manual_seed(0)
    words = ["the", "king", "of", "a", "castle", "went", "to", "buy", "bread", "in", "old", "ships", "of", "iron", "and", "salt", "water"]
    draw = lambda n: " ".join(words[i] for i in torch.randint(0, len(words), (n,), generator=generator).tolist())  # noqa: E731
    questions = [[(draw(6), " " + draw(int(k))) for k in (1, 2, 3, 2)] for _ in range(80)]

    pairs = list(zip(exact.likelihoods(questions), quick.likelihoods(questions), strict=True))

    rough = [(ours, theirs) for ours, theirs in pairs if ours[0].logprobs != theirs[0].logprobs]
    assert rough, "nothing was decided by the bfloat16 pass"
    error = token_error([ours for ours, _ in rough], [theirs for _, theirs in rough])
    assert 0 < error < 0.1, "nats a token"
    for ours, theirs in pairs:
        best = [max(range(4), key=lambda i, line=line: line[i].total) for line in (ours, theirs)]
        assert best[0] == best[1]
        for one, other in zip(ours, theirs, strict=True):
            assert abs(one.total - other.total) <= SIGMAS * error * len(one.logprobs) ** 0.5


def test_screening_close_gaps_are_found_by_sum_characters_and_margin() -> None:
    sure, near = Likelihood([-1.0, -1.0], 3.0), Likelihood([-1.0, -1.05], 3.0)

    assert token_error([[Likelihood([0.0, 0.0], 0)]], [[Likelihood([0.3, 0.4], 0)]]) == pytest.approx((0.125) ** 0.5)
    assert is_close([sure, near], [5, 5], error=0.01)
    assert not is_close([sure, Likelihood([-9.0], 0.0)], [5, 5], error=0.01)
    assert is_close([Likelihood([-2.0], 0.0), Likelihood([-4.0], 0.0)], [5, 10], error=0.001)
    assert is_close([Likelihood([-2.0], -0.001)], [5], error=0.01)
    assert not is_close([Likelihood([-2.0], -1.0)], [5], error=0.01)


def test_benchmark_id_knows_its_shots(data: Path) -> None:
    assert build("arc_easy", data, shots=1).id != build("arc_easy", data, shots=2).id != build("arc_easy", data).id


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--benchmark", "arc_easy", "--suite", "s.toml"], "exactly one of --benchmark and --suite"),
        (["--benchmark", "arc_easy", "--analysis", "orders", "--shots", "3"], "--shots has no meaning beside it"),
        (["--benchmark", "exam", "--limit", "5"], "--benchmark exam says in the exam's own file how it is asked; --limit has no meaning"),
        (["--suite", "s.toml", "--shots", "3"], "--suite says in its file how each benchmark is asked; --shots has no meaning beside it"),
        (["--benchmark", "arc_easy", "--out", "."], "is a directory; one benchmark's records are a file"),
        (["--benchmark", "arc_easy", "--out", "/proc/nowhere/r.jsonl"], ": /proc/nowhere: cannot be written to: No such file or directory"),
        (["--benchmark", "arc_easy", "--threads", "0"], ": config: threads must be at least 1"),
    ],
)
def test_command_refuses_before_it_asks(directory, data, tmp_path, monkeypatch, capsys, arguments, line):
    monkeypatch.setattr(Subject, "likelihoods", lambda *_: pytest.fail("asked"))
    given = [str(directory / "hf"), "--data", str(data), "--out", str(tmp_path / "r.jsonl"), *arguments]
    assert main(["eval", *given]) == 2
    said = capsys.readouterr().err
    assert line in said
    assert said.count("\n") == 1


def test_sample_is_drawn_by_its_seed_which_is_recorded(directory: Path, data: Path, tmp_path: Path) -> None:
    drawn = {
        seed: run(directory / "hf", "mmlu_letter", data, tmp_path / f"{seed}.jsonl", "--shots", "0", "--limit", "3", "--sample-seed", seed)
        for seed in "0123"
    }

    assert len({tuple(one["item"] for one in records) for records in drawn.values()}) > 1
    for seed in "0123":
        assert json.loads((tmp_path / f"{seed}.metrics.json").read_text())["sample"] == {"limit": 3, "seed": int(seed)}
