"""Scoring with shared stems and prefaces is the plain forward, number by number."""

import random
from collections.abc import Iterator

import pytest
import torch

from modelyard.execution import ExecutionConfig
from modelyard.model.inference import score
from modelyard.model.inference.cores import Cores
from modelyard.model.inference.queries import Query, batched, families, layout
from modelyard.model.inference.score import Scorer
from modelyard.model.training.batch import Batch
from modelyard.model.training.engine import Engine

from .layout_program import model

pytestmark = pytest.mark.numerics


def some_queries(seed: int) -> list[Query]:
    draw = random.Random(seed)
    preface = [draw.randrange(128) for _ in range(12)]
    queries = []
    for number in range(12):
        prefix = (preface if number % 2 else []) + [draw.randrange(128) for _ in range(draw.randint(1, 8))]
        new = [[draw.randrange(128) for _ in range(draw.randint(1, 5))] for _ in range(draw.randint(1, 4))]
        queries.append(Query([prefix] * len(new), new))
    queries.append(Query([[1, 2, 3, 4], [1, 2, 9]], [[7, 8], [7, 8]]))  # what differs is the prefix
    queries.append(Query([list(range(40))], [[5, 6, 7]]))  # longer than the context of 32
    queries.append(Query([[3, 4]], [[5] * 32]))
    return queries


@pytest.mark.parametrize("name", ["llama-tied", "llama-untied", "llama-variant", "gpt-tied", "gpt-untied"])
def test_score_equals_the_plain_forward_of_each_continuation(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score, "WORTH", 32)  # so that the short preface of these queries is shared
    style, kind = name.split("-")
    shape = model(style, kind != "untied", variant=kind == "variant")
    engine = Engine(shape, ExecutionConfig(threads=1), seed=3, precision="fp32")
    queries = some_queries(1)

    found = Scorer(engine).score(queries, tokens=64)

    for query, line in zip(queries, found, strict=True):
        for prefix, new, result in zip(query.prefixes, query.continuations, line, strict=True):
            row = torch.tensor([[*prefix, *new][-33:]])
            expected = engine.evaluate(Batch(row[:, :-1], row[:, 1:], {}), 1)[0, -len(new) :]
            assert result.logprobs == pytest.approx(expected.tolist(), abs=1e-5)
            others = engine.evaluate(Batch(row[:, :-1].repeat(128, 1), torch.arange(128)[:, None].expand(128, row.shape[1] - 1), {}), 128)
            best = others[:, -len(new) :].argmax(0).tolist()
            assert (result.margin >= 0) == (best == list(new))


def test_score_does_not_depend_on_what_is_scored_beside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score, "WORTH", 32)
    engine = Engine(model("llama", True), ExecutionConfig(threads=1), seed=3, precision="fp32")
    queries = some_queries(2)

    together = Scorer(engine).score(queries, tokens=64)
    alone = [Scorer(engine).score([query])[0] for query in queries]

    for ours, theirs in zip(together, alone, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            assert a.logprobs == pytest.approx(b.logprobs, abs=1e-5)


@pytest.fixture
def threads() -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield 3
    torch.set_num_threads(before)


def test_score_of_batches_side_by_side_is_that_of_one_after_another(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score, "WORTH", 32)
    monkeypatch.setattr(score, "LOGIT_ROWS", 8)  # logits are computed several times, in the order of what waits for them
    engine, heard = Engine(model("llama", True), ExecutionConfig(threads=threads), seed=3, precision="fp32"), list[int]()
    scorer, queries = Scorer(engine), [query for seed in range(3) for query in some_queries(seed)]

    beside = scorer.score(queries, tokens=64, report=lambda done, total: heard.append(done))
    assert torch.get_num_threads() == threads
    monkeypatch.setattr(score, "side_by_side", lambda: 1)
    after = scorer.score(queries, tokens=64)

    assert heard == sorted(heard)
    assert heard[-1] == len(queries)
    for ours, theirs in zip(beside, after, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            assert a.logprobs == pytest.approx(b.logprobs, abs=1e-5)


def test_batches_side_by_side_are_of_one_size_and_none_is_left_over() -> None:
    rows = [layout(i, Query([[*range(20 + i % 5)]], [[7]]), 128) for i in range(50)]

    sizes = [len(rows) for rows in batched(rows, 0, 256, beside=4)]

    assert len(sizes) == 8  # and not the five that 1,050 tokens make
    assert max(sizes) - min(sizes) <= 3
    assert len(list(batched(rows, 0, 256))) == 5


def test_cores_run_pieces_that_wait_for_earlier_ones_and_raise_what_they_raise(threads: int) -> None:
    def number(of: int) -> tuple[int, int, bool]:
        return of, torch.get_num_threads(), torch.is_inference_mode_enabled()

    with Cores(2) as cores:
        first = cores.submit(number, 1)
        second = cores.submit(lambda: first.result()[0] + 1)
        assert (first.result(), second.result()) == ((1, 1, True), 2)
    with pytest.raises(ZeroDivisionError), Cores(2) as cores:
        cores.submit(lambda: 1 // 0).result()
    with Cores(1) as cores:
        assert cores.submit(number, 1).result() == (1, threads, True)
    assert torch.get_num_threads() == threads


def test_families_find_the_preface_and_never_swallow_a_scored_position() -> None:
    rows = [layout(i, query, 32) for i, query in enumerate(some_queries(1))]

    found = list(families(rows, worth=32))

    assert sorted(row.query for _, family in found for row in family) == list(range(len(rows)))
    assert [shared for shared, _ in found] == [12, 0]
    assert len(found[0][1]) == 6
    for shared, family in found:
        assert all(shared <= min(nodes[0] for nodes in row.scored) for row in family)


def test_families_of_subjects_with_one_header_keep_their_own_examples() -> None:
    header, draw = list(range(10)), random.Random(0)
    subjects = [[*header, *(draw.randrange(128) for _ in range(60))] for _ in range(3)]
    rows = [layout(i, Query([[*subjects[i % 3], 100 + i, 5]], [[7]]), 128) for i in range(24)]

    found = [(shared, len(family)) for shared, family in families(rows, worth=100) if family]

    assert found == [(70, 8)] * 3


@pytest.mark.parametrize("query", [Query([[]], [[1]]), Query([[1]], [[]]), Query([], []), Query([[1]], [[2] * 33])])
def test_score_of_nothing_or_too_much_is_refused(query: Query) -> None:
    with pytest.raises(ValueError, match="query 0"):
        layout(0, query, 32)


def test_score_bf16_products_stay_near() -> None:
    engine = Engine(model("llama", True), ExecutionConfig(threads=1), seed=3, precision="fp32")
    queries = some_queries(3)

    pairs = zip(Scorer(engine).score(queries), Scorer(engine, "bf16").score(queries), strict=True)

    differences = [
        abs(x - y) for ours, theirs in pairs for a, b in zip(ours, theirs, strict=True) for x, y in zip(a.logprobs, b.logprobs, strict=True)
    ]
    assert 0 < max(differences) < 0.1
