"""Generation: log-probabilities against the training forward, stop tokens, top-p."""

from __future__ import annotations

import pytest
import torch

from modelyard.execution import ExecutionConfig
from modelyard.model.inference import decode
from modelyard.model.inference import generate as module
from modelyard.model.inference.decode import Decoder, Weights
from modelyard.model.inference.generate import generate
from modelyard.model.inference.graphed_step import GraphedStep
from modelyard.model.inference.grouping import groups, most_rows
from modelyard.model.inference.stops import StopTexts
from modelyard.model.training.batch import Batch
from modelyard.model.training.engine import Engine

from . import layout_program as program
from .decoded_models import MODELS

pytestmark = pytest.mark.numerics

PROMPTS = [[5], [1, 2, 3], [4, 5, 6, 7, 8, 9, 10, 11], [9, 10], [3, 1, 4, 1, 5]]


@pytest.fixture(scope="module", params=["llama", "gpt", "windowed", pytest.param("llama compiled", marks=pytest.mark.slow)])
def engine(request: pytest.FixtureRequest) -> Engine:
    style, *compiled = request.param.split()
    execution = ExecutionConfig(threads=1, compile=bool(compiled))
    if style == "windowed":
        model = program.model("llama", True)
        model = model.model_copy(update={"variant": model.variant.model_copy(update={"window": 4})})
        return Engine(model, execution, seed=3, precision="fp32")
    return Engine(program.model(style, style == "llama"), execution, seed=3, precision="fp32")


@pytest.mark.parametrize(("temperature", "top_p"), [(0.0, 1.0), (1.0, 1.0), (0.7, 0.8)])
def test_logprobs_on_ragged_prompts_equal_the_training_forward(engine: Engine, temperature: float, top_p: float) -> None:
    drawn = generate(engine, PROMPTS, max_new_tokens=12, temperature=temperature, top_p=top_p, seed=1)
    for prompt, new, logprobs in zip(PROMPTS, drawn.tokens, drawn.logprobs, strict=True):
        tokens = torch.tensor([prompt + new])
        scored = engine.evaluate(Batch(tokens[:, :-1], tokens[:, 1:], {}), 1)[0, len(prompt) - 1 :]
        torch.testing.assert_close(torch.tensor(logprobs), scored, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_one_compilation_serves_prompts_of_every_length() -> None:
    from torch._dynamo.utils import counters

    engine = Engine(program.model("llama", True), ExecutionConfig(threads=1, compile=True), seed=3, precision="fp32")
    generate(engine, [[1, 2, 3], [4]], max_new_tokens=8, temperature=0.0, seed=0)
    graphs = counters["stats"]["unique_graphs"]
    generate(engine, [[1, 2, 3, 4, 5], [4, 5]], max_new_tokens=6, temperature=0.0, seed=0)
    assert graphs
    assert counters["stats"]["unique_graphs"] == graphs


def test_each_prompt_gets_what_it_gets_alone_whatever_it_is_grouped_with(engine: Engine) -> None:
    prompts = [[i % 120 + 1] * size for i, size in enumerate([3, 9, 1, 14, 2, 2, 13, 26, 3])]
    drawn = generate(engine, prompts, max_new_tokens=6, temperature=0.0, seed=1, batch=4)
    assert drawn.tokens == [generate(engine, [prompt], max_new_tokens=6, temperature=0.0, seed=1).tokens[0] for prompt in prompts]
    again = generate(engine, prompts, max_new_tokens=6, temperature=1.0, seed=1, batch=4)
    assert again.tokens == generate(engine, prompts, max_new_tokens=6, temperature=1.0, seed=1).tokens, "drawn by its own uniforms"


def test_prompts_of_unlike_length_are_read_at_once_and_end_together(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    fed: list[tuple[int, int]] = []
    plain = Decoder.logits

    def counted(self: Decoder, tokens: torch.Tensor, position: int) -> torch.Tensor:
        fed.append((tokens.shape[1], position))
        return plain(self, tokens, position)

    monkeypatch.setattr(Decoder, "logits", counted)
    generate(engine, [[1] * 3, [2] * 20], max_new_tokens=5, temperature=0.0, seed=1)
    assert fed == [(20, 0), (1, 20), (1, 21), (1, 22), (1, 23)]


def test_completions_of_one_prompt_read_it_once(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = [[4, 5, 6], [7, 8, 9, 10], [4, 5, 6], [4, 5, 6], [7, 8, 9, 10], [3, 1, 4]]
    read: list[int] = []
    embed = Decoder._embed

    def counted(self: Decoder, tokens: torch.Tensor, places: slice | torch.Tensor) -> torch.Tensor:
        read.append(len(tokens))
        return embed(self, tokens, places)

    monkeypatch.setattr(Decoder, "_embed", counted)
    shared = generate(engine, prompts, max_new_tokens=6, temperature=1.0, seed=2)
    monkeypatch.setattr(decode, "_distinct", lambda tokens, begins: (tokens, begins, None))
    alone = generate(engine, prompts, max_new_tokens=6, temperature=1.0, seed=2)
    assert read[0] == 3
    assert shared.tokens == alone.tokens
    for one, other in zip(shared.logprobs, alone.logprobs, strict=True):
        torch.testing.assert_close(torch.tensor(one), torch.tensor(other), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rest", [[1, 4, 2, 5, 1, 3, 5, 2], [3] * 8, [1] * 8], ids=["ragged", "even", "last token alone"])
def test_what_prompts_begin_with_alike_is_read_once(engine: Engine, rest: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    begin = [place * 7 % 120 + 1 for place in range(18)]
    prompts = [[*begin, *(number * 11 % 120 + 1 + place for place in range(size))] for number, size in enumerate(rest)]
    prompts += [[9, 8, 7], begin[:4]]
    fed: list[tuple[tuple[int, ...], int]] = []
    embed = Decoder._embed

    def counted(self: Decoder, tokens: torch.Tensor, places: slice | torch.Tensor) -> torch.Tensor:
        fed.append((tuple(tokens.shape), self.shared))
        return embed(self, tokens, places)

    def drawn(share: bool, temperature: float) -> module.Generation:
        stops = StopTexts(["#"], lambda tokens: "".join("#" if token > 110 else "." for token in tokens))
        return generate(
            engine, prompts, max_new_tokens=6, temperature=temperature, seed=2, stop_texts=stops, drop_finished=True, share_beginnings=share
        )

    for temperature in (0.0, 1.0):
        expected = drawn(False, temperature)
        with monkeypatch.context() as patch:
            patch.setattr(Decoder, "_embed", counted)
            found = drawn(True, temperature)
        assert found.tokens == expected.tokens
        for one, other in zip(found.logprobs, expected.logprobs, strict=True):
            torch.testing.assert_close(torch.tensor(one), torch.tensor(other), rtol=1e-5, atol=1e-5)
    if decode.shares(engine, Weights(engine, 1)):
        assert ((1, 18), 18) in fed, "the beginning, for one sequence"
        assert ((8, max(rest)), 18) in fed, "the rest, for each"
    else:
        assert not any(shared for _, shared in fed)


def test_batches_are_cut_where_prompts_of_unlike_length_would_wait_for_each_other() -> None:
    assert groups([5, 5, 5], 2, 8, 16) == [[0], [1, 2]]
    assert groups([900, 10, 12, 910], 4, 32, 16) == [[1, 2], [0, 3]]
    assert groups([10, 20, 30, 40], 4, 32, 16) == [[0, 1, 2, 3]], "little is waited for"
    assert groups([], 4, 32, 16) == []
    many = groups(list(range(1, 500)), 64, 32, 16)
    assert sorted(i for one in many for i in one) == list(range(499))
    assert max(map(len, many)) <= 64


def test_a_batch_is_as_many_sequences_as_their_keys_and_values_leave_room_for() -> None:
    assert most_rows(2**16, 256, "cpu") == 64
    assert most_rows(1, 1, "cpu") == 256, "more would wait for each other"
    assert most_rows(2**24, 4096, "cpu") == 1, "one that has no room is decoded nevertheless"


def test_several_stop_tokens_end_a_completion_at_the_first(engine: Engine) -> None:
    free = generate(engine, PROMPTS, max_new_tokens=12, temperature=1.0, seed=1)
    stops = [free.tokens[0][3], free.tokens[2][5]]
    stopped = generate(engine, PROMPTS, max_new_tokens=12, temperature=1.0, seed=1, stop_ids=stops)
    for long, short in zip(free.tokens, stopped.tokens, strict=True):
        length = next((i + 1 for i, token in enumerate(long) if token in stops), 12)
        assert short == long[:length]


@pytest.mark.parametrize(("temperature", "top_p"), [(0.0, 1.0), (1.0, 0.9)])
def test_finished_sequences_cost_no_more_steps_and_change_no_token(
    engine: Engine, temperature: float, top_p: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = [[i % 120 + 1] * (i % 3 + 1) for i in range(24)]
    drawn = {"max_new_tokens": 24, "temperature": temperature, "top_p": top_p, "seed": 5}
    free = generate(engine, prompts, **drawn)
    stops = [free.tokens[k][k + 1] for k in range(12)]  # most end early, and not all at once
    rows: list[int] = []
    plain = Decoder.logits

    def counted(self: Decoder, tokens: torch.Tensor, position: int) -> torch.Tensor:
        rows.append(len(tokens))
        return plain(self, tokens, position)

    monkeypatch.setattr(Decoder, "logits", counted)
    whole = generate(engine, prompts, stop_ids=stops, **drawn)
    steps = rows[:]
    rows.clear()
    dropped = generate(engine, prompts, stop_ids=stops, drop_finished=True, **drawn)

    assert dropped.tokens == whole.tokens
    for one, two in zip(dropped.logprobs, whole.logprobs, strict=True):
        torch.testing.assert_close(torch.tensor(one), torch.tensor(two), rtol=1e-5, atol=1e-6)
    assert set(steps) == {24}
    assert len(rows) == len(steps)
    if not engine.compile:
        assert rows == sorted(rows, reverse=True)
        assert len(set(rows)) >= (3 if temperature else 2), (
            "half of them were dropped; of those that draw, half of those that were left as well"
        )
        assert min(rows) >= module.FEWEST


def test_dropped_sequences_are_those_that_ended_and_some_stay_to_make_the_fewest() -> None:
    over = torch.tensor([True, False, True, True, True, True, True, True, False, True])
    assert module._left(over).tolist() == [0, 1, 2, 8]
    assert module._left(~over) is None, "eight of ten go on"
    assert module._left(torch.tensor([True] * 7)) is None, "four of seven are more than half"


def test_top_p_outside_its_range_is_refused(engine: Engine) -> None:
    with pytest.raises(ValueError, match="top_p"):
        generate(engine, PROMPTS, max_new_tokens=1, temperature=1.0, seed=0, top_p=0.0)


def test_top_p_samples_only_the_nucleus_in_proportion() -> None:
    logits = torch.tensor([0.4, 0.05, 0.3, 0.2, 0.05]).log().expand(30_000, -1)
    uniform = torch.cat([torch.zeros(1), torch.rand(29_999, generator=torch.Generator().manual_seed(0))])
    tokens, logprobs = module.sample(logits, 1.0, 0.65, uniform)
    # 0.4 + 0.3 reach 0.65; the token that crosses it belongs to the nucleus
    share = torch.bincount(tokens, minlength=5) / len(tokens)
    torch.testing.assert_close(share, torch.tensor([4 / 7, 0, 3 / 7, 0, 0]), rtol=0, atol=0.01)
    torch.testing.assert_close(logprobs, logits[0][tokens])  # still those of the whole distribution


def test_a_uniform_of_zero_never_draws_a_token_without_probability() -> None:
    logits = torch.tensor([[float("-inf"), 0.0, 1.0]])
    assert module.sample(logits, 1.0, 1.0, torch.zeros(1))[0].tolist() == [1]


@pytest.mark.parametrize("begins", [None, [2, 0, 4]])
@pytest.mark.parametrize("name", MODELS)
def test_graphed_step_without_its_graph_gives_the_logits_of_the_plain_step(
    monkeypatch: pytest.MonkeyPatch, name: str, begins: list[int] | None
) -> None:
    engine = Engine(MODELS[name], ExecutionConfig(threads=1), seed=3, precision="fp32")
    with torch.no_grad():  # norms and biases begin as 1 and 0
        for parameter in engine.gpt.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(7)).to(engine.device), alpha=0.2)
    monkeypatch.setattr("modelyard.model.network.onednn.FP32", False)  # a GPU's weights are not packed
    with torch.inference_mode():
        weights = Weights(engine, 3)
        first = None if begins is None else torch.tensor(begins, device=engine.device)
        plain, masked = (Decoder(engine, weights, 3, 12, begins=first) for _ in range(2))
        tokens = torch.randint(0, engine.model.vocab_size, (3, 8), generator=torch.Generator().manual_seed(5)).to(engine.device)
        for decoder in (plain, masked):
            decoder.logits(tokens[:, :5], 0)
        caches = [(cache.keys, cache.values) for cache in masked.caches]
        step = GraphedStep(engine, weights.blocks, weights.output, masked.rotation, caches, first)
        for position in range(5, 8):
            step.tokens.copy_(tokens[:, position])
            step.position.fill_(position)
            torch.testing.assert_close(step._step(12), plain.logits(tokens[:, position : position + 1], position), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_layer_of_the_graphed_step_is_one_graph_to_the_compiler(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr("modelyard.model.network.onednn.FP32", False)
    torch.compiler.reset()  # a process compiles one function for at most eight kinds of layers
    engine = Engine(MODELS[name], ExecutionConfig(threads=1), seed=3, precision="fp32")
    with torch.no_grad():
        weights = Weights(engine, 3)
        caches = [(cache.keys, cache.values) for cache in Decoder(engine, weights, 3, 12).caches]
        rotation = Decoder(engine, weights, 3, 12).rotation
        step = GraphedStep(engine, weights.blocks, weights.output, rotation, caches)
        step.tokens.copy_(torch.tensor([5, 6, 7]))
        expected = step._step(12)
        step.layer = torch.compile(step.layer, fullgraph=True, backend="eager")
        torch.testing.assert_close(step._step(12), expected, atol=1e-6, rtol=1e-6)
