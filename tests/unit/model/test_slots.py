"""Sequences that come and go get the tokens that they get alone."""

from __future__ import annotations

import random

import pytest

from modelyard.execution import ExecutionConfig
from modelyard.model.inference.generate import generate
from modelyard.model.inference.slots import Slots
from modelyard.model.training.engine import Engine

from . import layout_program as program

pytestmark = pytest.mark.numerics


@pytest.fixture(scope="module", params=["llama-tied", "gpt-untied", "llama-variant", "llama-experts"])
def engine(request: pytest.FixtureRequest) -> Engine:
    return Engine(program.case(request.param), ExecutionConfig(threads=1), seed=3, precision="fp32")


def test_rows_that_come_and_go_say_what_each_says_alone(engine: Engine) -> None:
    draw = random.Random(7)
    prompts = [[draw.randrange(1, 120) for _ in range(draw.choice([1, 2, 7, 19]))] for _ in range(24)]
    lengths = [draw.randrange(1, 12) for _ in prompts]
    alone = [generate(engine, [p], max_new_tokens=n, temperature=0.0, seed=0).tokens[0] for p, n in zip(prompts, lengths, strict=True)]

    slots, waiting, rows, said = Slots(engine, 5), list(range(len(prompts))), list[int](), {i: list[int]() for i in range(len(prompts))}
    while waiting or rows:
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


def test_slots_refuse_what_does_not_fit(engine: Engine) -> None:
    slots = Slots(engine, 1)
    for prompt in ([], [1] * engine.model.seq_len):
        with pytest.raises(ValueError, match="a prompt has 1 to 31 tokens"):
            slots.enter(prompt)
    slots.enter([1] * (engine.model.seq_len - 1))
    with pytest.raises(ValueError, match="all 1 rows are in use"):
        slots.enter([1])
