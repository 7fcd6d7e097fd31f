"""What is derived from a planted corpus, and the contamination check of it: only the fetching of HumanEval is replaced."""

import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modelyard.adapters.expectations import validate
from modelyard.config import read_tree
from modelyard.data.contamination import check as contamination
from modelyard.data.contamination.overlap import ContaminationConfig
from modelyard.data.corpus import held_out
from modelyard.data.corpus.document import KEPT_SCHEMA
from modelyard.data.corpus.held_out import HeldOutConfig
from modelyard.data.feedback import gather
from modelyard.data.feedback.config import FeedbackConfig
from modelyard.formats.contamination import read_report
from modelyard.formats.expectation import ExpectationError
from modelyard.formats.questions import Question, write_questions
from modelyard.progress import silent

SMALLEST = read_tree(Path(__file__).parents[3] / "configs" / "pipeline" / "smallest.toml")
CONFIG = HeldOutConfig.model_validate(SMALLEST["held_out"])
ADJECTIVES = ("quiet", "moving", "clever", "tedious", "bright", "sharp", "gentle", "bitter", "sweet", "lavish", "hollow", "noisy", "tender")
NOUNS = (
    "film",
    "story",
    "plot",
    "actor",
    "scene",
    "director",
    "camera",
    "music",
    "ending",
    "script",
    "hero",
    "drama",
    "comedy",
    "thriller",
)
PROBLEM = {"task_id": "HumanEval/0", "prompt": "def f(x):\n", "canonical_solution": "    return x\n", "test": "", "entry_point": "f"}


def _sentence(rng):
    return " ".join(f"{rng.choice(ADJECTIVES)} {rng.choice(NOUNS)}" for _ in range(7)) + f" and {rng.choice(NOUNS)}s."


def _planted():
    rng = random.Random(0)

    def row(name, source, kind, split, text, group="", votes=None):
        common = {"language": "en", "licence": "MIT", "place": "here", "redacted": "", "score": None}
        return {
            "id": f"{source}/{name}",
            "source": source,
            "kind": kind,
            "split": split,
            "text": text,
            "group": group,
            "votes": votes,
            **common,
        }

    def split():
        return rng.choices(("train", "validation", "test"), (8, 1, 2))[0]

    works = {f"article-{n}": split() for n in range(80)}
    rows = [row(n, "movie", "review", split(), _sentence(rng), votes=[rng.randint(-4, 4) for _ in range(12)]) for n in range(600)]
    rows += [
        row(f"{work}-{n}", "amazon", "review", side, _sentence(rng), work, [rng.randint(-4, 4) for _ in range(12)])
        for work, side in works.items()
        for n in range(3)
    ]
    shared = next(one for one in rows if one["split"] == "test" and one["source"] == "movie")
    rows.append(row("begins-alike", "books", "text", "train", " ".join(shared["text"].split()[:4]).upper() + " and another ending"))
    indented = [one for one in rows if one["split"] == "test" and one["source"] == "movie"][1:60:2]
    starts = [" ".join(one["text"].split()[:4]) for one in indented]
    rows += [row(f"indented-{n}", "books", "text", "train", f"\n  {start} and another ending") for n, start in enumerate(starts)]
    rows += [row(f"indented-{n}", "movie", "review", "train", "\n\t " + _sentence(rng), votes=[1] * 12) for n in range(9)]
    rows.append(row("spaced", "dialogs", "dialog", "train", "\nWho is there?\n\nOnly the wind.\n \nThen close it.\n\nIt is shut.\n"))
    said = [f"What is {_sentence(rng)}\nIt is {_sentence(rng)}" for _ in range(30)]
    rows += [row(n, "dialogs", "dialog", "validation" if n < 6 else "train", text) for n, text in enumerate([*said, *said[:3]])]
    return rows, [shared, *indented]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    directory = tmp_path_factory.mktemp("corpus")
    (directory / "documents").mkdir()
    rows, _ = _planted()
    for part, chosen in enumerate((rows[:500], rows[500:])):
        pq.write_table(pa.Table.from_pylist(chosen, schema=KEPT_SCHEMA), directory / "documents" / f"{part}.parquet")
    return directory


def _derive(corpus, out, monkeypatch, check=validate):
    monkeypatch.setattr(held_out, "fetch", lambda *_: None)
    monkeypatch.setattr(held_out.human_eval, "read", lambda *_: [PROBLEM])
    return held_out.run(CONFIG, {"corpus": corpus}, out, silent, check, Path("unused"))


@pytest.fixture
def derived(corpus, tmp_path, monkeypatch):
    (tmp_path / "held_out").mkdir()
    _derive(corpus, tmp_path / "held_out", monkeypatch)
    return tmp_path / "held_out"


def _rows(path):
    return pq.read_table(path).to_pylist() if path.suffix == ".parquet" else [json.loads(line) for line in path.read_text().splitlines()]


def test_held_out_text_is_in_no_training_set(derived):
    rows, begun = _planted()
    held = {row["text"] for row in rows if row["split"] != "train"}
    ratings, demonstrations = _rows(derived / "ratings.parquet"), _rows(derived / "demonstrations.jsonl")
    trained = {row["text"] for row in ratings if row["split"] in ("reward", "gold")}
    trained |= {row["prompt"] + row["completion"] for row in demonstrations if row["split"] == "train" and row["kind"] == "review"}
    assert len(trained) > 300
    assert not held & trained
    answered = {split: {(d["prompt"], d["completion"]) for d in demonstrations if d["split"] == split} for split in ("train", "validation")}
    assert answered["validation"]
    assert not answered["train"] & answered["validation"], "a training dialog that is also held out is left out"
    openings = _rows(derived / "benchmarks" / "openings.jsonl")
    assert len(openings) > 10
    assert {row["text"] for row in openings} <= {row["text"] for row in rows if row["split"] == "test"}
    starts = {held_out.folded(held_out.opening(row["text"], CONFIG.opening_words)) for row in rows if row["split"] == "train"}
    assert not starts & {held_out.folded(row["prompt"]) for row in openings}, "whatever its case"
    assert not {row["id"] for row in begun} & {row["id"] for row in openings}
    for name, splits in (("last_word", ("validation", "test")), ("held_out_text", ("validation",))):
        found = {row["id"] for row in _rows(derived / "benchmarks" / f"{name}.jsonl")}
        assert found
        assert found <= {row["id"] for row in rows if row["split"] in splits}


def test_held_out_demonstrations_of_indented_reviews_and_spaced_dialogs_have_both_sides(derived):
    demonstrations = _rows(derived / "demonstrations.jsonl")
    indented = [row for row in demonstrations if row["id"].startswith("movie/indented-")]
    texts = {row["id"]: row["text"] for row in _planted()[0]}
    assert len(indented) > 4
    assert all(row["prompt"] + row["completion"] == texts[row["id"]] for row in indented)
    assert {len(row["prompt"].split()) for row in indented} == {CONFIG.opening_words}
    spaced = [(row["prompt"], row["completion"]) for row in demonstrations if row["id"].startswith("dialogs/spaced-")]
    assert spaced == [("Who is there?", "Only the wind."), ("Then close it.", "It is shut.")]


def test_held_out_ratings_keep_works_together_and_votes_as_they_are(derived):
    rows, _ = _planted()
    ratings = _rows(derived / "ratings.parquet")
    known = {row["id"]: row for row in rows}
    assert len({row["id"] for row in ratings}) == len(ratings) > 600
    assert all(row["votes"] == known[row["id"]]["votes"] and row["domain"] == known[row["id"]]["source"] for row in ratings)
    assert {(row["split"] == "test") == (known[row["id"]]["split"] == "test") for row in ratings} == {True}
    assert not [row for row in ratings if known[row["id"]]["split"] == "validation"]
    sides = {}
    for row in ratings:
        if work := known[row["id"]]["group"]:
            sides.setdefault(work, set()).add(row["split"])
    assert set().union(*sides.values()) == {"reward", "gold", "test"}
    assert all(len(found) == 1 for found in sides.values())


def test_held_out_failed_expectation_stops_with_its_name(corpus, tmp_path, monkeypatch):
    def failing(suite, frame, parameters={}):
        return validate(suite, frame.assign(id="the same"), parameters)

    with pytest.raises(ExpectationError, match="suite ratings failed: ratings_ids_unique"):
        _derive(corpus, tmp_path, monkeypatch, failing)


def test_contamination_run_finds_planted_items_per_set(corpus, derived, tmp_path):
    feedback, out = tmp_path / "feedback", tmp_path / "out"
    feedback.mkdir()
    out.mkdir()
    gather.run(FeedbackConfig.model_validate(SMALLEST["feedback"]), {"held_out": derived}, feedback, silent, "")
    texts = [row["text"] for row in _planted()[0] if row["split"] == "train" and len(row["text"]) > 80]
    items = [
        Question(id="dirty", text=texts[0]),
        Question(id="shout", text=texts[1].upper()),
        Question(id="clean", text="q" * 60),
    ]
    write_questions(tmp_path / "benchmarks", "last_word", items)
    write_questions(tmp_path / "benchmarks", "own", [Question(id="mine", text="A question that nobody asked before, however long it is?")])
    config = ContaminationConfig(seed=0, substrings=3, length=50, ngram=13)
    inputs = {"corpus": corpus, "feedback": feedback, "benchmarks": tmp_path / "benchmarks"}
    metrics = contamination.run(config, inputs, out, silent)
    reports = read_report(out)
    report = reports["last_word"]
    assert metrics["contamination/last_word/share"] == pytest.approx(1 / 3)
    assert metrics["contamination/last_word/content_share"] == pytest.approx(2 / 3)
    assert (report.written, report.content, reports["own"].content) == (("dirty",), ("dirty", "shout"), ())
    assert metrics["contamination/items/share"] == pytest.approx(1 / 4)
    assert {(hit.item, hit.set) for hit in report.hits["written"]} >= {("dirty", "pretrain")}
    assert set(report.sets) == {"pretrain", "demonstrations", "reward_comparisons", "gold_comparisons", "thumbs", "prompts"}
