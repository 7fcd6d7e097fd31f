"""Prompts, answers and scores beside lm-evaluation-harness's own task files and functions, item by item."""

import ast
import importlib.util
import json
import os
import random
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import jinja2
import pytest
import yaml

from modelyard.evals.benchmark import Benchmark
from modelyard.evals.catalog import build
from modelyard.evals.scorers import any_exact_ascii
from modelyard.formats.json_file import lines
from modelyard.judges.replies.numbers import final_number, same_number
from modelyard.judges.replies.spans import SPANS, any_f1_arabic, any_f1_english, any_f1_words, drop_f1

HARNESS = importlib.util.find_spec("lm_eval")
TASKS = Path(HARNESS.origin).parent / "tasks" if HARNESS and HARNESS.origin else Path()
DATA = Path(os.environ.get("MODELYARD_EVAL_DATA") or Path(__file__).parents[3].parent / "shared" / "data")
pytestmark = pytest.mark.skipif(HARNESS is None, reason="lm_eval (the extra bench) is not installed")


class Loader(yaml.SafeLoader):
    """Task files name functions by a tag."""


Loader.add_constructor("!function", lambda loader, node: str(node.value))


def task(name: str) -> dict[str, Any]:
    made: dict[str, Any] = yaml.load((TASKS / name).read_text("utf-8"), Loader)
    return made


@cache
def functions(name: str, *needed: str) -> Any:
    """A module of a task; ``needed``: what it imports."""
    for package in needed:
        pytest.importorskip(package)
    spec = importlib.util.spec_from_file_location("harness_task", TASKS / name)
    assert spec
    assert spec.loader
    module = ModuleType("harness_task")
    spec.loader.exec_module(module)
    return module


def rendered(template: str, row: dict[str, Any]) -> str:
    strict = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)  # noqa: TID251  a prompt, no page
    return strict.from_string(template).render(**row)


def written(root: Path, name: str, rows: list[dict[str, Any]]) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


def prompts(benchmark: Benchmark) -> list[str]:
    return [benchmark.prompt_of(item) for item in benchmark.items]


def test_short_answers_are_asked_as_the_harness_asks(tmp_path: Path) -> None:
    nq = [{"question": f"who is king {k}", "answer": [f"king {k}", "him"]} for k in range(4)]
    trivia = [{"question": f"Who is {k}?", "answer": {"aliases": [f"alias {k}", "A. K. A."], "value": f"value {k}"}} for k in range(4)]
    spans = {"number": "", "spans": ["a", "b"], "date": {"day": "", "month": "", "year": ""}}
    drop = [{"query_id": str(k), "passage": f"Passage {k}.", "question": f"How many {k}?", "answer": spans} for k in range(5)]
    for name, rows in (("natural_questions", nq), ("trivia_qa/rc.nocontext", trivia), ("drop", drop)):
        written(tmp_path, f"{name}/validation-0.jsonl", rows[:1])
        written(tmp_path, f"{name}/train-0.jsonl", rows[1:])

    theirs = task("nq_open/nq_open.yaml")
    shown = f"{rendered(theirs['doc_to_text'], nq[1])} king 1{theirs['fewshot_delimiter']}"
    assert prompts(build("natural_questions", tmp_path)) == [theirs["description"] + shown + rendered(theirs["doc_to_text"], nq[0])]
    theirs = task("triviaqa/default.yaml")
    right = [ast.literal_eval(rendered(theirs["doc_to_target"], row)) for row in trivia]
    shown = f"{rendered(theirs['doc_to_text'], trivia[1])} {right[1][0]}\n\n"
    assert prompts(build("trivia_qa", tmp_path)) == [shown + rendered(theirs["doc_to_text"], trivia[0])]
    assert build("trivia_qa", tmp_path).items[0].target.split("\n") == right[0]
    assert list(build("trivia_qa", tmp_path).decoding.stops) == theirs["generation_kwargs"]["until"]
    theirs = task("drop/default.yaml")
    asked = [rendered(theirs["doc_to_text"], row) for row in drop]
    assert prompts(build("drop", tmp_path)) == ["".join(f"{one}a,b\n\n" for one in asked[1:4]) + asked[0]]


@pytest.mark.parametrize("name", ["nq_open/nq_open.yaml", "triviaqa/default.yaml"])
def test_short_answers_are_right_where_the_harness_says_so(name: str) -> None:
    match = pytest.importorskip("lm_eval.api.metrics").exact_match_hf_evaluate
    (metric,) = [one for one in task(name)["metric_list"] if one["metric"] == "exact_match"]
    options = {key: value for key, value in metric.items() if key not in ("metric", "aggregation", "higher_is_better")}

    for said in ("king", "King!", "\u5317\u4eac", "\u5317\u4eac\u3002", "\u00abking\u00bb", "kings"):
        for right in ("king", "\u5317\u4eac"):
            assert any_exact_ascii(said, right) == match([said], [right], **options)["exact_match"], (said, right)


def test_gsm8k_cot_is_the_harness_task(tmp_path: Path) -> None:
    written(tmp_path, "gsm8k/main/test-0.jsonl", [{"question": "Two and two?", "answer": "2 + 2 = 4\n#### 4"}])
    (tmp_path / "gsm8k" / "gsm8k-cot.yaml").write_text((TASKS / "gsm8k" / "gsm8k-cot.yaml").read_text("utf-8"), "utf-8")
    theirs = task("gsm8k/gsm8k-cot.yaml")
    solved = theirs["fewshot_config"]["samples"]

    benchmark = build("gsm8k_cot", tmp_path)

    shown = "".join(f"{rendered(theirs['doc_to_text'], one)} {one['target']}\n\n" for one in solved)
    assert prompts(benchmark) == [shown + rendered(theirs["doc_to_text"], {"question": "Two and two?"})]
    assert [benchmark.parse(one["target"]) for one in solved] == ["6", "5", "39", "8", "9", "29", "33", "8"]
    assert set(benchmark.decoding.stops) <= set(theirs["generation_kwargs"]["until"])


def test_minerva_math_shows_the_four_of_the_harness(tmp_path: Path) -> None:
    row = {"problem": "What is $x$?", "level": "1", "type": "Algebra", "solution": "It is $\\boxed{5}$."}
    written(tmp_path, "math/algebra/test-0.jsonl", [row])
    written(tmp_path, "math/algebra/train-0.jsonl", [{**row, "problem": f"Train {k}?"} for k in range(4)])
    source = (TASKS / "minerva_math" / "utils.py").read_text("utf-8")
    (tmp_path / "math" / "utils.py").write_text(f"raise SystemExit('this was run')\n{source}", "utf-8")
    asked: dict[str, Any] = {}
    for part in ("doc_to_text", "list_fewshot_samples"):  # the rest of the file needs packages
        exec(f"def {part}" + source.partition(f"def {part}")[2].partition("\n\n\n")[0], asked)
    theirs, four = asked["doc_to_text"], asked["list_fewshot_samples"]()

    benchmark = build("minerva_math", tmp_path)

    shown = "".join(f"{theirs(one)} {one['solution']}\n\n" for one in four)
    assert prompts(benchmark) == [shown + theirs(row)]
    assert [benchmark.parse(one["solution"]) for one in four] == ["[2,5)", "24", "16", "-\\frac{2}{3}"]
    assert list(benchmark.decoding.stops) == task("minerva_math/minerva_math_algebra.yaml")["generation_kwargs"]["until"]
    assert benchmark.id != build("math", tmp_path).id


def test_solutions_are_as_long_as_the_harness_lets_them_be(tmp_path: Path) -> None:
    written(tmp_path, "math/samples.jsonl", [{"problem": "What is $x$?", "solution": "It is $\\boxed{5}$."}])
    for name, text in (("navigate.json", '{"examples": [{"input": "x", "target": "y"}]}'), ("cot-prompts/navigate.txt", "-----\nRead.")):
        (tmp_path / "bbh" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "bbh" / name).write_text(text)

    for name, theirs in (("bbh", "bbh/cot_fewshot/_cot_fewshot_template_yaml"), ("math", "leaderboard/math/_template_yaml")):
        assert build(name, tmp_path, shots=0).decoding.max_new_tokens == task(theirs)["generation_kwargs"]["max_gen_toks"]


def test_truthfulqa_begins_with_the_six_of_the_harness(tmp_path: Path) -> None:
    one = {"choices": ["yes", "no", "never"], "labels": [1, 0, 0]}
    two = {"choices": ["yes", "indeed", "no"], "labels": [1, 1, 0]}
    written(tmp_path, "truthfulqa/multiple_choice/validation-0.jsonl", [{"question": "Is it?", "mc1_targets": one, "mc2_targets": two}])
    (tmp_path / "truthfulqa" / "truthfulqa_mc1.yaml").write_text((TASKS / "truthfulqa" / "truthfulqa_mc1.yaml").read_text("utf-8"), "utf-8")
    theirs = rendered(task("truthfulqa/truthfulqa_mc1.yaml")["doc_to_text"], {"question": "Is it?"})

    for name, right in (("truthfulqa_mc1", (0,)), ("truthfulqa_mc2", (0, 1))):
        assert prompts(build(name, tmp_path)) == [theirs.strip()]
        assert build(name, tmp_path).items[0].right == right


def test_hellaswag_queries_and_endings_are_the_harness(tmp_path: Path) -> None:
    endings = ["runs [step] away.", "sits  down.", "[title] Eat", "flies off."]
    row = {"activity_label": "Pet care", "ctx_a": "A man [header] stands.", "ctx_b": "the dog", "endings": endings, "label": "2"}
    written(tmp_path, "hellaswag/data/validation-0.jsonl", [row])
    written(tmp_path, "hellaswag/data/train-0.jsonl", [{**row, "label": "0"}])
    datasets = pytest.importorskip("datasets")
    (doc,) = functions("hellaswag/utils.py").process_docs(datasets.Dataset.from_list([row]))

    benchmark = build("hellaswag", tmp_path)

    assert prompts(benchmark) == [f"{doc['query']} {doc['choices'][0]}\n\n{doc['query']}"]
    assert (list(benchmark.items[0].choices), benchmark.items[0].right) == (doc["choices"], (doc["gold"],))


def test_race_asks_the_last_question_after_the_solved_ones(tmp_path: Path) -> None:
    options = ["a cat", "a dog", "an owl", "a cow"]
    asked = [("It is  _  .", "B"), ("What is it?", "D"), ("Who came?", "A")]
    listed = [{"question": question, "options": options, "answer": answer} for question, answer in asked]
    doc = {"article": "Night.", "problems": str(listed)}
    written(tmp_path / "listed", "race/high/test-0.jsonl", [doc])
    written(tmp_path / "single", "race/high/test-0.jsonl", [{"article": "Night.", **one} for one in listed])
    theirs = functions("race/preprocess_race.py")

    for root in ("listed", "single"):
        benchmark = build("race_h", tmp_path / root)
        assert prompts(benchmark) == [theirs.doc_to_text(doc)]
        assert list(benchmark.items[0].choices) == theirs.doc_to_choice(doc)
        assert benchmark.items[0].right == (theirs.doc_to_target(doc),)


def test_c_eval_has_header_and_examples_of_its_subject(tmp_path: Path) -> None:
    rows = [{"id": k, "question": f"Q{k} ", "A": "w", "B": "x", "C": "y", "D": "z", "answer": "C"} for k in range(7)]
    for subject, examples in (("law", rows[1:6]), ("physics", rows[2:7])):
        written(tmp_path, f"c_eval/{subject}/val-0.jsonl", rows[:1])
        written(tmp_path, f"c_eval/{subject}/dev-0.jsonl", examples)
    (tmp_path / "c_eval" / "subject_mapping.json").write_text(json.dumps({"law": ["Law", "\u6cd5\u5b66", "Social Science"]}), "utf-8")
    theirs, law = task("ceval/_default_ceval_yaml"), task("ceval/ceval-valid_law.yaml")

    benchmark = build("c_eval", tmp_path)

    shown = "".join(f"{rendered(theirs['doc_to_text'], row)} C\n\n" for row in rows[1:6])
    assert prompts(benchmark)[0] == law["description"] + shown + rendered(theirs["doc_to_text"], rows[0])
    assert "Q1" not in prompts(benchmark)[1], "another subject has examples of its own"
    assert list(benchmark.items[0].choices) == theirs["doc_to_choice"]


WORDS = ["the", "A", "12", "12.0", "7", "king", "king's", "a-b", "$5", "of", "...", "\u00e9t\u00e9", "3,000"]


def phrase(words: list[str], draw: random.Random, least: int = 0) -> str:
    return " ".join(draw.choices(words, k=draw.randint(least, 5)))


def test_drop_f1_is_the_harness() -> None:
    theirs, draw = functions("drop/utils.py"), random.Random(0)
    for _ in range(2000):
        said, spans = phrase(WORDS, draw), tuple(phrase(WORDS, draw, 1) for _ in range(draw.randint(1, 3)))
        expected = theirs.process_results({"answers": [spans, ("zebra",)]}, [said])["f1"]
        assert drop_f1(said, f"{SPANS.join(spans)}\nzebra") == pytest.approx(expected, abs=1e-9), (said, spans)


TYDI = ["the", "An", "king", "king,", "\u00ab12\u00bb", "\u0627\u0644\u0628\u064a\u062a", "\u0431\u044b\u043b", "...", "\ub2f5"]


@pytest.mark.parametrize(("language", "ours"), [("en", any_f1_english), ("ar", any_f1_arabic), ("ru", any_f1_words)])
def test_tydi_f1_is_the_harness(language: str, ours: Callable[[str, str], float]) -> None:
    theirs, draw = functions("tydiqa/utils.py", "datasets"), random.Random(0)
    for _ in range(500):
        said, right = phrase(TYDI, draw), phrase(TYDI, draw)
        assert ours(said, right) == pytest.approx(theirs.f1_score(said, right, language), abs=1e-12), (said, right)


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no {DATA}")
def test_gsm8k_replies_are_right_where_the_harness_says_so() -> None:
    extraction = pytest.importorskip("lm_eval.filters.extraction")
    (strict,) = [one["filter"][0] for one in task("gsm8k/gsm8k.yaml")["filter_list"] if one["name"] == "strict-match"]
    rows = [row for _, row in lines(DATA / "gsm8k" / "test.jsonl.gz")]
    replies = [random.Random(k).choice([row, rows[k - 1]])["answer"] + "\n\nQuestion: 7 and 8?" for k, row in enumerate(rows)]

    found = extraction.RegexFilter(regex_pattern=strict["regex_pattern"]).apply([[reply] for reply in replies], [{}] * len(replies))

    for row, reply, (number,) in zip(rows, replies, found, strict=True):
        right = final_number(row["answer"])
        assert same_number(final_number(reply), right) == float(number.replace(",", "").rstrip(".") == right)
