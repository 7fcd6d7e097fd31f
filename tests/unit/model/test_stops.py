"""Stop texts end generation: the same text as cutting afterwards, in fewer steps."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.execution import ExecutionConfig
from modelyard.model.inference.decode import Decoder
from modelyard.model.inference.generate import generate
from modelyard.model.inference.stops import StopTexts
from modelyard.model.training.engine import Engine

from . import layout_program as program

PROMPTS = [[5], [1, 2, 3], [4, 5, 6, 7, 8, 9, 10, 11], [9, 10]]


def spelled(ids: Sequence[int]) -> str:
    """A text of two letters a token."""
    return "".join(chr(97 + i // 26) + chr(97 + i % 26) for i in ids)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from("abc\nQ: é"), max_size=60), st.sampled_from([("Q:",), ("\n\n", "ab"), ("é",), ("caé\n",)]))
def test_stop_texts_length_is_the_first_whole_stop(letters: list[str], texts: tuple[str, ...]) -> None:
    tokens = list("".join(letters).encode())
    stops = StopTexts(texts, lambda ids: bytes(ids).decode("utf-8", "replace"))

    whole = [any(text.encode() in bytes(tokens[:end]) for text in texts) for end in range(len(tokens) + 1)]

    assert stops.length(tokens) == (whole.index(True) if True in whole else len(tokens))
    if tokens:
        assert stops.within(tokens, len(tokens)) == whole[-1]


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(program.model("llama", True), ExecutionConfig(threads=1), seed=3, precision="fp32")


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_generation_stops_at_stop_texts_with_the_tokens_of_the_free_run(
    engine: Engine, temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = 0
    plain = Decoder.logits

    def counted(self: Decoder, *args: object) -> object:
        nonlocal steps
        steps += 1
        return plain(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Decoder, "logits", counted)
    free = generate(engine, PROMPTS, max_new_tokens=20, temperature=temperature, seed=1)
    all_steps, steps = steps, 0
    texts = [spelled(line[k : k + 2]) for k, line in enumerate(free.tokens, 1)]
    stopped = generate(engine, PROMPTS, max_new_tokens=20, temperature=temperature, seed=1, stop_texts=StopTexts(texts, spelled))

    for long, short, logprobs in zip(free.tokens, stopped.tokens, stopped.logprobs, strict=True):
        end = next(end for end in range(21) if any(text in spelled(long[:end]) for text in texts))
        assert short == long[:end]
        assert len(logprobs) == end
    assert steps < all_steps
