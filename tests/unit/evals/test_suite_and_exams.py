"""Suites say what is missing; exams turn points into scores and percentiles."""

import json
from pathlib import Path

import pytest
from modelyard.evals.suite_config import SuiteConfig, aspect_means, plan

from modelyard.config import ConfigError, load_config
from modelyard.evals import exams
from modelyard.evals.summary import Metric

ROOT = Path(__file__).parents[3]
EXAM = """
name = "driving"
[[sections]]
name = "signs"
points = 40
[[sections]]
name = "rules"
points = 60
penalty = 0.25
[[table]]
least = -100
score = "fail"
percentile_low = 0
percentile_high = 30
[[table]]
least = 70
score = "pass"
percentile_low = 30
percentile_high = 90
[[table]]
least = 95
score = "honours"
percentile_low = 90
percentile_high = 100
"""


def test_suite_fathom_has_the_papers_24_benchmarks_and_names_missing_files(tmp_path: Path) -> None:
    suite = load_config(SuiteConfig, ROOT / "configs" / "evals" / "fathom.toml")
    (tmp_path / "lambada").mkdir()
    row = {"input": [{"content": "a b"}], "ideal": "c", "sample": [{"content": "x"}, {"content": "y"}]}
    for name in ("samples", "fewshot"):
        (tmp_path / "lambada" / f"{name}.jsonl").write_text(json.dumps(row) + "\n")

    planned = plan(suite, tmp_path, None)

    assert len(planned) == 24
    assert len(suite.aspects) == 7
    assert [entry.name for entry in planned if entry.benchmark] == ["lambada"]
    assert all(entry.missing.startswith("missing data: no") for entry in planned if not entry.benchmark)
    means = aspect_means(planned, {"lambada": Metric(0.5, 0.1, 0.3, 0.7, 1)})
    assert means["reasoning"] == "0.5000 over 1 of 4"
    assert means["math"] == "not measured: 0 of 2"


def test_suite_unknown_benchmark_is_named(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text('name = "s"\n[aspects]\nmath = ["gsm9k"]\n[shots]\n')

    with pytest.raises(ConfigError, match="benchmark 'gsm9k' is not known"):
        load_config(SuiteConfig, tmp_path / "s.toml")


@pytest.fixture
def exam(tmp_path: Path) -> exams.Exam:
    (tmp_path / "exam.toml").write_text(EXAM)
    return exams.load(tmp_path)


@pytest.mark.parametrize(
    ("signs", "rules", "expected"),
    [
        ([1, 1], [1, 1, 1, 1], (100, "honours", 90, 100)),
        ([1, 0], [1, 1, 1, 1], (80, "pass", 30, 90)),
        ([1, 1], [1, 1, 0, 0], (40 + 30 - 2 * 0.25 * 15, "fail", 0, 30)),
        ([0, 0], [0, 0, 0, 0], (-15, "fail", 0, 30)),
    ],
)
def test_exam_points_score_and_percentiles(exam: exams.Exam, signs: list, rules: list, expected: tuple) -> None:
    assert tuple(exams.grade(exam, {"signs": signs, "rules": rules})) == pytest.approx(expected)


def test_exam_refuses_another_exams_sections_and_a_falling_table(exam: exams.Exam, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the exam has"):
        exams.grade(exam, {"signs": [1]})
    (tmp_path / "exam.toml").write_text(EXAM.replace("least = 95", "least = 60"))
    with pytest.raises(ConfigError, match="rows must rise"):
        exams.load(tmp_path)


def test_exam_questions_become_one_benchmark_by_section(exam: exams.Exam, tmp_path: Path) -> None:
    for section in ("signs", "rules"):
        (tmp_path / f"{section}.jsonl").write_text(json.dumps({"question": "Stop?", "choices": ["yes", "no"], "answer": 0}) + "\n")

    built = exams.benchmark_of(exam, tmp_path)

    assert [item.group for item in built.items] == ["signs", "rules"]
    assert built.prompt_of(built.items[0]).endswith("Stop?\nA. yes\nB. no\nAnswer:")
