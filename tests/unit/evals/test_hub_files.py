"""Sets as the Hub publishes them load without a converter; rows that cannot be asked are one line that names them."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modelyard.evals.benchmark import Benchmark
from modelyard.evals.catalog import BENCHMARKS, build, corpus, images
from modelyard.evals.catalog.more import exam_of
from modelyard.evals.ways import by_letter
from tests.unit.evals import hub_sets
from tests.unit.evals.hub_sets import DATE, EXPECTED, FILES

OUR_OWN = {*corpus.BENCHMARKS, *images.BENCHMARKS, "perplexity"}
"""What a line's own artifacts carry, and texts of one's own: no set of the Hub."""


def test_every_public_set_of_the_catalog_is_in_the_table() -> None:
    assert set(FILES) == set(BENCHMARKS) - OUR_OWN


@pytest.mark.parametrize("ending", [".parquet", ".jsonl"])
@pytest.mark.parametrize("name", FILES)
def test_files_of_the_hub_are_read_as_published(name: str, ending: str, tmp_path: Path) -> None:
    hub_sets.write(tmp_path, name, ending)

    benchmark = build(name, tmp_path)

    first = benchmark.items[0]
    asked = benchmark.prompt_of(first)
    if name in EXPECTED:
        prompt, target, right = EXPECTED[name]
        assert asked.endswith(prompt)
        assert (first.target, first.right) == (target, right)
    shown = len(asked) > len(benchmark.prompt_of(first.model_copy(update={"group": "nobody's"})))
    assert shown == any(benchmark.prefaces.values())


@pytest.mark.parametrize("name", FILES)
def test_benchmark_is_the_same_from_parquet_and_json_lines(name: str, tmp_path: Path) -> None:
    for ending in (".parquet", ".jsonl"):
        hub_sets.write(tmp_path / ending, name, ending)

    assert build(name, tmp_path / ".parquet").id == build(name, tmp_path / ".jsonl").id


def test_bbh_shows_the_same_from_either_file_of_examples_and_names_what_is_missing(tmp_path: Path) -> None:
    hub_sets.write(tmp_path, "bbh", ".parquet")
    prompts = tmp_path / "bbh" / "cot-prompts"
    expected = build("bbh_navigate", tmp_path).prefaces
    samples = [{"input": "True is", "target": "So the answer is True."}]
    (tmp_path / "bbh" / "cot_fewshot").mkdir()
    told = json.dumps({"description": "Work it out.\n\n", "fewshot_config": {"samples": samples}})
    (tmp_path / "bbh" / "cot_fewshot" / "navigate.yaml").write_text(told)
    prompts.rename(tmp_path / "elsewhere")

    assert build("bbh_navigate", tmp_path).prefaces == expected
    assert build("bbh_navigate", tmp_path, shots=0).prefaces == {"navigate": "Work it out.\n\n"}
    with pytest.raises(ValueError, match=r"none of bbh/cot-prompts/boolean_expressions\.txt, bbh/cot_fewshot/boolean_expressions\.yaml"):
        build("bbh", tmp_path)
    (tmp_path / "bbh" / "cot_fewshot" / "navigate.yaml").write_text("description: none")
    with pytest.raises(ValueError, match=r"navigate\.yaml: no description and fewshot_config\.samples"):
        build("bbh_navigate", tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"examples": [1]}', "navigate.json: examples: not a list of objects"),
        ('{"rows": []}', "navigate.json: no 'examples'"),
        ('{"examples": [{"input": "x"}]}', "navigate.json: example 0: no 'target'"),
    ],
)
def test_bbh_file_that_is_none_is_named(content: str, message: str, tmp_path: Path) -> None:
    hub_sets.write(tmp_path, "bbh", ".parquet")
    (tmp_path / "bbh" / "navigate.json").write_text(content)

    with pytest.raises(ValueError, match="navigate") as error:
        build("bbh", tmp_path)
    assert message in str(error.value)


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path.with_name(path.name + ".parquet"))


MGSM = {
    "de": [("Frage: Wie viel ist 1 + 1?", "Schritt-f\u00fcr-Schritt-Antwort: 1 + 1 = 2. Die Antwort ist 2.", 2)],
    "ja": [("\u554f\u984c\uff1a1 + 1?", "\u30b9\u30c6\u30c3\u30d7\uff1a2\u3002\u7b54\u3048\u306f2\u3067\u3059\u3002", 2)],
}
MGSM_ASKED = {"de": [("Und 2 + 2?", "4"), ("Was kostet alles?", "2,125")], "ja": [("2 + 2?", "4")]}


def write_mgsm(root: Path, layout: str) -> None:
    for code, examples in MGSM.items():
        asked = MGSM_ASKED[code]
        if layout == "ours":
            for name, rows in (("fewshot", [one[:2] for one in examples]), ("samples", asked)):
                text = "".join(json.dumps({"question": question, "answer": answer}) + "\n" for question, answer in rows)
                (root / "mgsm").mkdir(exist_ok=True)
                (root / "mgsm" / f"{name}_{code}.jsonl").write_text(text)
        elif layout == "tsv":
            (root / "mgsm").mkdir(exist_ok=True)
            (root / "mgsm" / f"mgsm_{code}.tsv").write_text("".join(f"{question}\t{answer}\n" for question, answer in asked), "utf-8")
        else:
            blank = {"answer": None, "equation_solution": None}
            solved = [{"question": q, "answer": a, "answer_number": n, "equation_solution": ""} for q, a, n in examples]
            write(root / f"mgsm/{code}/train-00000-of-00001", solved)
            test = [{"question": q, **blank, "answer_number": int(a.replace(",", ""))} for q, a in asked]
            write(root / f"mgsm/{code}/test/0000", test)
    if layout == "tsv":
        examples = {code: {str(k): {"q": q, "a": a} for k, (q, a, _) in enumerate(some, 1)} for code, some in MGSM.items()}
        assignment = f"raise SystemExit('this was run')\nMGSM_EXEMPLARS = {examples!r}\n"
        (root / "mgsm" / "exemplars.py").write_text(assignment, "utf-8")


@pytest.mark.parametrize("layout", ["ours", "tsv", "parquet"])
def test_mgsm_is_the_same_whichever_way_it_is_published(layout: str, tmp_path: Path) -> None:
    write_mgsm(tmp_path, layout)

    german, japanese = build("mgsm_de", tmp_path), build("mgsm_ja", tmp_path, shots=0)

    question, answer, _ = MGSM["de"][0]
    assert german.prompt_of(german.items[0]) == f"{question}\n{answer}\n\nFrage: Und 2 + 2?\nSchritt-f\u00fcr-Schritt-Antwort:"
    assert japanese.prompt_of(japanese.items[0]) == "\u554f\u984c\uff1a 2 + 2?\n\u30b9\u30c6\u30c3\u30d7\uff1a"
    assert german.decoding.stops == ("Frage:",)
    replies = ["Die Antwort ist 4.", "Die Antwort ist 2.125."]
    assert [german.score(german.parse(said), item) for said, item in zip(replies, german.items, strict=True)] == [1.0, 1.0]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("mgsm_de.tsv", "Eins?\t1\nZwei? 2\n", "mgsm_de.tsv: line 2: not a question, a tab and a number"),
        ("mgsm_de.tsv", "", "mgsm_de.tsv: line 1: not a question"),
        ("exemplars.py", "MGSM_EXEMPLARS = open('x')", "exemplars.py: no MGSM_EXEMPLARS with questions and answers in 'de'"),
        ("exemplars.py", "MGSM_EXEMPLARS = {'fr': {}}", "no MGSM_EXEMPLARS with questions and answers in 'de'"),
        ("exemplars.py", "MGSM_EXEMPLARS = {'de': {}}", "no MGSM_EXEMPLARS with questions and answers in 'de'"),
    ],
)
def test_mgsm_file_that_is_none_is_named(name: str, content: str, message: str, tmp_path: Path) -> None:
    write_mgsm(tmp_path, "tsv")
    (tmp_path / "mgsm" / name).write_text(content)

    with pytest.raises(ValueError, match="mgsm") as error:
        build("mgsm_de", tmp_path)
    assert message in str(error.value)


THREE = {"number": "3", "date": DATE, "spans": []}


def drop(root: Path, **answers: Any) -> Benchmark:
    (root / "drop").mkdir(exist_ok=True)
    (root / "drop" / "samples.jsonl").write_text(json.dumps({"passage": "P.", "question": "How many?", **answers}) + "\n")
    return build("drop", root, shots=0)


def test_drop_answer_of_any_validator_is_right_and_flattened_answers_are_refused(tmp_path: Path) -> None:
    made = drop(tmp_path, answer={**THREE, "number": "4"}, validated_answers=[THREE, THREE])

    assert [made.score(said, made.items[0]) for said in ("3", "4", "5")] == [1.0, 1.0, 0.0]
    with pytest.raises(ValueError, match=r"samples\.jsonl:1: answers_spans: .* take EleutherAI/drop"):
        drop(tmp_path, answers_spans={"spans": ["3", "3"], "types": ["number", "number"]})


@pytest.mark.parametrize("answers", [{"answer": THREE, "validated_answers": "3"}, {"answer": {**THREE, "number": "", "spans": "3"}}])
def test_drop_answers_of_no_known_form_are_named_with_their_line(answers: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"samples\.jsonl:1: answers: of no known form"):
        drop(tmp_path, **answers)


def test_drop_example_with_flattened_answers_is_shown(tmp_path: Path) -> None:
    drop(tmp_path, answer=THREE)
    for spans in ({"spans": ["2"], "types": ["number"]}, ["2"]):
        (tmp_path / "drop" / "fewshot.jsonl").write_text(json.dumps({"passage": "Q.", "question": "Two?", "answers_spans": spans}))
        assert build("drop", tmp_path, shots=1).prefaces == {"": "Q. Two?2\n\n"}
    (tmp_path / "drop" / "fewshot.jsonl").write_text(json.dumps({"passage": "Q.", "question": "Two?", "answers_spans": "2"}))
    with pytest.raises(ValueError, match=r"fewshot\.jsonl:1: answers: of no known form"):
        build("drop", tmp_path, shots=1)


def test_questions_in_wordings_of_their_own_have_no_examples(tmp_path: Path) -> None:
    hub_sets.write(tmp_path, "agieval_en", ".parquet")

    with pytest.raises(ValueError, match="agieval_en has no examples to show"):
        build("agieval_en", tmp_path, shots=2)


def agieval(root: Path) -> Benchmark:
    """Three exams as they are published: of letters, with several right ones, and of answers in words."""
    query = "Q: What flies? Answer Choices: (A)a cow (B)an owl\nA: Among A through B, the answer is"
    one = {"query": query, "choices": ["(A)a cow", "(B)an owl"], "gold": [1]}
    write(root / "agieval_zh/agieval-lsat-ar/data/test-00000-of-00001", [one, one])
    write(root / "agieval_zh/agieval-jec-qa-kd/data/test-00000-of-00001", [one, {**one, "gold": [0, 1]}])
    write(root / "agieval_zh/agieval-gaokao-mathcloze/data/test-00000-of-00001", [{"query": "1+1?", "answer": "2"}])
    return build("agieval_zh", root)


def test_agieval_is_grouped_by_exam_and_answers_in_words_are_left_out_by_count(tmp_path: Path) -> None:
    made = agieval(tmp_path)

    assert [item.group for item in made.items] == ["agieval-jec-qa-kd"] * 2 + ["agieval-lsat-ar"] * 2
    assert made.left_out == {"an answer in words, and no options": 1}
    assert {item.group for item in build("agieval_zh", tmp_path, limit=2).items} == {"agieval-jec-qa-kd", "agieval-lsat-ar"}


def test_agieval_by_letter_is_asked_in_its_own_words_without_items_of_several_letters(tmp_path: Path) -> None:
    made = by_letter(agieval(tmp_path))

    assert [item.target for item in made.items] == ["B", "B", "B"]
    assert made.items[0].fields["asked"].count("an owl") == 1
    assert made.prompt_of(made.items[0]).endswith("\nA: Among A through B, the answer is")
    assert made.left_out["several right options, so no letter is the answer"] == 1


@pytest.mark.parametrize(
    ("file", "exam"),
    [
        ("agieval-sat-math/data/test-00000-of-00001.parquet: row 3", "agieval-sat-math"),
        ("sat-math/test.jsonl:3", "sat-math"),
        ("test-sat-math.jsonl.gz:3", "sat-math"),
        ("data/test-00000-of-00001.parquet: row 3", ""),
        ("samples.jsonl:3", ""),
    ],
)
def test_exam_of_a_row_is_its_folder_or_its_files_name(file: str, exam: str) -> None:
    assert exam_of(f"/d/agieval_en/{file}", Path("/d/agieval_en")) == exam


def test_full_mbpp_shows_the_papers_three_tasks(tmp_path: Path) -> None:
    rows = [
        {
            "task_id": k,
            "text": f"Task {k}.",
            "code": f"def f{k}():\n    return {k}",
            "test_list": [f"assert f{k}() == {k}"],
            "test_setup_code": "",
        }
        for k in range(1, 13)
    ]
    write(tmp_path / "mbpp/full/prompt-00000-of-00001", rows[:10])
    write(tmp_path / "mbpp/full/test-00000-of-00001", rows[10:])

    benchmark = build("mbpp_full", tmp_path)

    assert [item.id for item in benchmark.items] == ["mbpp/11", "mbpp/12"]
    assert [f"Task {k}." in benchmark.prompt_of(benchmark.items[0]) for k in (1, 2, 3, 4, 5, 11)] == [False, True, True, True, False, True]


def test_examples_of_short_answers_are_of_the_items_language(tmp_path: Path) -> None:
    def row(language: str, k: int) -> dict[str, Any]:
        return {"id": f"{language}-{k}", "context": f"c{k}", "question": f"q{k}", "answers": {"text": [f"a{k}"], "answer_start": [0]}}

    write(tmp_path / "tydi_qa/secondary_task/train-0", [row("english", 1), row("korean", 2), row("english", 3)])
    write(tmp_path / "tydi_qa/secondary_task/validation-0", [row("korean", 4), row("english", 5)])

    benchmark = build("tydi_qa", tmp_path)

    assert [[f"c{k}" in benchmark.prompt_of(item) for k in (1, 2, 3)] for item in benchmark.items] == [
        [False, True, False],
        [True, False, False],
    ]
    assert benchmark.score("An a5", benchmark.items[1]) == 1.0
    assert benchmark.score("an a4", benchmark.items[0]) == pytest.approx(2 / 3), "articles are English's own"


GOOD = {"question": "Which?", "choices": ["a", "b"], "answer": 1, "subject": "law"}


@pytest.mark.parametrize(
    ("change", "right"),
    [({"answer": "B"}, 1), ({"answer": "1"}, 1), ({"answer": "a"}, 0), ({"choices": ["x", "1"], "answer": "1"}, 1)],
)
def test_answer_as_letter_place_or_text_is_understood(change: dict[str, Any], right: int, tmp_path: Path) -> None:
    (tmp_path / "mmlu").mkdir()
    for name in ("fewshot", "test"):
        (tmp_path / "mmlu" / f"{name}.jsonl").write_text(json.dumps({**GOOD, **change}) + "\n")

    assert build("mmlu", tmp_path, shots=1).items[0].right == (right,)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answer": -1}, "answer: -1 is no option"),
        ({"answer": 2}, "answer: 2 is no option"),
        ({"answer": None}, "answer: None is no option"),
        ({"answer": []}, "answer: no right option"),
        ({"question": None}, "no 'question'"),
        ({"choices": ["a", ""]}, "choices: not a list of at least two texts"),
        ({"choices": "ab"}, "choices: not a list of at least two texts"),
        ({"choices": [str(k) for k in range(14)]}, "choices: 14 options, and there are letters for 13"),
    ],
)
def test_row_that_cannot_be_asked_is_named_with_its_line(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    (tmp_path / "mmlu").mkdir()
    (tmp_path / "mmlu" / "fewshot.jsonl").write_text(json.dumps(GOOD) + "\n")
    (tmp_path / "mmlu" / "test.jsonl").write_text(json.dumps(GOOD) + "\n" + json.dumps({**GOOD, **change}) + "\n")

    with pytest.raises(ValueError, match=r"test\.jsonl:2: ") as error:
        build("mmlu", tmp_path, shots=0)
    assert message in str(error.value)


def test_mc2_of_one_right_answer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "truthfulqa").mkdir()
    (tmp_path / "truthfulqa" / "samples.jsonl").write_text(json.dumps(GOOD) + "\n")

    with pytest.raises(ValueError, match="one right answer a question, so no MC2"):
        build("truthfulqa_mc2", tmp_path)


def test_truthfulqa_by_letter_shows_its_own_example_where_the_six_questions_cannot_be(tmp_path: Path) -> None:
    hub_sets.write(tmp_path, "truthfulqa_mc1", ".parquet")
    example = {"question": "Which flies?", "choices": ["cow", "owl"], "answer": 1}
    (tmp_path / "truthfulqa" / "fewshot.jsonl").write_text(json.dumps(example) + "\n")
    without = by_letter(build("truthfulqa_mc1", tmp_path))
    task = {"doc_to_text": "{% set prompt_qa = 'Q: Six?\nA: Yes.'%}{{prompt_qa}}"}
    (tmp_path / "truthfulqa" / "truthfulqa_mc1.yaml").write_text(json.dumps(task))

    plain = build("truthfulqa_mc1", tmp_path)

    assert plain.prompt_of(plain.items[0]) == "Q: Six?\nA: Yes.\n\nQ: Is it?\nA:"
    assert by_letter(plain).prefaces == without.prefaces
    assert "Which flies?" in by_letter(plain).prompt_of(by_letter(plain).items[0])
