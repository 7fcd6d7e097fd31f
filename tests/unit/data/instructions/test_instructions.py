"""Demonstrations by a stronger model, which is a scripted chat server or a real model directory: what stays, what is left out and why, and that a
killed run asks for nothing twice."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modelyard.data.contamination import check
from modelyard.data.contamination.overlap import ContaminationConfig
from modelyard.data.corpus.document import DataError
from modelyard.data.instructions import make
from modelyard.data.instructions.config import TaughtConfig
from modelyard.data.instructions.teacher import JOURNAL
from modelyard.data.instructions.teacher import Teacher as Asked
from modelyard.execution import ExecutionConfig
from modelyard.formats import instructions
from modelyard.formats.contamination import read_report
from modelyard.formats.feedback import (
    COMPARISONS,
    DEMONSTRATIONS,
    PROMPTS,
    THUMBS,
    Comparison,
    Demonstration,
    Message,
    PromptRecord,
    records,
    write,
)
from modelyard.formats.flags import FLAGS, Flag
from modelyard.formats.questions import Question, write_questions
from modelyard.formats.teacher import Teacher
from modelyard.model.asked import Decoding
from modelyard.model.subject import Subject
from modelyard.progress import silent
from modelyard.store.file_hash import sha256_file
from tests.unit import small_model
from tests.unit.completions_server import scripted

NOUNS = ("rivers", "clocks", "bread", "violins", "glaciers", "moths", "tides", "chess", "copper")
TOPICS = [" ".join(f"{noun}{n}" for n in range(12)) for noun in NOUNS]
"""Each has so many words of its own that the same question about another one is no near duplicate."""
EXAM = "Which of the planets of our solar system has the shortest day, and about how many hours does that day last there?"
HELD_OUT = "Explain in two sentences why the leaves of trees turn red in autumn"
PROPOSED = {
    "Name three {topic} that a child should know about": "stays",
    "Explain  the history of {topic} to my grandmother, please": "stays",
    "Draw a picture that shows {topic} in the rain": "excluded_word",
    "Why?": "short_instruction",
    HELD_OUT + " again": "like_held_out",
    "Write a poem about the sea number 3": "near_duplicate",
    "Which one would you call the loudest among {topic}": "refusal",
    "What should nobody ever say when it comes to {topic}": "empty_answer",
    "Count upwards and never stop on behalf of {topic}": "cut_answer",
    "Sum up all that was ever written of {topic}": "long_answer",
    "Tell me a riddle whose subject happens to be {topic}, from the exam": "contaminated",
}
"""What the teacher proposes about a topic, and what becomes of it."""


def words(n: int) -> str:
    return " ".join(f"word{i}" for i in range(n))


ANSWERS = {
    "refusal": ("I'm sorry, but I can't help with that.", "stop"),
    "empty_answer": ("  \n", "stop"),
    "cut_answer": ("one two three four", "length"),
    "long_answer": (words(60), "stop"),
    "contaminated": (f"Here it is: {EXAM}", "stop"),
}


class Script:
    """A teacher that proposes all of PROPOSED about one topic a request, in the order of topics; mail addresses are in its answers."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.dies_after: int | None = None

    def __call__(self, said: str) -> tuple[str, str] | None:
        if self.dies_after is not None and len(self.asked) >= self.dies_after:
            return None
        self.asked.append(said)
        if said.startswith("MAKE"):
            topic = TOPICS[sum(map(ord, said)) % len(TOPICS)]  # a function of what is shown
            lines = [f"{place}. {text.format(topic=topic)}" for place, text in enumerate(PROPOSED, 9)]
            return "Here you are:\n\n" + "\n".join(lines), "stop"
        for text, fate in PROPOSED.items():
            if re.fullmatch(re.escape(text).replace(re.escape("{topic}"), ".*"), said) and fate in ANSWERS:
                return ANSWERS[fate]
        return f"About {said.lower()}: ask somebody@example.org.", "stop"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[Script]:
    made = Script()
    monkeypatch.setattr("modelyard.model.endpoint.WORKERS", 1)
    with scripted(made) as url:
        monkeypatch.setenv("MODELYARD_TEACHER", url)
        yield made


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("world")
    paths = {name: root / name for name in ("feedback", "benchmarks")}
    for path in paths.values():
        path.mkdir()
    said = [f"Write a poem about the sea number {n}" for n in range(3)]
    said += [f"{verb} the {thing} for my neighbour" for verb in ("Praise", "Describe", "Sell") for thing in ("house", "garden", "old car")]
    shown = [
        Demonstration(id=f"p{n}", split="train", source="people", prompt=(Message(role="user", content=text),), completion="So be it.")
        for n, text in enumerate(said)
    ]
    held_out = (Message(role="user", content=HELD_OUT),)
    shown.append(Demonstration(id="h", split="validation", source="people", prompt=held_out, completion="Because of sugar."))
    shown.append(Demonstration(id="t", split="train", source="people", prompt="the film", completion=" was good"))
    compared = Comparison(
        id="c", split="test", source="people", prompt=(Message(role="user", content="Why me?"),), completions=("a", "b"), ranks=(1, 2)
    )
    write(paths["feedback"] / DEMONSTRATIONS, shown)
    write(paths["feedback"] / COMPARISONS, [compared])
    write(paths["feedback"] / THUMBS, [])
    write(paths["feedback"] / PROMPTS, [PromptRecord(id="q", split="train", source="labeler_plain", prompt=held_out)])
    write_questions(paths["benchmarks"], "exam", [Question(id="1", text=EXAM)])
    return paths


def test_prompts_of_flags_that_are_measured_on_are_held_out(inputs: dict[str, Path], tmp_path: Path) -> None:
    feedback = tmp_path / "feedback"
    shutil.copytree(inputs["feedback"], feedback)
    fields = {"source": "app", "completion": "a", "factual": False}
    write(feedback / FLAGS, [Flag(id=split, split=split, prompt=f"Who is {split}?", **fields) for split in ("reward", "gold", "test")])
    assert set(make.of_people(feedback).held_out) - set(make.of_people(inputs["feedback"]).held_out) == {"Who is test?"}


def config(**changes: Any) -> TaughtConfig:
    settings: dict[str, Any] = {
        "seed": 1,
        "teacher": {"kind": "endpoint", "model": "big", "name": "Big-1", "licence": "Apache-2.0"},
        "number": 10,
        "requests": 8,
        "per_request": 11,
        "at_once": 2,
        "shots": 5,
        "request": "MAKE {count} like\n{examples}",
        "proposing": {"temperature": 0.7, "max_new_tokens": 64},
        "answering": {"temperature": 0.0, "max_new_tokens": 16},
        "answer_words": {"least": 1, "most": 40},
        "excluded": ["picture"],
        "keep_demonstrations": True,
        "pii": {"kinds": ["email"], "region": "US"},
        "contamination": {"seed": 0, "substrings": 3, "length": 50, "ngram": 13},
    }
    return TaughtConfig.model_validate(settings | changes)


def made(settings: TaughtConfig, inputs: dict[str, Path], root: Path) -> dict[str, float]:
    (root / "out").mkdir(parents=True)
    return make.run(settings, inputs, root / "out", root / "checkpoints", ExecutionConfig(threads=1), silent)


def test_teacher_demonstrations_stay_with_their_provenance_and_the_rest_is_left_out_by_reason(
    script: Script, inputs: dict[str, Path], tmp_path: Path
) -> None:
    metrics = made(config(), inputs, tmp_path)
    out = tmp_path / "out"
    own, record = instructions.read(out), instructions.read_record(out)
    left_out = [json.loads(line) for line in (out / "left_out.jsonl").read_text().splitlines()]

    for text, fate in PROPOSED.items():
        pattern = re.escape(text).replace(re.escape("{topic}"), ".*")
        reasons = {row["reason"] for row in left_out if re.fullmatch(pattern, row["text"])}
        stayed = any(re.fullmatch(pattern, one.instruction) for one in own)
        assert stayed == (fate == "stays"), text
        assert fate == "stays" or fate in reasons, text
    assert {one.teacher for one in own} == {Teacher(name="Big-1", licence="Apache-2.0", identity="big")}
    known = {f"p{n}" for n in range(12)} | {one.id for one in own} | {row["id"] for row in left_out if "id" in row}
    assert all(len(one.shown) == 5 and set(one.shown) <= known for one in own)
    assert any(name.startswith("instructions/") for one in own for name in one.shown), "the teacher's own are shown too"
    assert all("[EMAIL]" in one.completion and "@" not in one.completion for one in own)
    assert metrics["instructions/proposed"] == len(own) + sum(row["reason"] not in ("no_list", "long_request") for row in left_out)
    counted = {reason: sum(row["reason"] == reason for row in left_out) for reason in {row["reason"] for row in left_out}}
    assert record.left_out == counted
    assert metrics == {
        "instructions/kept": float(len(own)),
        "instructions/requests": float(sum(said.startswith("MAKE") for said in script.asked)),
        "instructions/proposed": float(record.requests * len(PROPOSED)),
        "instructions/seeds": 12.0,
        "instructions/people": 13.0,
        **{f"instructions/left_out/{reason}": float(count) for reason, count in counted.items()},
        "instructions/redacted/email": metrics["instructions/redacted/email"],
    }

    shown = list(records(out / DEMONSTRATIONS, Demonstration))
    assert [one.id for one in shown if one.source == "people"] == [*(f"p{n}" for n in range(12)), "h", "t"]
    taught = {one.id: one for one in shown if one.source == "Big-1"}
    assert {one.id: (one.instruction, one.completion) for one in own} == {
        name: (one.prompt[0].content, one.completion) for name, one in taught.items() if not isinstance(one.prompt, str)
    }
    assert {one.split for one in taught.values()} == {"train"}, "what SFT is measured on stays people's"
    assert (out / PROMPTS).read_bytes() == (inputs["feedback"] / PROMPTS).read_bytes()
    assert [row["licence"] for row in json.loads((out / "sources.json").read_text())] == ["Apache-2.0"]


def test_people_can_stay_out_and_instructions_can_be_prompts(script: Script, inputs: dict[str, Path], tmp_path: Path) -> None:
    metrics = made(config(keep_demonstrations=False, also_prompts=True), inputs, tmp_path)
    shown = list(records(tmp_path / "out" / DEMONSTRATIONS, Demonstration))
    assert metrics["instructions/people"] == 0
    assert {(one.source, one.split) for one in shown} == {("Big-1", "train"), ("people", "validation")}
    prompts = list(records(tmp_path / "out" / PROMPTS, PromptRecord))
    assert [one.id for one in prompts] == ["q", *(one.id for one in shown if one.source == "Big-1")]
    assert {one.source for one in prompts[1:]} == {"synthetic"}


def test_killed_run_asks_for_nothing_twice_and_ends_as_an_undisturbed_one(script: Script, inputs: dict[str, Path], tmp_path: Path) -> None:
    made(config(), inputs, tmp_path / "whole")
    whole, script.asked = script.asked, []
    script.dies_after = len(whole) * 2 // 3
    with pytest.raises(ValueError, match="400"):
        made(config(), inputs, tmp_path / "killed")
    journal = tmp_path / "killed/checkpoints" / JOURNAL
    kept = len(journal.read_text().splitlines())
    assert kept > 0
    with journal.open("a") as file:
        file.write('{"key": "12ab", "text": "a line that the crash cu')
    before, script.asked, script.dies_after = script.asked, [], None
    (tmp_path / "killed/out").rmdir()
    made(config(), inputs, tmp_path / "killed")
    assert before[:kept] + script.asked == whole, "a round that died half way is asked again, nothing before it"
    for file in sorted((tmp_path / "whole/out").iterdir()):
        assert (tmp_path / "killed/out" / file.name).read_bytes() == file.read_bytes()


def test_contamination_check_searches_what_the_teacher_wrote(script: Script, inputs: dict[str, Path], tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    made(config(), inputs, tmp_path)
    for name in ("corpus/documents", "checked"):
        (tmp_path / name).mkdir(parents=True)
    table = {"id": ["d"], "text": ["nothing of note"], "split": ["train"]}
    pq.write_table(pa.table(table), tmp_path / "corpus/documents/a.parquet")
    given = {**inputs, "corpus": tmp_path / "corpus", "instructions": tmp_path / "out"}
    rules = ContaminationConfig(seed=0, substrings=3, length=50, ngram=13)
    metrics = check.run(rules, given, tmp_path / "checked", silent)
    assert metrics["contamination/exam/content_share"] == 0.0, "the stage left it out"
    (first, *others) = instructions.read(tmp_path / "out")
    planted = [first.model_copy(update={"completion": EXAM.upper()}), *others]
    instructions.write(tmp_path / "out", planted, instructions.read_record(tmp_path / "out"))
    metrics = check.run(rules, given, tmp_path / "checked", silent)
    assert metrics["contamination/exam/content_share"] == 1.0
    report = read_report(tmp_path / "checked")["exam"]
    assert report.sets["instructions"].documents == len(planted)


def test_seeds_come_from_a_file_without_what_nobody_agreed_to(script: Script, inputs: dict[str, Path], tmp_path: Path) -> None:
    rows = [{"prompt": f"Tell me something new about subject {n} by mail to a{n}@example.org", "id": n, "consent": n > 0} for n in range(7)]
    path = tmp_path / "seeds.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    file = {"name": "mine", "path": str(path), "sha256": sha256_file(path), "licence": "CC0-1.0", "shape": "prompts", "source": "user"}
    metrics = made(config(seeds=file, made_shots=0), inputs, tmp_path)
    assert (metrics["instructions/seeds"], metrics["instructions/seeds_without_consent"]) == (6.0, 1.0)
    assert {name for one in instructions.read(tmp_path / "out") for name in one.shown} <= {f"mine-{n}" for n in range(1, 7)}
    requests = [said for said in script.asked if said.startswith("MAKE")]
    assert requests
    assert all("[EMAIL]" in said and "@" not in said for said in requests), "nobody's address is sent to a server"
    with pytest.raises(DataError, match="instructions: file mine: 6 instructions to show, and shots asks for 7"):
        made(config(seeds=file, shots=7), inputs, tmp_path / "few")
    with pytest.raises(DataError, match="of one turn of category nothing: 0 instructions to show"):
        made(config(categories=["nothing"]), inputs, tmp_path / "none")


def test_teacher_that_says_nothing_of_use_is_one_line_with_the_reasons(
    inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MODELYARD_TEACHER", raising=False)
    with pytest.raises(ValueError, match=r"teacher.kind 'endpoint': the environment variable MODELYARD_TEACHER must say where"):
        made(config(), inputs, tmp_path / "nowhere")
    with scripted(lambda said: ("I cannot do that.", "stop")) as url:
        monkeypatch.setenv("MODELYARD_TEACHER", url)
        with pytest.raises(DataError, match=r"^instructions: nothing is left of what Big-1 said to 8 requests: 8 no_list$"):
            made(config(), inputs, tmp_path / "nothing")


def test_directory_teacher_is_told_by_its_weights_and_says_what_the_model_says(
    inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_model.write(tmp_path, seq_len=512)
    execution = ExecutionConfig(threads=1)
    subject = Subject.open("x", tmp_path / "ours", execution, 4)
    teacher: dict[str, object] = {"kind": "directory", "weights": subject.weights[:12], "name": "Small", "licence": "MIT"}
    settings = config(teacher=teacher, requests=2, number=4, shots=3)

    asked = Asked(subject, settings.teacher, tmp_path / JOURNAL)
    assert asked.provenance.identity == subject.weights
    prompts = [(Message(role="user", content=text),) for text in ("Good morning", "Good evening")]
    for length in (3, 200):
        decoding = Decoding(max_new_tokens=length, temperature=0.0, samples=1, seed=0)
        drawn = subject.reply(prompts, decoding)
        said = asked.ask(prompts, decoding)
        assert [one.text for one in said] == [one.text for one in drawn]
        assert [one.ended for one in said] == [len(one.tokens) < length for one in drawn]
    assert Asked(subject, settings.teacher, tmp_path / JOURNAL).ask(prompts, decoding) == said

    monkeypatch.setenv("MODELYARD_TEACHER", str(tmp_path / "ours"))
    with pytest.raises(DataError, match=r"nothing is left of what Small said to 2 requests"):
        made(settings, inputs, tmp_path / "a")
    with pytest.raises(ValueError, match=r"its weights are .*, not teacher.weights abcd"):
        made(config(teacher={**teacher, "weights": "abcdabcd"}), inputs, tmp_path / "b")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"made_shots": 5}, "made_shots 5 leaves no example of people among shots 5"),
        ({"number": 100}, r"number 100 is more than requests x per_request ask for \(88\)"),
        ({"request": "Write {count} tasks"}, "needs the fields {examples} and {count}"),
        ({"request": "Write {count} {tasks} {examples}"}, "needs the fields {examples} and {count}"),
        ({"answer_words": {"least": 9, "most": 3}}, "least 9 is more than most 3"),
        ({"teacher": {"kind": "policy", "name": "x", "licence": "y"}}, "teacher.kind"),
        ({"teacher": {"kind": "endpoint", "name": "x", "licence": "y"}}, "model: names the model of an endpoint"),
        ({"teacher": {"kind": "directory", "name": "x", "licence": "y"}}, "weights: the fingerprint of a directory's weights"),
        ({"teacher": {"kind": "endpoint", "model": "m", "name": "x", "licence": ""}}, "teacher.licence"),
        (
            {"seeds": {"name": "f", "path": "f", "sha256": "", "licence": "", "shape": "pairs"}},
            "seeds.shape 'pairs': no instruction a line",
        ),
        (
            {"categories": ["x"], "seeds": {"name": "f", "path": "f", "sha256": "", "licence": "", "shape": "prompts"}},
            "categories: are of the feedback's demonstrations",
        ),
    ],
)
def test_tables_that_make_no_sense_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(**changes)
