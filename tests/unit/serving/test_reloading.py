"""A server that takes other weights while it runs, as vLLM's development mode does, and what it says of tokens."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from modelyard.commands.app import main
from modelyard.model.token_server import NoReloadError, TokenServer
from tests.unit.serving.running import Server

pytestmark = pytest.mark.integration

GREEDY = {"prompt": [5, 6, 7], "max_tokens": 12, "temperature": 0, "logprobs": 1, "return_token_ids": True, "ignore_eos": True}


@pytest.fixture(scope="module")
def served(models: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(models[0], "--classifier", "none", "--book", "none", "--reloads", directory=tmp_path_factory.mktemp("reloads"))
    yield server
    assert server.end() == (0, "")


def ask(server: Server, **changes: object) -> dict[str, object]:
    """The choice of a greedy answer and which weights gave it."""
    reply = httpx.post(f"{server.url}/completions", json={"model": "hf", **GREEDY, **changes}, timeout=60)
    assert reply.status_code == 200, reply.text
    body = reply.json()
    return {**body["choices"][0], "weights": body["system_fingerprint"]}


def test_reload_gives_new_requests_the_other_weights_and_back(served: Server, models: list[Path]) -> None:
    before, client = ask(served), TokenServer(served.url, 1)
    client.reload(models[1])
    other = ask(served)
    client.reload(models[0])
    assert ask(served) == before
    assert other["weights"] != before["weights"]
    assert other["token_ids"] != before["token_ids"]
    assert client.name() == "hf"


def test_directory_that_is_no_models_changes_nothing_and_is_refused_in_one_line(served: Server, models: list[Path], tmp_path: Path) -> None:
    before = ask(served)
    shutil.copytree(models[1], tmp_path / "broken")
    (tmp_path / "broken" / "model.safetensors").write_bytes(b"nothing")
    for directory in (tmp_path / "absent", tmp_path / "broken"):
        with pytest.raises(ValueError, match=r"400: .*weights_path: ") as refusal:
            TokenServer(served.url, 1).reload(directory)
        assert "\n" not in str(refusal.value)
        assert not isinstance(refusal.value, NoReloadError), "it reloads, but not this"
    strange = httpx.post(f"{served.url.removesuffix('/v1')}/collective_rpc", json={"method": "shutdown", "kwargs": {}})
    assert strange.status_code == 400
    assert ask(served) == before


def test_whole_answer_says_tokens_where_asked_and_ends_where_told(served: Server) -> None:
    answer = ask(served)
    tokens, logprobs = answer["token_ids"], answer["logprobs"]["token_logprobs"]
    assert len(tokens) == len(logprobs) == 12
    assert answer["finish_reason"] == "length"
    assert "token_ids" not in ask(served, return_token_ids=False)
    short = ask(served, stop_token_ids=[tokens[3]])
    first = tokens.index(tokens[3]) + 1
    assert (short["token_ids"], short["finish_reason"]) == (tokens[:first], "stop")


def test_models_own_end_does_not_end_an_answer_that_ignores_it(served: Server) -> None:
    """Among sampled answers some meet the end of a text: with ``ignore_eos`` they go on behind it."""
    ended = [ask(served, temperature=2.0, seed=seed, max_tokens=48, ignore_eos=False) for seed in range(12)]
    met = [seed for seed, answer in enumerate(ended) if answer["finish_reason"] == "stop"]
    assert met
    for seed in met:
        free = ask(served, temperature=2.0, seed=seed, max_tokens=48)
        assert free["finish_reason"] == "length"
        assert free["token_ids"][: len(ended[seed]["token_ids"])] == ended[seed]["token_ids"]


def test_registered_version_takes_no_other_weights(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "models:/tiny@production", "--reloads"]) == 2
    assert "--reloads: MODEL is a version of the registry" in capfd.readouterr().err
