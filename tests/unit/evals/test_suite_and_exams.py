"""Suites say what is missing; exams turn points into scores and percentiles."""

import json
from pathlib import Path

import pytest

from modelyard.config import ConfigError, load_config
from modelyard.evals import exams
from modelyard.evals.methods import ask
from modelyard.evals.reviewed import credit_error, grader_agreement
from modelyard.evals.suite import SuiteConfig, aspect_means, plan
from modelyard.evals.tools import Tools
from modelyard.judges.judge import Asking, Judge
from modelyard.model.asked import ChooseBy
from modelyard.stats.estimate import Estimate
from tests.unit.judges.scripted import Scripted

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
    means = aspect_means(planned, {"lambada": Estimate(0.5, 0.3, 0.7, 1)})
    assert means["reasoning"] == "0.5000 over 1 of 4"
    assert means["math"] == "not measured: 0 of 2"


@pytest.mark.parametrize("file", sorted((ROOT / "configs" / "evals").glob("*.toml")), ids=lambda file: file.stem)
def test_suite_shipped_knows_every_name_and_says_what_has_no_data(file: Path, tmp_path: Path) -> None:
    planned = plan(load_config(SuiteConfig, file), tmp_path, None, file.parent)

    assert planned
    assert all("missing data" in entry.missing for entry in planned)


KINDS: dict[str, list[dict]] = {
    "arc/samples_easy.jsonl": [{"question": "Which flies?", "choices": ["cow", "owl"], "answer": 1}],
    "arc/fewshot_easy.jsonl": [{"question": "Which swims?", "choices": ["cod", "cow"], "answer": 0}],
    "winogrande/test.jsonl": [{"sentence": "The cup fits _ well.", "option1": "here", "option2": "there", "answer": "2"}],
    "winogrande/fewshot.jsonl": [{"sentence": "The _ runs.", "option1": "cat", "option2": "rock", "answer": "1"}],
    "lambada/samples.jsonl": [{"input": [{"content": "the king of the"}], "ideal": "castle"}],
    "lambada/fewshot.jsonl": [{"sample": [{"content": "she bakes"}, {"content": "bread"}]}],
    "web_questions/samples.jsonl": [{"question": "who bakes?", "answers": ["the baker"]}],
    "web_questions/fewshot.jsonl": [{"question": "who sails?", "answers": ["the sailor"]}],
    "gsm8k/test.jsonl": [{"question": "One and one?", "answer": "1+1=2\n#### 2"}],
    "human_eval/HumanEval.jsonl": [
        {
            "task_id": "H/0",
            "prompt": "def f():\n",
            "canonical_solution": "    return 1\n",
            "test": "def check(f):\n    assert f() == 1",
            "entry_point": "f",
        }
    ],
}
COT = "fewshot_config:\n  samples:\n" + "".join(f"  - question: q{k}\n    target: The answer is {k}.\n" for k in range(8))


def write_kinds(root: Path) -> None:
    """One item of each kind of the suite, as far as it needs no classifier."""
    for name, rows in KINDS.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    (root / "gsm8k" / "gsm8k-cot.yaml").write_text(COT)


def test_suite_fathom_chat_asks_every_benchmark_in_chat_for_text_that_is_parsed(tmp_path: Path) -> None:
    plain, chat = (load_config(SuiteConfig, ROOT / "configs" / "evals" / f"{name}.toml") for name in ("fathom", "fathom-chat"))
    write_kinds(tmp_path)

    built = {one.name: one.benchmark for one in plan(chat, tmp_path, None) if one.benchmark}

    listed = [[name for members in suite.aspects.values() for name in members] for suite in (plain, chat)]
    assert [name.replace("lambada_word", "lambada") for name in listed[1]] == listed[0]
    assert set(built) == {"arc_easy", "winogrande", "lambada_word", "web_questions", "gsm8k_cot", "human_eval"}
    assert {one.method for one in built.values()} == {"generate", "code"}
    assert all(one.chat and one.decoding.max_new_tokens for one in built.values())
    assert built["arc_easy"].parser == built["winogrande"].parser == "letter"
    assert "The _ runs.\nA. cat" in built["winogrande"].prefaces[""], "its solved example too"


def test_suite_way_yields_to_a_benchmarks_own_table_and_says_what_has_no_chat_form(tmp_path: Path) -> None:
    write_kinds(tmp_path)
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.txt").write_text("the king of the castle\n")
    (tmp_path / "s.toml").write_text(
        'name = "s"\nchat = true\nchoose_by = "letter"\n[aspects]\na = ["arc_easy", "plain", "perplexity"]\n'
        '[benchmarks.plain]\ncatalog = "arc_easy"\nchat = false\nchoose_by = "likelihood"\n'
    )

    planned = {one.name: one for one in plan(load_config(SuiteConfig, tmp_path / "s.toml"), tmp_path, None)}

    assert planned["arc_easy"].benchmark.chat
    assert (planned["plain"].benchmark.chat, planned["plain"].benchmark.method) == (False, "choices")
    assert planned["perplexity"].missing == "benchmark perplexity: scores whole texts, so it has no chat form"


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

    (built,) = exams.benchmarks_of(exam, tmp_path)

    assert [item.group for item in built.items] == ["signs", "rules"]
    assert built.prompt_of(built.items[0]).endswith("Stop?\nA. yes\nB. no\nAnswer:")


def test_exam_as_the_report_asks_it_shows_solved_questions_explains_at_0_3_and_then_takes_the_letter_at_0(tmp_path: Path) -> None:
    question = {"question": "Stop?", "choices": ["yes", "no"], "answer": 0}
    for section in ("signs", "rules"):
        (tmp_path / f"{section}.jsonl").write_text(json.dumps(question) + "\n")
        shown = {"question": f"Of {section}?", "choices": ["no", "yes"], "answer": 1, "explanation": f"It is {section}."}
        (tmp_path / f"{section}.examples.jsonl").write_text(json.dumps(shown) + "\n")
    (tmp_path / "exam.toml").write_text(EXAM.replace('name = "driving"', 'name = "driving"\nshots = 1\nexplain = true'))
    exam = exams.load(tmp_path)
    (built,) = exams.benchmarks_of(exam, tmp_path)
    thinks = Scripted(say=lambda asked: " A." if asked.endswith("\nThe answer is") else " One stops, as so often.")

    records = ask(thinks, built, Tools())

    solved = "Of signs?\nA. no\nB. yes\nAnswer: Let's think step by step. It is signs.\nThe answer is B\n\n"
    assert thinks.asked[0].endswith(f"{solved}Stop?\nA. yes\nB. no\nAnswer: Let's think step by step.")
    assert [one.temperature for one in thinks.decodings] == [0.3, 0.0]
    assert exams.grade_records(exam, records).points == 100
    (tmp_path / "exam.toml").write_text(EXAM.replace('name = "driving"', 'name = "driving"\nshots = 2'))
    with pytest.raises(ValueError, match=r"signs\.examples\.jsonl"):
        exams.benchmarks_of(exams.load(tmp_path), tmp_path)


GRADED = EXAM.replace('name = "rules"', 'name = "rules"\nkind = "free_response"').replace(
    'name = "driving"', f'name = "driving"\nsamples = 2\ngrader = "{ROOT}/configs/rubrics/credit.toml"'
)


def credits(context: str, letter: str) -> float:
    """Full credit for what names the fine, partial for what is a sentence, none else, in whichever order the options stand."""
    said = context.rpartition("Response:\n")[2]
    wanted = "Full" if "fine" in said else "Partial" if "." in said else "No"
    return 0.0 if f"\n{letter}. {wanted} credit" in context else -3.0


def says(question: str) -> str:
    """The letter that ``credits`` finds the likeliest."""
    return next(letter for letter in "ABC" if credits(question, letter) == 0)


@pytest.mark.parametrize("choose_by", ["likelihood", "letter"])
def test_exam_free_response_is_sampled_at_0_6_and_graded_with_its_error_stated(tmp_path: Path, choose_by: ChooseBy) -> None:
    (tmp_path / "exam.toml").write_text(GRADED)
    (tmp_path / "signs.jsonl").write_text(json.dumps({"question": "Stop?", "choices": ["yes", "no"], "answer": 0}) + "\n")
    asked = [{"question": f"Why {n}?", "criteria": "Names the fine."} for n in range(2)]
    (tmp_path / "rules.jsonl").write_text("".join(json.dumps(one) + "\n" for one in asked))
    exam = exams.load(tmp_path)
    letters, free = exams.benchmarks_of(exam, tmp_path)
    judge = Judge(Scripted(credits, says), Asking(orders=3, calibrate="none", shots=0, chat=False, choose_by=choose_by))
    said = iter(["There is a fine.", "Dunno", "It is a rule.", "The fine is high."])
    model = Scripted(lambda context, letter: float(letter == "A"), lambda prompt: next(said))
    model.turn = lambda said: str(said)  # type: ignore[attr-defined]
    tools = Tools(sorter=judge)

    records = [*ask(model, letters, tools), *ask(model, free, tools)]

    assert {decoding.temperature for decoding in model.decodings} == {0.6}
    assert [decoding.seed for decoding in model.decodings] == [0, 1], "each sample has a seed of its own"
    assert "Full credit needs: Names the fine." in judge.model.asked[0]
    assert [r.score for r in records] == [1.0, 1.0, 0.5, 0.0, 1.0]
    assert exams.grade_records(exam, records) == (40 + 60 * (0.75 + 0.5) / 2 - 0.0, "pass", 30, 90)
    (agreement,) = grader_agreement(free.graders, judge, 0)
    off, absolute = credit_error(exam.grader, agreement)
    labels = [one.label for one in exam.grader.labelled()]
    worth = [1.0, 0.5, 0.0]
    graded = [0 if "fine" in one.response else 1 if "." in one.response else 2 for one in exam.grader.labelled()]
    differences = [worth[a] - worth[b] for a, b in zip(graded, labels, strict=True)]
    assert off == pytest.approx(sum(differences) / len(differences))
    assert absolute == pytest.approx(sum(map(abs, differences)) / len(differences))
    assert f"{off * 60:+.1f} of the 60 points" in exams.grading_error(exam, agreement)


def test_exam_free_response_needs_a_grader_that_gives_credit(tmp_path: Path) -> None:
    (tmp_path / "exam.toml").write_text(EXAM.replace('name = "rules"', 'name = "rules"\nkind = "free_response"'))
    with pytest.raises(ConfigError, match="grader: the rubric of sections of free response"):
        exams.load(tmp_path)
    (tmp_path / "exam.toml").write_text(GRADED.replace("credit.toml", "refusal_style.toml"))
    (tmp_path / "rules.jsonl").write_text('{"question": "Why?", "criteria": "x"}\n')
    (tmp_path / "signs.jsonl").write_text('{"question": "Stop?", "choices": ["yes", "no"], "answer": 0}\n')
    with pytest.raises(ValueError, match="worth from 0 to 1"):
        exams.benchmarks_of(exams.load(tmp_path), tmp_path)


def test_suite_table_names_a_set_twice_and_what_it_asks_otherwise(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(
        'name = "s"\n[aspects]\ncode = ["human_eval", "at_k", "own"]\n[benchmarks.at_k]\ncatalog = "human_eval"\nsamples = 200\n'
        'temperature = 0.8\n[benchmarks.own]\nfile = "own.jsonl"\n'
    )
    (tmp_path / "own.jsonl").write_text('{"question": "a", "answer": "b"}\n')
    row = dict.fromkeys(("task_id", "prompt", "entry_point", "test", "canonical_solution"), "x")
    (tmp_path / "data" / "human_eval").mkdir(parents=True)
    (tmp_path / "data" / "human_eval" / "HumanEval.jsonl").write_text(json.dumps(row) + "\n")

    greedy, sampled, own = plan(load_config(SuiteConfig, tmp_path / "s.toml"), tmp_path / "data", None, tmp_path)

    assert greedy.benchmark
    assert sampled.benchmark
    assert (greedy.benchmark.decoding.samples, sampled.benchmark.decoding.samples) == (1, 200)
    assert sampled.benchmark.name == "at_k"
    assert sampled.benchmark.metrics == ("pass_at_1", "pass_at_10", "pass_at_100")
    assert own.benchmark
    (tmp_path / "s.toml").write_text('name = "s"\n[aspects]\ncode = ["human_eval"]\n[benchmarks.stray]\nfile = "own.jsonl"\n')
    with pytest.raises(ConfigError, match=r"benchmarks\.stray: is in no aspect"):
        load_config(SuiteConfig, tmp_path / "s.toml")
