"""Sequences that come and go get the tokens that they get alone."""

from __future__ import annotations

import random
import re

import pytest
import torch

from modelyard.execution import ExecutionConfig
from modelyard.model.inference import footprint
from modelyard.model.inference import slots as slots_module
from modelyard.model.inference.decode import Decoder
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
    with pytest.raises(MemoryError, match="of 5 tokens in 3 rows"):
        slots.step([1, 2, 3])
    assert slots.longest == 1
    assert slots.leave(2) is None
    with pytest.raises(ValueError, match="no memory for the keys and values of 5 tokens beside those of 2 requests"):
        slots.enter([1, 2, 3, 4, 5])
    assert slots.leave(1) is None
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
        r"2 conversations of 16 tokens take 8.0 GiB and reading one \d+.\d, and 2.0 GiB are free: room for 4 tokens each",
        Slots(engine, 2, 16).shortage(),
    )


def test_caches_grow_where_memory_is_left_for_a_prompt_and_a_step_beside_them(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots_module, "FIRST", 4)
    slots, prompt = Slots(engine, 2, context=8), [1, 2, 3, 4, 5]
    caches = sum(2 * cache.keys.nbytes for cache in slots.caches)
    beside = max(footprint.of_prompt(engine.model, slots.weights.blocks, 4, 8), footprint.of_step(engine.model, size=4, rows=2, places=8))
    monkeypatch.setattr(devices, "memory_left", lambda: caches + beside - 1)
    with pytest.raises(ValueError, match="no memory"):
        slots.enter(prompt)
    assert "room for 7 tokens each" in slots.shortage()
    monkeypatch.setattr(devices, "memory_left", lambda: caches + beside)
    assert slots.shortage() == ""
    slots.enter(prompt)
    assert slots.places_a_row == 8


SHORT = [
    torch.OutOfMemoryError("CUDA out of memory"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
    MemoryError(),
]


@pytest.mark.parametrize("error", SHORT, ids=["gpu", "cpu", "python"])
@pytest.mark.parametrize(
    ("owner", "name"),
    [(slots_module._Rows, "resize"), (slots_module._Rows, "attend"), (Decoder, "logits")],
    ids=["growing", "step", "prompt"],
)
def test_memory_that_ends_amid_a_call_leaves_all_as_it_was(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, owner: type, name: str, error: Exception
) -> None:
    monkeypatch.setattr(slots_module, "FIRST", 4)
    slots, calls, whole = Slots(engine, 2), list[object](), getattr(owner, name)
    first = int(slots.enter([5, 6, 7, 8]).argmax())

    def short(*given: object) -> object:
        calls.append(given)
        if name == "logits" or given[0] is slots.caches[1]:
            raise error
        return whole(*given)

    with monkeypatch.context() as patched:
        patched.setattr(owner, name, short)
        with pytest.raises(ValueError if name == "logits" else MemoryError):
            slots.enter([9]) if name == "logits" else slots.step([first])
    assert (slots.used, slots.lengths, slots.places[:1].tolist()) == (1, [4], [4])
    assert {cache.places for cache in slots.caches} == {slots.places_a_row} == ({4} if name != "attend" else {8})
    assert int(slots.step([first]).argmax()) == int(Slots(engine, 1).enter([5, 6, 7, 8, first]).argmax())


def test_memory_is_given_back_before_caches_begin_anew_and_may_be_missing_then(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots_module, "FIRST", 4)
    slots, whole, sizes = Slots(engine, 2), slots_module._Rows.resize, list[list[int]]()

    def short(cache: slots_module._Rows, length: int) -> None:
        sizes.append([one.places for one in slots.caches])
        if length:
            raise torch.OutOfMemoryError
        whole(cache, length)

    slots.enter([1] * 7)
    with monkeypatch.context() as patched:
        patched.setattr(slots_module._Rows, "resize", short)
        assert slots.leave(0) is None
    assert sizes[len(slots.caches)] == [0] * len(slots.caches), "all is free when the first asks"
    assert (slots.used, slots.places_a_row) == (0, 0)
    assert slots.enter([1] * 7).tolist() == Slots(engine, 1).enter([1] * 7).tolist()
    with monkeypatch.context() as patched:
        patched.setattr(Decoder, "logits", lambda *_: (_ for _ in ()).throw(MemoryError))
        slots.leave(0)
        with pytest.raises(ValueError, match="no memory"):
            slots.enter([1] * 7)
    assert slots.places_a_row == 4, "what a prompt that was not read had taken"


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
