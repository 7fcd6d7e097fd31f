"""The corpus builder and the token files on planted input: only the fetching is replaced."""

import json
import random
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from transformers import AutoTokenizer

from modelyard.config import read_tree
from modelyard.data.contamination import check as contamination
from modelyard.data.contamination.overlap import ContaminationConfig
from modelyard.data.corpus import line_corpus as corpus
from modelyard.data.corpus.document import DataError, Document, Rating, run_inline
from modelyard.data.corpus.line_corpus import CorpusConfig
from modelyard.data.feedback import gather as human_feedback
from modelyard.data.filters import abuse
from modelyard.data.reading import Readings
from modelyard.data.tokens import line_tokens as tokens
from modelyard.data.tokens.line_tokens import TokensConfig
from modelyard.formats.contamination import read_report
from modelyard.formats.expectation import ExpectationError, ExpectationResult, SuiteResult, read_suite
from modelyard.formats.questions import Question, write_questions
from modelyard.progress import silent

SMALLEST = read_tree(Path(__file__).parents[3] / "configs" / "pipeline" / "smallest.toml")
CONFIG = CorpusConfig.model_validate(SMALLEST["corpus"])
NOUNS = [
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
    "romance",
    "sequel",
    "remake",
    "dialogue",
]
WORDS = [
    "quiet",
    "moving",
    "clever",
    "tedious",
    "bright",
    "sharp",
    "gentle",
    "bitter",
    "sweet",
    "lavish",
    "hollow",
    "noisy",
    "tender",
    "honest",
    "clumsy",
    "graceful",
    "dreary",
    "lively",
    "warm",
    "cold",
]


class _Teacher:
    vocabulary = ("vileword",)

    def __init__(self, *_):
        pass

    def __call__(self, texts):
        return np.array([float("vileword" in text.split()) for text in texts])


def _passing(suite, frame, parameters={}):
    names = [entry["meta"]["name"] for entry in read_suite(suite)["expectations"]]
    return SuiteResult(suite=suite, results=[ExpectationResult(name=name, success=True, detail="") for name in names])


def _sentence(rng):
    return (
        " ".join(
            rng.choice(
                (f"the {rng.choice(WORDS)} {rng.choice(NOUNS)}", f"a {rng.choice(NOUNS)} of {rng.choice(WORDS)} {rng.choice(NOUNS)}s")
            )
            for _ in range(5)
        )
        + "."
    )


def _planted():
    rng = random.Random(0)
    reviews = [Document(f"movie-{n}", "human_ratings", "review", "en", "MIT", f"movie-{n}", _sentence(rng)) for n in range(400)]
    copies = [Document(f"copy-{n}", "own", "text", "und", "MIT", f"copy-{n}", d.text.upper()) for n, d in enumerate(reviews)]
    near = [Document(f"near-{n}", "own", "text", "und", "MIT", f"near-{n}", d.text.replace(".", " indeed.")) for n, d in enumerate(reviews)]
    dialogs = [
        Document(f"dialog-{n}", "dialogs", "dialog", "und", "BSD", f"d{n}", f"What is {_sentence(rng)}\nIt is {_sentence(rng)}")
        for n in range(40)
    ]
    bad = [Document("bad-0", "own", "text", "und", "MIT", "bad-0", "you vileword and your vileword friends of the vileword house")]
    german = [Document("de-0", "own", "text", "und", "MIT", "de-0", "Das ist ein ganz gewöhnlicher deutscher Satz über das Wetter.")]
    ratings = [Rating(d.id, "movie", [rng.randint(-4, 4) for _ in range(15)]) for d in reviews]
    problems = [{"task_id": "HumanEval/0", "prompt": "def f(x):\n", "canonical_solution": "    return x\n", "test": "", "entry_point": "f"}]
    return Readings(
        [*reviews, *copies, *near, *dialogs, *bad, *german], ratings, problems, {"abuse_lexicon": Path(), "abuse_teacher": Path()}, []
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus, "read", lambda *_: _planted())
        patch.setattr(abuse, "Teacher", _Teacher)
        patch.setattr(abuse, "lexicon", lambda *_: ["vileword"])
        out = tmp_path_factory.mktemp("corpus")
        corpus.run(CONFIG, {}, out, silent, run_inline, Path("unused"), _passing)
        return out


def _rows(path):
    return pq.read_table(path).to_pylist() if path.suffix == ".parquet" else [json.loads(line) for line in path.read_text().splitlines()]


def test_corpus_planted_documents_are_refused_by_reason(built):
    reasons = {row["id"]: row["reason"] for row in _rows(built / "rejects.parquet")}
    assert reasons["bad-0"].startswith("abuse/")
    assert reasons["de-0"] == "language/not_accepted"
    for n in range(400):
        refused = [reasons[name] for name in (f"movie-{n}", f"copy-{n}", f"near-{n}") if name in reasons]
        assert len(refused) == 2, "of a text, its copy and its near copy exactly one stays"
        assert all(reason.startswith("duplicate/") for reason in refused)
    held = {row["id"] for row in _rows(built / "ratings.parquet") if row["split"] == "test"}
    copies = [reasons[name.replace("movie", "copy")] for name in held]
    assert set(copies) <= {"duplicate/exact_of_held_out", "duplicate/exact"}, "the second only where the copy is held out too"
    assert copies.count("duplicate/exact_of_held_out") > 0.8 * len(copies)


def test_corpus_every_document_is_kept_or_refused_exactly_once(built):
    documents = [row["id"] for row in _rows(built / "documents.parquet")]
    rejected = [row["id"] for row in _rows(built / "rejects.parquet")]
    test = [row["id"] for row in _rows(built / "ratings.parquet") if row["split"] == "test"]
    assert sorted(documents + rejected + test) == sorted(document.id for document in _planted().documents)


def test_corpus_held_out_text_is_in_no_training_set(built):
    documents = _rows(built / "documents.parquet")
    ratings = _rows(built / "ratings.parquet")
    demonstrations = _rows(built / "demonstrations.jsonl")
    held = {row["text"].casefold() for row in ratings if row["split"] == "test"} | {
        row["text"].casefold() for row in documents if row["split"] == "validation"
    }
    trained = {row["text"].casefold() for row in documents if row["split"] == "train"}
    trained |= {row["text"].casefold() for row in ratings if row["split"] in ("reward", "gold")}
    trained |= {
        (row["prompt"] + row["completion"]).casefold() for row in demonstrations if row["split"] == "train" and row["kind"] == "review"
    }
    assert len(held) > 40
    assert not held & trained
    prompts = {row["prompt"] for row in _rows(built / "prompts.jsonl")}
    openings = _rows(built / "benchmarks" / "openings.jsonl")
    assert openings
    assert not prompts & {row["prompt"] for row in openings}
    assert all(
        not text.startswith(row["prompt"].casefold() + " ") for row in openings for text in trained if text in {r["text"] for r in ratings}
    )


def test_corpus_ratings_have_one_split_an_item_and_their_votes(built):
    ratings = _rows(built / "ratings.parquet")
    votes = {rating.id: rating.votes for rating in _planted().ratings}
    assert len({row["id"] for row in ratings}) == len(ratings)
    assert {row["split"] for row in ratings} == {"reward", "gold", "test"}
    assert all(row["votes"] == votes[row["id"]] for row in ratings)
    validation = {row["id"] for row in _rows(built / "documents.parquet") if row["split"] == "validation"}
    assert not validation & {row["id"] for row in ratings}


def test_corpus_failed_expectation_stops_with_its_name(built, tmp_path, monkeypatch):
    monkeypatch.setattr(corpus, "read", lambda *_: _planted())
    monkeypatch.setattr(abuse, "Teacher", _Teacher)
    monkeypatch.setattr(abuse, "lexicon", lambda *_: ["vileword"])

    def failing(suite, frame, parameters={}):
        met = _passing(suite, frame).results
        results = [one.model_copy(update={"success": one.name != "ratings_ids_unique", "detail": "2 of 9"}) for one in met]
        return SuiteResult(suite=suite, results=results)

    with pytest.raises(ExpectationError, match=r"suite corpus/ratings failed: ratings_ids_unique \(2 of 9\)"):
        corpus.run(CONFIG, {}, tmp_path, silent, run_inline, Path("unused"), failing)


@pytest.mark.parametrize("documents", [[], [Document("a", "own", "text", "und", "MIT", "a", "no")]])
def test_corpus_nothing_left_is_one_clear_line(documents, tmp_path, monkeypatch):
    monkeypatch.setattr(corpus, "read", lambda *_: _planted()._replace(documents=documents, ratings=[]))
    monkeypatch.setattr(abuse, "Teacher", _Teacher)
    monkeypatch.setattr(abuse, "lexicon", lambda *_: ["vileword"])
    with pytest.raises(DataError, match=r"^corpus: empty: ") as caught:
        corpus.run(CONFIG, {}, tmp_path, silent, run_inline, Path("unused"), _passing)
    assert "\n" not in str(caught.value)


def test_contamination_run_finds_planted_items_per_set(built, tmp_path):
    documents = [row for row in _rows(built / "documents.parquet") if row["split"] == "train" and len(row["text"]) > 80]
    copy = tmp_path / "corpus"
    copy.mkdir()
    for name in ("documents.parquet", "ratings.parquet", "demonstrations.jsonl", "prompts.jsonl"):
        (copy / name).write_bytes((built / name).read_bytes())
    feedback = tmp_path / "feedback"
    feedback.mkdir()
    human_feedback.run(human_feedback.FeedbackConfig.model_validate(SMALLEST["feedback"]), {"corpus": copy}, feedback, silent, "")
    shout = documents[5]["text"].upper()
    items = [Question(id="dirty", text=documents[3]["text"]), Question(id="shout", text=shout), Question(id="clean", text="q" * 60)]
    write_questions(tmp_path / "benchmarks", "last_word", items)
    write_questions(
        tmp_path / "benchmarks", "of_a_user", [Question(id="mine", text="A question that nobody asked before, however long it is?")]
    )
    out = tmp_path / "out"
    out.mkdir()
    config = ContaminationConfig(seed=0, substrings=3, length=50, ngram=13)
    metrics = contamination.run(config, {"corpus": copy, "feedback": feedback, "benchmarks": tmp_path / "benchmarks"}, out, silent)
    reports = read_report(out)
    report = reports["last_word"]
    assert metrics["contamination/last_word/share"] == pytest.approx(1 / 3)
    assert metrics["contamination/last_word/content_share"] == pytest.approx(2 / 3)
    assert (report.written, report.content, reports["of_a_user"].content) == (("dirty",), ("dirty", "shout"), ())
    assert metrics["contamination/items/share"] == pytest.approx(1 / 4)
    assert {(hit.item, hit.set) for hit in report.hits["written"]} >= {("dirty", "pretrain")}
    assert set(report.sets) == {"pretrain", "demonstrations", "reward_comparisons", "gold_comparisons", "prompts"}


def test_tokens_files_hold_the_training_text_and_nothing_held_out(built, tmp_path):
    config = TokensConfig.model_validate({**SMALLEST["tokens"], "train_tokens": 20_000})
    tokens.run(config, {"corpus": built}, tmp_path, silent)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    train, validation = np.load(tmp_path / "train.npy"), np.load(tmp_path / "validation.npy")
    assert train.dtype == validation.dtype == np.uint16
    assert train.shape[1] == validation.shape[1] == config.seq_len + 1
    assert [tokenizer.convert_tokens_to_ids(t) for t in ("<|endoftext|>", "<|user|>", "<|assistant|>", "<|end|>", "<|pad|>")] == [
        0,
        1,
        2,
        3,
        4,
    ]
    ids = tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], add_generation_prompt=True, return_dict=False)
    assert tokenizer.decode(ids) == "<|endoftext|><|user|>Hi<|end|><|assistant|>"
    text = "Ünïcode ✓, 1234 digits\n\tand tabs"
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text
    pieces = {piece for row in train for piece in tokenizer.decode(row).split("<|endoftext|>")[1:-1]}
    documents = _rows(built / "documents.parquet")
    assert pieces <= {row["text"] for row in documents if row["split"] == "train"}
    assert not pieces & {row["text"] for row in documents if row["split"] == "validation"}


def test_tokens_same_seed_gives_the_same_bytes(built, tmp_path):
    config = TokensConfig.model_validate({**SMALLEST["tokens"], "train_tokens": 5_000})
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        tokens.run(config, {"corpus": built}, tmp_path / name, silent)
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert files == ["statistics.json", "tokenizer.json", "tokenizer_config.json", "train.npy", "validation.npy"]
    assert all((tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes() for file in files)
