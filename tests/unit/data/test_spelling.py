"""A trained tokenizer spells every text in tiktoken as it does in tokenizers."""

import random

import pytest
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, pre_tokenizers

from modelyard.data.tokens import spelling, tokenizer
from modelyard.model.control_tokens import ControlTokens

SEED = (
    "The cats' 12 hats, isn't it? été naïve straße Ελλάδα Привет мир 東京で日本語を学ぶ カタカナー "
    "हिन्दी में किताबें ภาษาไทย 한국어는 <b>x</b>  \n\n\tdef f(x):\n    return x ** 2 "
)
ODD = [
    "",
    " ",
    "\n \n",
    "a\x00b",
    "\ufeff",
    "\u2028",
    "\x85",
    "\x1c",
    "é",
    "e\u0301",
    "\u200d",
    "🇩🇪👩\u200d🚀",
    "ー",
    "٣",
    "½",
    "<|endoftext|>",
    "<|end",
    "|>",
    "<|user|>",
]


@pytest.fixture(scope="module")
def trained():
    rng = random.Random(0)
    pieces = SEED.split(" ")
    texts = [" ".join(rng.choice(pieces) + rng.choice(("", "s", "ing", "ない", "ами")) for _ in range(60)) for _ in range(200)]
    return tokenizer.train(texts, 1500)


def _same(trained, texts):
    theirs = [ids.tolist() for ids in spelling.imported(trained)(texts)]
    assert [ids.tolist() for ids in spelling.trained(trained)(texts)] == theirs


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.one_of(st.text(max_size=60), st.lists(st.sampled_from([*SEED.split(" "), *ODD, *SEED]), max_size=40).map("".join)), max_size=5
    )
)
def test_trained_any_texts_spelled_as_tokenizers_spells_them(trained, texts):
    _same(trained, [text.encode("utf-8", "replace").decode() for text in texts])


def test_trained_text_that_spells_control_tokens_is_the_characters_that_it_is(trained):
    hidden = ControlTokens(trained, []).text
    texts = ["The marker <|endoftext|> ends a text.", "A log: <|user|>Hello<|end|><|assistant|>Hi<|end|>", " " * 1_000_000 + "<|end|>"]
    _same(hidden, texts)
    spelled = [ids.tolist() for ids in spelling.trained(hidden)(texts)]
    assert all(min(ids) >= len(tokenizer.SPECIAL_TOKENS) for ids in spelled)
    assert [hidden.decode(ids) for ids in spelled] == texts
    allowing = ControlTokens(trained, [], ["<|end|>"]).text
    _same(allowing, texts)
    assert [[i for i in ids.tolist() if i < 5] for ids in spelling.trained(allowing)(texts)] == [[], [3, 3], [3]]


def test_trained_long_runs_spelled_as_tokenizers_spells_them(trained):
    _same(trained, [" " * 1_000_000 + "x", "a" * 20_000, "\t \n" * 5000, "ab" * 5000, "<|end|>" * 500])


def test_pattern_every_kind_of_letter_cut_alike_by_both_engines():
    codes = [*range(0x3200), *range(0xA000, 0xAC00), *range(0xF900, 0x12000), *range(0x16A00, 0x17000), *range(0x1D000, 0x20000)]
    text = "".join(f"a{chr(code)}1{chr(code)} {chr(code)}," for code in codes if not 0xD800 <= code < 0xE000)
    split = pre_tokenizers.Split(Regex(tokenizer.PATTERN), behavior="isolated")
    pieces = [piece for piece, _ in split.pre_tokenize_str(text)]
    ranks = {bytes([code]): code for code in range(256)}
    for piece in pieces:
        ranks.setdefault(piece.encode(), len(ranks))
    encoding = tiktoken.Encoding("pieces", pat_str=tokenizer.PATTERN, mergeable_ranks=ranks, special_tokens={})
    assert encoding.encode(text) == [ranks[piece.encode()] for piece in pieces]
