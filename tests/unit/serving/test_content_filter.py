"""What leaves was judged: held streams, refused prompts, and the list of categories."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import numpy as np
import openai
import pytest

from modelyard.execution import ExecutionConfig
from modelyard.formats.abuse import AbuseModel, codes, singles
from modelyard.model.asked import Decoding
from modelyard.model.subject import Subject
from modelyard.serving.content_filter import LONGEST, LONGEST_CONTEXT, ContentFilter, Held
from tests.unit import small_model
from tests.unit.serving.running import Server
from tests.worlds.imported import TEMPLATE

SAID = [{"role": "user", "content": "Which of these is red?"}]
NEW = 120


def flagging(**words: str) -> AbuseModel:
    """A model that finds a word abusive, and nothing else: category -> word."""
    found = [int(singles(codes(word))[0]) for word in words.values()]
    rows = np.zeros((len(found) + 1, len(found)), np.float32)
    rows[1:][np.diag_indices(len(found))] = 2000.0
    order = np.argsort(found)
    rows[1:] = rows[1:][order]
    squares = np.ones(len(found) + 1, np.float32)
    bias = np.full(len(found), -20.0, np.float32)
    return AbuseModel(frozenset(), tuple(words), np.array([0, *np.array(found)[order]], np.int64), rows, squares, bias, "made by hand")


class Watched(ContentFilter):
    """Remembers what was judged."""

    def __init__(self, model: AbuseModel) -> None:
        super().__init__(model, 0.5)
        self.passed: list[str] = []

    def category(self, text: str) -> str | None:
        found = super().category(text)
        if found is None:
            self.passed.append(text)
        return found


@pytest.mark.parametrize("flagged", [None, 0, 30, 199])
def test_what_leaves_in_any_pieces_was_judged_whole_and_nothing_of_what_is_flagged(flagged: int | None) -> None:
    draw = random.Random(3)
    words = [f"w{draw.randrange(50)}{draw.choice([' ', '  ', chr(10)])}" for _ in range(200)]
    if flagged is not None:
        words[flagged] = "vile "
    text = "".join(words)
    for _ in range(20):
        watched, sent, rest = Watched(flagging(harm="vile")), "", text
        held = Held(watched)
        while True:
            size = draw.randrange(1, 40)
            piece, rest = rest[:size], rest[size:]
            out, category = held.take(piece, last=not rest)
            sent += out
            assert out == "" or any(out in judged for judged in watched.passed)
            if category or not rest:
                break
        assert text.startswith(sent)
        assert "vile" not in sent
        assert (category, sent == text) == (("harm", False) if flagged is not None else (None, True))


def test_harm_that_only_shows_with_what_was_said_before_is_held() -> None:
    class Together(ContentFilter):
        def category(self, text: str) -> str | None:
            return "harm" if "make" in text and "bomb" in text else None

    held = Held(Together(flagging(harm="x"), 0.5))
    assert held.take("how to make a thing of this kind now ", last=False)[1] is None
    assert held.take("you need what is called a small bomb here ", last=False) == ("", "harm")


@pytest.mark.parametrize("flagged", [None, 700, 1999])
def test_text_without_spaces_leaves_as_it_comes_and_is_judged_with_a_bounded_past(flagged: int | None) -> None:
    characters = ["\N{CJK UNIFIED IDEOGRAPH-6587}"] * 2000
    if flagged is not None:
        characters[flagged] = "vile"
    watched, sent, text = Watched(flagging(harm="vile")), "", "".join(characters)
    held, category = Held(watched), None
    for place, character in enumerate(text, 1):
        out, category = held.take(character, last=place == len(text))
        sent += out
        if category:
            break
        assert place - len(sent) < LONGEST
    assert max(map(len, watched.passed)) <= LONGEST + LONGEST_CONTEXT
    assert (category, sent == text) == (("harm", False) if flagged is not None else (None, True))
    assert "v" not in sent


def test_one_word_without_an_end_leaves_too() -> None:
    held = Held(Watched(flagging(harm="vile")))
    sent = [held.take("Q29w", last=False)[0] for _ in range(100)]
    assert [len(out) for out in sent if out] == [LONGEST] * (400 // LONGEST)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("filtered")
    small_model.write(root)
    file = root / "hf" / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "chat_template": TEMPLATE}))
    return root / "hf"


@pytest.mark.integration
def test_server_holds_prompts_and_answers_the_same_whole_and_streamed(model: Path) -> None:
    subject = Subject.open("x", model, ExecutionConfig(threads=1), 4)
    for seed in range(50):
        free = subject.reply([SAID[0]["content"]], Decoding(max_new_tokens=NEW, temperature=1.0, samples=1, seed=seed))[0].text
        said = re.findall(r"[a-z0-9]+", free.lower())
        if len(free.split()) > 20:
            break
    bad = next(word for word in said[len(said) // 2 :] if len(word) > 1 and word not in SAID[0]["content"].lower())
    flagging(harm=bad, hate="vile").save(model.parent)
    server = Server(model, "--classifier", str(model.parent), directory=model.parent)

    given = {"model": "hf", "messages": SAID, "max_tokens": NEW, "temperature": 1, "seed": seed}
    whole = server.client.chat.completions.create(**given, logprobs=True).choices[0]
    assert whole.finish_reason == "content_filter"
    assert free.startswith(whole.message.content)
    assert bad not in whole.message.content.lower()
    assert whole.logprobs is None, "tokens that were held are not told as numbers either"
    chunks = [chunk.choices[0] for chunk in server.client.chat.completions.create(**given, stream=True)]
    assert "".join(chunk.delta.content or "" for chunk in chunks) == whole.message.content
    assert chunks[-1].finish_reason == "content_filter"

    with pytest.raises(openai.BadRequestError, match="held by the content filter: hate") as refused:
        server.client.chat.completions.create(**{**given, "messages": [{"role": "user", "content": "a VILE thing"}]})
    assert refused.value.code == "content_filter"
    first, second = server.client.moderations.create(input=["a vile thing", "a thing"]).results
    assert (first.flagged, first.categories.hate, second.flagged) == (True, True, False)
    assert server.end() == (0, "")
