"""Paired tests against slow references."""

import gzip
import json
import math
from pathlib import Path

import numpy as np
import pytest

from modelyard.release import compare as module
from modelyard.release.compare import compare
from modelyard.stats.paired import holm, mcnemar, paired_bootstrap


def records(scores: list[float], benchmark_id: str = "x", benchmark: str = "words") -> list[dict]:
    return [{"item": f"i{k}", "score": s, "benchmark_id": benchmark_id, "benchmark": benchmark} for k, s in enumerate(scores)]


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (1, 0), (3, 3), (2, 9), (15, 4)])
def test_mcnemar_equals_the_binomial_sum(gained: int, lost: int) -> None:
    n = gained + lost
    tail = sum(math.comb(n, k) for k in range(min(gained, lost) + 1)) / 2**n

    assert mcnemar(gained, lost) == pytest.approx(min(1.0, 2 * tail) if gained != lost else 1.0)


def test_holm_hand_worked_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_compare_pairing_shows_what_an_unpaired_look_hides() -> None:
    old = [1.0] * 100 + [0.0] * 100
    new = [1.0] * 90 + [0.0] * 110  # ten items lost, none gained: 50% against 45% of 200

    (result,) = compare({"words": records(old)}, {"words": records(new)})

    assert result.verdict == "worse"
    assert result.p == pytest.approx(2 / 2**10)
    assert result.lost == tuple(sorted(f"i{k}" for k in range(90, 100)))


def test_compare_loss_within_tolerance_is_same() -> None:
    old, new = [1.0] * 100 + [0.0] * 100, [1.0] * 90 + [0.0] * 110

    (result,) = compare({"words": records(old)}, {"words": records(new)}, tolerance={"words": 0.06})

    assert result.verdict == "same"


def test_compare_continuous_scores_use_the_bootstrap() -> None:
    generator = np.random.default_rng(1)
    old = generator.normal(size=300)

    (up,) = compare({"words": records(old.tolist())}, {"words": records((old + 0.05 + 0.1 * generator.normal(size=300)).tolist())})
    (none,) = compare({"words": records(old.tolist())}, {"words": records(old.tolist())})

    assert up.test == "bootstrap"
    assert up.verdict == "better"
    assert up.low < up.difference < up.high
    assert (none.verdict, none.p) == ("same", 1.0)


def test_paired_bootstrap_interval_is_that_of_the_normal_theory() -> None:
    differences = np.random.default_rng(0).normal(0.2, 1.0, 2000)

    low, high, p = paired_bootstrap(differences, seed=3)

    half = 1.96 * differences.std() / math.sqrt(2000)
    assert (low, high) == pytest.approx((differences.mean() - half, differences.mean() + half), abs=0.01)
    assert p < 0.001


def test_compare_few_items_is_not_enough() -> None:
    (result,) = compare({"words": records([1.0] * 10)}, {"words": records([0.0] * 10)})

    assert result.verdict == "not enough items"


def test_compare_holm_makes_many_benchmarks_stricter() -> None:
    old = {f"b{k}": records([0.0] * 50) for k in range(10)}
    new = {name: records([1.0] * 6 + [0.0] * 44) if name == "b0" else rows for name, rows in old.items()}

    first = compare(old, new)[0]

    assert first.p == pytest.approx(2 / 2**6)
    assert (first.p_holm, first.verdict) == (pytest.approx(10 * 2 / 2**6), "same")


@pytest.mark.parametrize(
    ("new", "message"),
    [
        (records([1.0] * 40, "y"), "another benchmark id"),
        (records([1.0] * 39), "items differ"),
        (records([float("nan")] * 40), "record 1: score is nan"),
        ([{"item": "a", "benchmark_id": "x"}], "numeric score"),
    ],
)
def test_compare_incomparable_records_are_refused(new: list[dict], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compare({"words": records([1.0] * 40)}, {"words": new})


def test_compare_command_writes_json_and_refuses_garbage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new, out = tmp_path / "old.jsonl", tmp_path / "new.jsonl", tmp_path / "out.json"
    old.write_text("\n".join(map(json.dumps, records([1.0] * 40 + [0.0] * 40))))
    new.write_text("\n".join(map(json.dumps, records([0.0] * 80))))

    assert module.main([str(old), str(new), "--json", str(out)]) == 0
    assert "worse" in capsys.readouterr().out
    assert json.loads(out.read_text())[0]["verdict"] == "worse"
    new.write_text("not json")
    assert module.main([str(old), str(new)]) == 2
    assert "new.jsonl" in capsys.readouterr().err
    assert module.main([str(old), str(tmp_path / "none.jsonl")]) == 2


@pytest.mark.parametrize(
    "schema",
    [
        lambda k, right: {"item": k, "score": float(right)},
        lambda k, right: {"id": f"q{k}", "correct": bool(right)},
        lambda k, right: {"doc_id": k, "acc": right, "filter": "none"},
        lambda k, right: {"item_id": k, "choice": "A" if right else "B", "target": "A"},
        lambda k, right: {"question_id": k, "choice": "A" if right else "B", "correct": "A"},
        lambda k, right: {"question_id": k, "choice": k % 4, "correct": k % 4 if right else 9},
        lambda k, right: {"task_id": f"HumanEval/{k}", "passed": bool(right), "task": "code"},
        lambda k, right: {"id": k, "prediction": " 7 " if right else "8", "answer": 7},
    ],
)
def test_compare_command_reads_records_of_other_tools(schema, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new, out = tmp_path / "old.jsonl", tmp_path / "new.jsonl.gz", tmp_path / "out.json"
    old.write_text("\n".join(json.dumps(schema(k, k < 40)) for k in range(80)))
    new.write_bytes(gzip.compress("\n".join(json.dumps(schema(k, k < 20)) for k in range(80)).encode()))

    assert module.main([str(old), str(new), "--json", str(out)]) == 0

    (found,) = json.loads(out.read_text())
    assert (found["n"], found["old"], found["new"], found["verdict"], found["test"]) == (80, 0.5, 0.25, "worse", "mcnemar")
    assert len(found["lost"]) == 20
    assert f"-20: {found['lost'][0]}, " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"score": 1}', "new.jsonl:2: no item id"),
        ('{"id": 1, "prompt": "x"}', "new.jsonl:2: no numeric score"),
        ('{"id": 1, "score": NaN}', "new.jsonl:2: score is nan"),
        ('{"id": 1, "choice": "A"}', "new.jsonl:2: no numeric score"),
        ('{"id": 1, "acc": 45}', "new.jsonl:2: acc is 45, not between 0 and 1"),
        ('{"id": 1, "score": 1e308}', "new.jsonl:2: score is 1e+308"),
        ("[1, 2]", "new.jsonl:2: not a JSON object"),
        ('{"id": ', "new.jsonl:2: not JSON"),
        ('{"id": "other", "score": 0}', "items differ (1 old, 2 new, 1 in both, for example 'other')"),
    ],
)
def test_compare_command_unusable_record_is_one_clear_line(
    line: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = tmp_path / "old.jsonl", tmp_path / "new.jsonl"
    old.write_text('{"id": "a", "score": 1}')
    new.write_text(f'{{"id": "a", "score": 1}}\n{line}\n')

    assert module.main([str(old), str(new)]) == 2

    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_compare_command_common_items_alone_on_request(tmp_path: Path) -> None:
    old, new, out = tmp_path / "old.jsonl", tmp_path / "new.jsonl", tmp_path / "out.json"
    old.write_text("\n".join(json.dumps({"id": k, "score": 1}) for k in range(50)))
    new.write_text("\n".join(json.dumps({"id": k, "score": k % 2}) for k in range(10, 60)))

    assert module.main([str(old), str(new)]) == 2
    assert module.main([str(old), str(new), "--common", "--json", str(out)]) == 0

    (found,) = json.loads(out.read_text())
    assert (found["n"], found["verdict"]) == (40, "worse")


def test_compare_detectable_difference_is_seen_four_times_in_five() -> None:
    generator = np.random.default_rng(0)
    n = 400
    old = generator.normal(size=n)
    (first,) = compare({"words": records(old.tolist())}, {"words": records((old + generator.normal(size=n)).tolist())})

    seen = 0
    for _ in range(60):
        new = old + first.detectable + generator.normal(size=n)
        (found,) = compare({"words": records(old.tolist())}, {"words": records(new.tolist())})
        seen += found.verdict == "better"

    assert 60 * 0.62 < seen < 60 * 0.95  # 80% within three standard errors


def test_compare_many_benchmarks_of_continuous_scores_can_still_be_worse() -> None:
    generator = np.random.default_rng(0)
    olds = {f"s{k}": generator.uniform(0.5, 1, 100) for k in range(57)}
    found = compare(
        {k: records(v) for k, v in olds.items()}, {k: records(v - 0.45 + generator.normal(0, 0.01, 100)) for k, v in olds.items()}
    )
    assert {comparison.verdict for comparison in found} == {"worse"}


def test_compare_detectable_difference_is_not_known_without_spread_and_grows_with_the_benchmarks() -> None:
    alike = {"flat": records([0.3] * 40)}
    (flat,) = compare(alike, alike)
    assert flat.detectable is None
    one, many = ({f"b{k}": records([1.0, 0.0] * 40) for k in range(n)} for n in (1, 20))
    other = {name: records([0.0, 1.0] * 40) for name in many}
    assert compare(one, {"b0": other["b0"]})[0].detectable < compare(many, other)[0].detectable


@pytest.mark.parametrize(
    "option", [("--alpha", "nan"), ("--alpha", "7"), ("--tolerance", "-1"), ("--tolerance", "nan"), ("--min-items", "0")]
)
def test_compare_command_unusable_option_is_refused(option: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        module.main(["old.jsonl", "new.jsonl", *option])
    assert option[0] in capsys.readouterr().err


def test_compare_command_unwritable_result_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "old.jsonl"
    file.write_text('{"id": "\\ud800", "score": 1}')
    assert module.main([str(file), str(file), "--json", str(file / "out.json")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert module.main([str(file), str(file)]) == 0
