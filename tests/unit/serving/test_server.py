"""The real server, asked by OpenAI's own client."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import openai
import pytest

from modelyard.commands.app import main
from modelyard.execution import ExecutionConfig
from modelyard.model.asked import Decoding
from modelyard.model.endpoint import Endpoint
from modelyard.model.subject import Subject
from tests.unit import small_model
from tests.unit.serving.running import Server
from tests.worlds.imported import TEMPLATE

pytestmark = pytest.mark.integration

SAID = [{"role": "user", "content": "Which of these is red?"}]
DOT = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4//8/AAX+Av4N70a4AAAAAElFTkSuQmCC"
"""A PNG of one white pixel."""
SEEN = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{DOT}"}}
GREEDY = Decoding(max_new_tokens=24, temperature=0.0, samples=1, seed=0)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("served")
    small_model.write(root)
    settings = json.loads((root / "hf" / "tokenizer_config.json").read_text())
    (root / "hf" / "tokenizer_config.json").write_text(json.dumps({**settings, "chat_template": TEMPLATE}))
    return root / "hf"


@pytest.fixture(scope="module")
def server(model: Path):
    running = Server(model, "--rows", "3", directory=model.parent)
    yield running
    assert running.end() == (0, "")


@pytest.fixture(scope="module")
def subject(model: Path) -> Subject:
    return Subject.open("x", model, ExecutionConfig(threads=1), 4)


def test_chat_whole_and_streamed_are_what_the_model_says_and_name_it(server: Server, subject: Subject) -> None:
    (expected,) = subject.reply([SAID[0]["content"]], GREEDY)
    given = {"model": "hf", "messages": SAID, "max_tokens": 24, "temperature": 0}
    whole = server.client.chat.completions.create(**given, logprobs=True)
    assert whole.choices[0].message.content == expected.text
    assert whole.system_fingerprint == f"fp_{subject.weights[:16]}"
    assert whole.usage.completion_tokens == len(expected.tokens)
    assert [token.logprob for token in whole.choices[0].logprobs.content] == pytest.approx(expected.logprobs, abs=1e-4)
    chunks = list(server.client.chat.completions.create(**given, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == expected.text
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]][-1] == whole.choices[0].finish_reason
    assert chunks[-1].usage == whole.usage
    assert len(chunks) > 4


def test_stream_says_the_log_probabilities_that_a_whole_answer_says(server: Server) -> None:
    given = {"model": "hf", "messages": SAID, "max_tokens": 24, "temperature": 0, "logprobs": True}
    whole = server.client.chat.completions.create(**given).choices[0].logprobs.content
    chunks = [chunk.choices[0] for chunk in server.client.chat.completions.create(**given, stream=True)]
    told = [token for chunk in chunks if chunk.logprobs for token in chunk.logprobs.content]
    assert [token.token for token in told] == [token.token for token in whole]
    assert [token.logprob for token in told] == pytest.approx([token.logprob for token in whole], abs=1e-4)
    given = {"model": "hf", "prompt": "the king", "max_tokens": 8, "temperature": 0, "logprobs": 1}
    texts = [chunk.choices[0] for chunk in server.client.completions.create(**given, stream=True)]
    streamed = [value for chunk in texts if chunk.logprobs for value in chunk.logprobs.token_logprobs]
    assert streamed == pytest.approx(server.client.completions.create(**given).choices[0].logprobs.token_logprobs, abs=1e-4)


def test_many_at_once_with_seeds_of_their_own_get_what_each_gets_alone(server: Server, subject: Subject) -> None:
    def drawn(seed: int) -> str:
        return (
            server.client.completions.create(model="hf", prompt="the king", max_tokens=30, temperature=1, seed=seed, stop="e")
            .choices[0]
            .text
        )

    with ThreadPoolExecutor(12) as pool:
        found = list(pool.map(drawn, range(12)))
    how = Decoding(max_new_tokens=30, temperature=1.0, samples=1, seed=0, stops=("e",))
    assert found == [subject.complete(["the king"], how.model_copy(update={"seed": seed}))[0].text for seed in range(12)]


def test_our_own_client_and_the_list_of_models(server: Server, subject: Subject) -> None:
    assert Endpoint(f"{server.url}#hf").reply(["Good morning"], GREEDY)[0].text == subject.reply(["Good morning"], GREEDY)[0].text
    (listed,) = server.client.models.list().data
    assert (listed.id, listed.max_model_len) == ("hf", 256)


def test_model_behind_our_server_judges_by_letter_as_from_its_directory(server: Server, model: Path, tmp_path: Path, capsys) -> None:
    rows = [{"prompt": f"Name {n}.", "chosen": f"It is {n}.", "rejected": "Soup."} for n in range(4)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command, kept = ["prefer", str(tmp_path / "pairs.jsonl"), "--chat", "--json", str(tmp_path / "out.json")], []

    assert main([*command, "--judge", f"{server.url}#hf"]) == 2
    assert 'gives no log-probabilities of a reply; read what hf says: choose_by = "letter"' in capsys.readouterr().err
    for judge in (f"{server.url}#hf", str(model)):
        assert main([*command, "--judge", judge, "--choose-by", "letter"]) == 0
        kept.append(json.loads((tmp_path / "out.json").read_text()))

    assert kept[0]["pairs"] == kept[1]["pairs"]
    assert kept[0]["no_letter"] == kept[1]["no_letter"]
    assert kept[0]["no_letter"]["n"] == 8


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"model": "other"}, openai.NotFoundError, "model 'other' is not served here; 'hf' is"),
        ({"temperature": -1}, openai.BadRequestError, "temperature: Input should be greater than or equal to 0"),
        ({"messages": []}, openai.BadRequestError, "messages: "),
        ({"messages": [{"role": "robot", "content": "x"}]}, openai.BadRequestError, "messages.0.role: "),
        ({"messages": [{"role": "user", "content": [SEEN]}]}, openai.BadRequestError, "images are not served: this model reads text only"),
        ({"n": 2}, openai.BadRequestError, "n: not served"),
        ({"tools": [{"type": "function", "function": {"name": "x"}}]}, openai.BadRequestError, "tools: not served"),
        ({"max_tokens": 4000}, openai.BadRequestError, "new ones exceed the context of 256"),
        (
            {"messages": [{"role": "user", "content": "a " * 100_000}]},
            openai.BadRequestError,
            "200,000 characters of prompt exceed the context of 256",
        ),
        ({"stop": [""]}, openai.BadRequestError, "stop.0: "),
    ],
)
def test_what_cannot_be_answered_is_refused_by_name(server: Server, given: dict, error: type, said: str) -> None:
    with pytest.raises(error) as found:
        server.client.chat.completions.create(**{"model": "hf", "messages": SAID, "max_tokens": 4, **given})
    assert said in found.value.body["message"]
    assert httpx.post(f"{server.url}/chat/completions", content=b"{").status_code == 400


def test_context_that_a_server_is_given_bounds_prompt_and_answer_together(model: Path) -> None:
    server = Server(model, "--context", "40", directory=model.parent)
    with pytest.raises(openai.BadRequestError, match="and 40 new ones exceed the context of 40"):
        server.client.completions.create(model="hf", prompt="a", max_tokens=40)
    assert server.client.completions.create(model="hf", prompt="a", max_tokens=4).usage.completion_tokens >= 1
    assert server.end() == (0, "")


def test_who_hangs_up_frees_the_row_and_who_comes_too_many_is_told_to_come_again(model: Path) -> None:
    server = Server(model, "--rows", "1", "--waiting", "0", directory=model.parent)
    health = server.url.replace("/v1", "/health")
    body = {"model": "hf", "messages": SAID, "max_tokens": 200, "temperature": 2}
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: httpx.post(f"{server.url}/chat/completions", json=body, timeout=60), range(8)))
    assert {one.status_code for one in answers} == {200, 429}
    counted = httpx.get(server.url.replace("/v1", "/metrics")).text
    refused = [one.status_code for one in answers].count(429)
    assert f'modelyard_refused_total{{code="queue_full",status="429"}} {refused}.0' in counted
    assert f"modelyard_answer_seconds_count {8 - refused}.0" in counted
    with httpx.stream("POST", f"{server.url}/chat/completions", json={**body, "stream": True}, timeout=60) as answer:
        next(answer.iter_lines())
    while httpx.get(health).json()["serving"]:
        pass
    assert server.client.chat.completions.create(model="hf", messages=SAID, max_tokens=4).usage.completion_tokens >= 1
    assert server.end() == (0, "")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["nowhere"], "nowhere: no such directory"),
        (["models:/tiny@production"], "there is no MLflow at"),
        (["--rows", "0", "x"], "must be at least 1"),
        (["x", "--canary", "y", "--shadow", "z"], "--canary and --shadow: one version at a time is tried"),
        (["x", "--context", "64", "--engine", "vllm serve"], "--context: another engine has an option of its own for it"),
        (["x", "--share", "0.5"], "--share: belongs to --canary or --shadow"),
        (["x", "--canary", "y", "--book", "none"], "--book none: a version is tried by what is kept of answers"),
    ],
)
def test_what_cannot_be_served_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MODELYARD_HOME", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)  # MLflow's set_tracking_uri leaves it behind in the process
    assert main(["serve", *options]) == 2
    err = capfd.readouterr().err
    assert said in err
    assert err.count("\n") == 1
