"""The command that compares two files of records: what it prints and writes, and what it refuses."""

import gzip
import json
from pathlib import Path

import pytest

from modelyard.commands.app import main


def records(scores: list[float], benchmark_id: str = "x", benchmark: str = "words") -> list[dict]:
    return [{"item": f"i{k}", "score": s, "benchmark_id": benchmark_id, "benchmark": benchmark} for k, s in enumerate(scores)]


def test_compare_command_writes_json_and_refuses_garbage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new, out = tmp_path / "old.jsonl", tmp_path / "new.jsonl", tmp_path / "out.json"
    old.write_text("\n".join(map(json.dumps, records([1.0] * 40 + [0.0] * 40))))
    new.write_text("\n".join(map(json.dumps, records([0.0] * 80))))

    assert main(["compare", str(old), str(new), "--json", str(out)]) == 0
    assert "worse" in capsys.readouterr().out
    assert json.loads(out.read_text())[0]["verdict"] == "worse"
    new.write_text("not json")
    assert main(["compare", str(old), str(new)]) == 2
    assert "new.jsonl" in capsys.readouterr().err
    assert main(["compare", str(old), str(tmp_path / "none.jsonl")]) == 2


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

    assert main(["compare", str(old), str(new), "--json", str(out)]) == 0

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

    assert main(["compare", str(old), str(new)]) == 2

    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_compare_command_common_items_alone_on_request(tmp_path: Path) -> None:
    old, new, out = tmp_path / "old.jsonl", tmp_path / "new.jsonl", tmp_path / "out.json"
    old.write_text("\n".join(json.dumps({"id": k, "score": 1}) for k in range(50)))
    new.write_text("\n".join(json.dumps({"id": k, "score": k % 2}) for k in range(10, 60)))

    assert main(["compare", str(old), str(new)]) == 2
    assert main(["compare", str(old), str(new), "--common", "--json", str(out)]) == 0

    (found,) = json.loads(out.read_text())
    assert (found["n"], found["verdict"]) == (40, "worse")


@pytest.mark.parametrize(
    "option", [("--alpha", "nan"), ("--alpha", "7"), ("--tolerance", "-1"), ("--tolerance", "nan"), ("--min-items", "0")]
)
def test_compare_command_unusable_option_is_refused(option: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "old.jsonl", "new.jsonl", *option]) == 2
    error = capsys.readouterr().err
    assert option[0] in error
    assert error.count("\n") == 1


def test_compare_command_unwritable_result_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "old.jsonl"
    file.write_text('{"id": "\\ud800", "score": 1}')
    assert main(["compare", str(file), str(file), "--json", str(file / "out.json")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert main(["compare", str(file), str(file)]) == 0
