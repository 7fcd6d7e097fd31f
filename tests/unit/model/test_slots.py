"""Sequences that come and go get the tokens that they get alone."""

from __future__ import annotations

import random
import re

import pytest

from modelyard.execution import ExecutionConfig
from modelyard.model.inference import slots as slots_module
from modelyard.model.inference.generate import generate
from modelyard.model.inference.slots import Slots
from modelyard.model.network import devices
from modelyard.model.training.engine import Engine

from . import layout_program as program

pytestmark = pytest.mark.numerics


@pytest.fixture(scope="module", params=["llama-tied", "gpt-untied", "llama-variant", "llama-experts"])
def engine(request: pytest.FixtureRequest) -> Engine:
    return Engine(program.case(request.param), ExecutionConfig(threads=1), seed=3, precision="fp32")


@pytest.mark.parametrize("first", [1024, 4])
def test_rows_that_come_and_go_say_what_each_says_alone_while_caches_grow(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    monkeypatch.setattr(slots_module, "FIRST", first)
    draw = random.Random(7)
    prompts = [[draw.randrange(1, 120) for _ in range(draw.choice([1, 2, 7, 19]))] for _ in range(24)]
    lengths = [draw.randrange(1, 12) for _ in prompts]
    alone = [generate(engine, [p], max_new_tokens=n, temperature=0.0, seed=0).tokens[0] for p, n in zip(prompts, lengths, strict=True)]

    slots, waiting, rows, said = Slots(engine, 5), list(range(len(prompts))), list[int](), {i: list[int]() for i in range(len(prompts))}
    sizes = set[int]()
    while waiting or rows:
        sizes.add(slots.places_a_row)
        if waiting and slots.used < slots.rows and draw.random() < 0.7:
            rows.append(waiting.pop(0))
            said[rows[-1]].append(int(slots.enter(prompts[rows[-1]]).argmax()))
        elif rows:
            for i, token in zip(rows, slots.step([said[i][-1] for i in rows]).argmax(-1).tolist(), strict=True):
                said[i].append(token)
        for row in reversed(range(len(rows))):
            if len(said[rows[row]]) == lengths[rows[row]]:
                moved, last = slots.leave(row), rows.pop()
                assert moved == (None if row == len(rows) else len(rows))
                if moved is not None:
                    rows[row] = last
    assert list(said.values()) == alone
    assert slots.used == 0
    assert sizes >= ({4, 8, 16, 32} if first == 4 else {32})
    assert slots.places_a_row == min(first, 32), "what the longest took is given back"


def test_row_that_finds_no_memory_is_named_and_the_others_go_on(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots_module, "FIRST", 4)
    slots = Slots(engine, 3)
    for prompt in ([5, 6], [7, 8, 9, 10], [11]):
        slots.enter(prompt)
    monkeypatch.setattr(devices, "memory_left", lambda: 0)
    assert slots.without_room() == 1
    assert slots.leave(2) is None
    with pytest.raises(ValueError, match="no memory for the keys and values of 5 tokens beside those of 2 requests"):
        slots.enter([1, 2, 3, 4, 5])
    assert slots.leave(1) is None
    assert slots.without_room() is None
    found = int(slots.step([12]).argmax())
    assert found == int(Slots(engine, 1).enter([5, 6, 12]).argmax())


def test_memory_that_does_not_suffice_for_all_rows_is_said_with_the_figure(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    slots = Slots(engine, 2, context=16)
    whole = sum(2 * cache.keys.nbytes for cache in slots.caches)
    assert (slots.places_a_row, {cache.keys.shape[-1] for cache in slots.caches}) == (16, {16})
    monkeypatch.setattr(devices, "memory_left", lambda: 0)
    assert slots.shortage() == "", "it is allocated"
    monkeypatch.setattr(slots_module, "FIRST", 4)
    monkeypatch.setattr(slots_module, "GIB", whole / 8)
    assert re.search(
        r"2 conversations of 16 tokens take 8.0 GiB, and 2.0 GiB are free: room for 4 tokens each", Slots(engine, 2, 16).shortage()
    )


def test_slots_refuse_what_does_not_fit(engine: Engine) -> None:
    slots = Slots(engine, 1)
    for prompt in ([], [1] * engine.model.seq_len):
        with pytest.raises(ValueError, match="a prompt has 1 to 31 tokens"):
            slots.enter(prompt)
    with pytest.raises(ValueError, match="a prompt has 1 to 7 tokens"):
        Slots(engine, 1, context=8).enter([1] * 8)
    with pytest.raises(ValueError, match="a context of 33 tokens is more than the model's 32"):
        Slots(engine, 1, context=33)
    slots.enter([1] * (engine.model.seq_len - 1))
    with pytest.raises(ValueError, match="all 1 rows are in use"):
        slots.enter([1])
