"""A user's own benchmark: one table says everything, near misses score nothing, and what is wrong is one line with its place."""

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from modelyard.complaint import first_error
from modelyard.evals.benchmark import Benchmark
from modelyard.evals.gather import GatherConfig, defined, load, run
from modelyard.evals.methods import ask
from modelyard.evals.sets import SetsConfig, build
from modelyard.evals.summary import summarise
from modelyard.evals.tools import Tools
from modelyard.formats.questions import read_questions
from modelyard.model.asked import Decoding, Likelihood, Sampled
from modelyard.progress import silent

CAPITALS = [
    {"land": "France", "capital": "Paris", "continent": "Europe"},
    {"land": "Japan", "capital": ["Tokyo", "Tōkyō"], "continent": "Asia"},
    {"land": "Peru", "capital": "Lima", "continent": "America"},
]
OPEN = {
    "name": "capitals",
    "file": "capitals.jsonl",
    "prompt": "The capital of {country} is",
    "fields": {"country": "land"},
    "answer": "capital",
    "group": "continent",
    "stops": ["."],
}


def write(path: Path, rows: Sequence[object]) -> Path:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def sets(*tables: Any, **more: Any) -> SetsConfig:
    return SetsConfig.model_validate({"seed": 0, "benchmarks": list(tables), **more})


def made(root: Path, table: dict[str, Any]) -> Benchmark:
    config = sets(table)
    return build(config.benchmarks[0], config, [], [str(root)])


class Saying:
    """A model that says what it is told to, prompt by prompt, and prefers the first letter of the alphabet."""

    name, weights = "x", "w"

    def __init__(self, said: Sequence[str] = ()) -> None:
        self.said = said

    def complete(self, prompts: Sequence[str], decoding: Decoding) -> list[Sampled]:
        assert decoding.stops == (".",)
        return [Sampled([], [], [], text, False) for text in self.said]

    def likelihoods(self, questions: Sequence[Sequence[tuple[str, str]]]) -> list[list[Likelihood]]:
        return [[Likelihood([-float(ord(new.strip()[0]))], 0.0) for _, new in question] for question in questions]


@pytest.mark.parametrize(
    ("said", "scores"),
    [
        ((" Paris", " Tōkyō", " Lima"), [1, 1, 1]),
        ((" Parish", " Tokyo or Kyoto", ""), [0, 0, 0]),
        (("the PARIS!", "Tokyo", "Quito"), [1, 1, 0]),
    ],
)
def test_own_open_answers_are_compared_with_every_right_one(tmp_path: Path, said: Sequence[str], scores: list[float]) -> None:
    write(tmp_path / "capitals.jsonl", CAPITALS)
    benchmark = made(tmp_path, OPEN)

    records = ask(Saying(said), benchmark, Tools())  # type: ignore[arg-type]

    assert records[1].prompt == "The capital of Japan is"
    assert [record.score for record in records] == scores
    found = summarise(benchmark, records)
    assert list(found) == ["any_exact", "parsed"]
    assert found["any_exact"].value == pytest.approx(sum(scores) / 3)
    assert [record.group for record in records] == ["Europe", "Asia", "America"]


@pytest.mark.parametrize("answers", [("b", "a", "a"), (1, 0, 0), ("B", "A", "A"), ([1], [0], [0, 1]), ("1", "0", "0")])
def test_own_choices_may_be_given_by_text_place_or_letter(tmp_path: Path, answers: Sequence[object]) -> None:
    rows = [{"question": f"{n}?", "options": ["a", "b"], "answer": answer} for n, answer in enumerate(answers)]
    write(tmp_path / "choice.jsonl.gz", rows)
    benchmark = made(tmp_path, {"name": "mine", "file": "choice.jsonl.gz", "choices": "options"})

    records = ask(Saying(), benchmark, Tools())  # type: ignore[arg-type]

    assert [record.score for record in records] == [0.0, 1.0, 1.0]
    assert benchmark.items[0].right == (1,)


def test_own_csv_with_examples_and_an_id_column(tmp_path: Path) -> None:
    (tmp_path / "q.csv").write_text("key,question,answer\nq-a,Who?,me\nq-b,Where?,here\n")
    write(tmp_path / "shots.jsonl", [{"key": "s", "question": "What?", "answer": "that"}])
    table = {"name": "own", "file": "q.csv", "id": "key", "prompt": "Q: {question}\nA:", "examples": "shots.jsonl", "shots": 1}

    benchmark = made(tmp_path, table)

    assert [item.id for item in benchmark.items] == ["q-a", "q-b"]
    assert benchmark.prompt_of(benchmark.items[1]) == "Q: What?\nA: that\n\nQ: Where?\nA:"
    assert benchmark.question_of(benchmark.items[1]) == "Where?"
    with pytest.raises(ValueError, match=r"2 shots: .*shots.jsonl has 1 examples"):
        made(tmp_path, {**table, "shots": 2})


@pytest.mark.parametrize(
    ("row", "more", "message"),
    [
        ({"question": "q"}, {}, r"own.jsonl:2: no 'answer'"),
        ({"question": "q", "answer": None}, {}, r"own.jsonl:2: answer: no answer"),
        ({"question": "q", "answer": " "}, {}, r"own.jsonl:2: answer: no answer"),
        ({"question": "q", "answer": 3, "c": ["a", "b"]}, {"choices": "c"}, r"own.jsonl:2: answer: 3 is no option"),
        ({"question": "q", "answer": -1, "c": ["a", "b"]}, {"choices": "c"}, r"own.jsonl:2: answer: -1 is no option"),
        ({"question": "q", "answer": "C", "c": ["a", "b"]}, {"choices": "c"}, r"own.jsonl:2: answer: 'C' is no option"),
        ({"question": "q", "answer": [], "c": ["a", "b"]}, {"choices": "c"}, r"own.jsonl:2: answer: no right option"),
        ({"question": "q", "answer": 0, "c": ["a", ""]}, {"choices": "c"}, r"own.jsonl:2: c: not a list of at least two options"),
        ({"question": "q", "answer": 0, "c": "ab"}, {"choices": "c"}, r"own.jsonl:2: c: not a list of at least two options"),
        ({"question": "q", "answer": "a", "key": "1"}, {"id": "key"}, r"own.jsonl: two items have the id '1'"),
        ({"question": "q", "answer": "a"}, {"sha256": "0" * 64}, r"own.jsonl has changed: sha256"),
        ({"question": "q", "answer": "a"}, {"file": "nowhere.jsonl"}, r"benchmark own: .*nowhere.jsonl: no such file"),
        ({"question": "q", "answer": "a"}, {"samples": 3}, r"benchmark own: several samples at temperature 0"),
    ],
)
def test_own_bad_rows_are_one_line_with_their_place(tmp_path: Path, row: dict[str, Any], more: dict[str, Any], message: str) -> None:
    good = {"question": "one", "answer": "a", "c": ["a", "b"], "key": "1"}
    write(tmp_path / "own.jsonl", [good, row])

    with pytest.raises(ValueError, match=message) as error:
        made(tmp_path, {"name": "own", "file": "own.jsonl", **more})

    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ([{"name": "mmlu", "file": "x.jsonl"}], "benchmarks: mmlu: is a benchmark of the catalog"),
        (["capitals"], "benchmarks: capitals: not known, and it has no file"),
        ([{"name": "mmlu", "prompt": "{q}"}], "benchmarks: mmlu: prompt: describes the rows of a file, and there is no file"),
        ([{"name": "a", "file": "x", "scorer": "exactly"}], "benchmarks: a: scorer 'exactly': is none of"),
        ([{"name": "a", "file": "x", "choices": "c", "scorer": "exact"}], "benchmarks: a: scorer 'exact': with choices"),
        ([{"name": "a", "file": "x", "parser": "word"}], "benchmarks: a: parser 'word': is none of"),
        ([{"name": "a", "file": "x", "prompt": "{}"}], "benchmarks: a: prompt '{}': needs fields by name"),
        (["arc_easy", "arc-easy"], "config: benchmarks: 'arc_easy' is named twice"),
        ([], "benchmarks: List should have at least 1 item"),
        (
            [{"name": "gsm8k", "limit": 0}],
            "benchmarks: gsm8k: limit: limit must be at least 1 and whole, or a share between 0 and 1, got 0",
        ),
        ([{"name": "gsm8k", "shot": 1}], "benchmarks: gsm8k: shot: unknown key"),
        ([{"shots": 1}], "benchmarks.0.name: Field required"),
    ],
)
def test_sets_that_cannot_be_are_one_line(tables: list[Any], message: str) -> None:
    with pytest.raises(ValidationError) as error:
        sets(*tables)

    assert first_error(error.value).startswith(message)


def test_sets_names_tables_and_a_table_of_tables_are_the_same() -> None:
    listed = sets("last_word", {"name": "mmlu", "shots": 2})
    keyed = SetsConfig.model_validate({"seed": 0, "benchmarks": {"last_word": {}, "mmlu": {"shots": 2}}})

    assert listed == keyed
    assert listed.names == ["last_word", "mmlu"]


def test_gather_artifact_is_defined_by_what_its_files_hold_and_not_by_where_they_lie(tmp_path: Path) -> None:
    held_out, here, there = (tmp_path / name for name in ("held_out", "here", "there"))
    for directory in (held_out / "benchmarks", here, there):
        directory.mkdir(parents=True)
    write(held_out / "benchmarks" / "last_word.jsonl", [{"id": "w", "context": "the king of the", "word": "castle"}])
    for directory in (here, there):
        write(directory / "capitals.jsonl", CAPITALS)
    config = GatherConfig.model_validate({"seed": 0, "benchmarks": ["last_word", OPEN], "context": 64})

    first, same = (defined(config, [held_out], [str(directory)]) for directory in (here, there))
    write(there / "capitals.jsonl", [*CAPITALS[:2], {**CAPITALS[2], "capital": "Quito"}])
    other = defined(config, [held_out], [str(there)])
    metrics = run(config, {"held_out": held_out}, tmp_path, silent, [str(here)])

    assert first == same
    assert [name for name in first.contents if first.contents[name] != other.contents[name]] == ["capitals"]
    assert metrics["benchmarks/all/items"] == 4
    assert [benchmark.name for benchmark in load(tmp_path)] == ["last_word", "capitals"]
    questions = read_questions(tmp_path)
    expected = [(f"capitals/{i}", f"The capital of {row['land']} is") for i, row in enumerate(CAPITALS)]  # a country alone asks nothing
    assert [(one.id, one.text) for one in questions["capitals"]] == expected
    assert questions["last_word"][0].text == "the king of the"
    with pytest.raises(
        ValueError, match=r"evals.benchmarks.capitals: max_new_tokens 32 leaves no room for a prompt in a model of 24 tokens"
    ):
        defined(config.model_copy(update={"context": 24}), [held_out], [str(here)])
