"""What is left out of a teacher's instructions, by near misses: lists, ROUGE-L against a slow count, bounds, refusals."""

import random

import pytest

from modelyard.data.instructions.config import InstructionsConfig
from modelyard.data.instructions.filters import ROUGE_L, Instructions, Spelling, length, refused_answer
from modelyard.data.instructions.proposals import listed, single_turn
from modelyard.data.instructions.teacher import Said
from modelyard.formats.feedback import Message

CONFIG = InstructionsConfig.model_validate(
    {
        "seed": 0,
        "teacher": {"kind": "endpoint", "model": "m", "name": "m", "licence": "MIT"},
        "number": 1,
        "requests": 1,
        "per_request": 1,
        "proposing": {"temperature": 1.0, "max_new_tokens": 1},
        "answering": {"temperature": 1.0, "max_new_tokens": 1},
        "answer_words": {"least": 2, "most": 5},
        "instruction_words": {"least": 4, "most": 12},
        "excluded": ["file"],
        "keep_demonstrations": True,
    }
)


def slow_rouge_l(one: list[str], other: list[str]) -> float:
    """F1 of the longest common subsequence, by the table of Lin 2004."""
    table = [[0] * (len(other) + 1) for _ in range(len(one) + 1)]
    for i, left in enumerate(one):
        for j, right in enumerate(other):
            table[i + 1][j + 1] = table[i][j] + 1 if left == right else max(table[i][j + 1], table[i + 1][j])
    common = table[-1][-1]
    precision, recall = common / len(one), common / len(other)
    return 2 * precision * recall / (precision + recall) if common else 0.0


def test_rouge_l_of_words_equals_the_table() -> None:
    rng, spelling = random.Random(3), Spelling()
    vocabulary = ["tell", "me", "a", "story", "about", "trees", "ёлка", "naïve", "हिन्दी", "42"]
    seen = set()
    for _ in range(300):
        one, other = (rng.choices(vocabulary, k=rng.randrange(1, 14)) for _ in range(2))
        value = ROUGE_L(spelling.of(" ".join(one).title()), spelling.of(", ".join(other)))
        assert value == pytest.approx(slow_rouge_l(one, other), abs=1e-12)
        seen.add(round(value, 1))
    assert len(seen) >= 8
    assert ROUGE_L(spelling.of("给我讲一个故事"), spelling.of("请给我讲故事")) == pytest.approx(
        slow_rouge_l(list("给我讲一个故事"), list("请给我讲故事"))
    )


def test_instruction_is_a_near_duplicate_from_the_bound_on() -> None:
    known = "one two three four five six seven eight nine ten"
    there = Instructions(CONFIG, [known], ["how do bees find their way back home again"])
    assert there.refuse("One, two, three, four, five, six, seven, a, b, c!") == "near_duplicate", "7 of 10 words in order: 0.7"
    assert there.refuse("one two three four five six d e f g") is None, "6 of 10"
    assert there.refuse("one two three four five six d e f g") == "near_duplicate", "of itself, now that it is there"
    assert there.refuse("ten nine eight seven six five four three two one") is None, "the same words in another order"
    assert there.refuse("how do bees find their way back") == "like_held_out"
    assert there.refuse("Open the File, and read") == "excluded_word"
    assert there.refuse("profile the four profilers") is None
    assert there.refuse("only three words") == "short_instruction"
    assert there.refuse(" ".join("abcdefghijklm")) == "long_instruction"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (Said("It is so.", True, True), None),
        (Said("It is so.", False, True), "cut_answer"),
        (Said("It is so.", True, False), "long_prompt"),
        (Said(" \n", True, True), "empty_answer"),
        (Said("So.", True, True), "short_answer"),
        (Said("It is so and so it is", True, True), "long_answer"),
        (Said("I cannot do this.", True, True), "refusal"),
        (Said("I cannon do this.", True, True), None),
        (Said("say  what it\nIS", True, True), "prompt_repeated"),
    ],
)
def test_answer_is_left_out_for_one_reason(said: Said, reason: str | None) -> None:
    assert refused_answer("Say what it is", said, CONFIG) == reason


def test_words_are_counted_in_scripts_without_spaces() -> None:
    assert length("one two, three") == 3
    assert length("给我讲一个故事吧") == 4


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("1. First thing\n2. Second\n   in two lines\n3) Third", ["First thing", "Second\n   in two lines", "Third"]),
        ("Sure!\n\n9. Nine\n10. Ten\n", ["Nine", "Ten"]),
        ("**1.** Bold\n**2.** Bolder", ["Bold", "Bolder"]),
        ("1. Say when 3. May is\n2. Next", ["Say when 3. May is", "Next"]),
        ("1. A year:\n1999. is none of the list\n2. B", ["A year:\n1999. is none of the list", "B"]),
        ("- no\n- numbers", []),
        ("1.5 is no item", []),
        ("1. \n2. Second", ["Second"]),
    ],
)
def test_list_has_the_items_whose_numbers_go_up(text: str, items: list[str]) -> None:
    assert listed(Said(text, True, True)) == items
    assert listed(Said(text, False, True)) == [item for item in items[:-1] if item], "the last may be cut"


def test_instruction_is_what_a_user_says_in_one_turn() -> None:
    user, system, answer = (Message(role=role, content=f" {role} ") for role in ("user", "system", "assistant"))
    assert single_turn((system, user)) == single_turn((user,)) == "user"
    assert [single_turn(one) for one in ("a text", (user, answer, user), (system,))] == ["", "", ""]
