"""Doubtful labels of harm go to the desk; what most of its labelers say comes back as answers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from modelyard.commands.app import main
from modelyard.desk.database import Database
from modelyard.desk.exchange.harm_reviews import write_batch
from modelyard.formats import harm_reviews
from modelyard.formats.harm_reviews import Review
from tests.unit.desk.browsing import Person, desk, people

SAID = {"a1": ("hate", (1, 1, 2)), "b2": ("hate/threatening", (2, 2, 2)), "c3": ("hate", (1, 2, 0)), "d4": ("self-harm", (1, 1, 1))}
"""Text -> category, and for each labeler the statement put first: 1 it is, 2 it is not, 0 both."""


def test_what_most_labelers_say_is_the_answer_and_one_that_is_there_stays(
    database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    team = people(database, "lea", "leo", "lou")
    reviews = [Review(id=one, text=f"text {one}", category=SAID[one][0], label=0, doubt=0.9, confident=False) for one in SAID]
    reviews[3] = reviews[3].model_copy(update={"answer": 0, "by": "ann"})
    suspects, book = tmp_path / "suspects.jsonl", str(database.engine.url)
    suspects.write_text(harm_reviews.lines(reviews))
    name = write_batch(reviews, tmp_path / "batch")
    assert main(["label", str(tmp_path / "batch" / "batch.toml"), "--book", book]) == 0
    app = desk(database)
    for place, account in enumerate(team):
        person = Person(app, account.name)
        while shown := re.findall(r'<div class="text">(It is [^<]+)</div>', (page := person.get("/batches/1")).text):
            one = next(one for one in SAID if f"text {one}" in page.text)
            first = SAID[one][1][place]
            ranks = {f"It is {SAID[one][0]}.": 1 + (first == 2), f"It is not {SAID[one][0]}.": 1 + (first == 1)}
            form = {f"rank-{at}": str(ranks[text]) for at, text in enumerate(shown)}
            assert not re.search(r'name="(rating|flag|all_wrong)', page.text), "statements have neither marks nor metadata"
            refused = person.post(page.url.path, action="submit", **{"rank-0": "1"})
            assert (refused.status_code, "1 of 2 answers have no rank." in refused.text, "have no mark" in refused.text) == (
                400,
                True,
                False,
            )
            person.post(page.url.path, action="submit", **form)
    assert main(["label", "--out", str(tmp_path / "desk"), "--only", name, "--book", book]) == 0
    assert (tmp_path / "desk" / "comparisons.jsonl").read_text() == "", "what is true of a text is no preference to train on"
    capsys.readouterr()
    assert main(["harms", "line.toml", "--suspects", str(suspects), "--answers", str(tmp_path / "desk" / "labels.jsonl")]) == 0
    assert "3 of 4 labels answered, 1 of them otherwise than they stand" in capsys.readouterr().out
    found = {review.id: (review.answer, review.by) for _, review in harm_reviews.read(suspects)}
    assert found == {"a1": (1, "2 of 3 labelers"), "b2": (0, "3 of 3 labelers"), "c3": (None, ""), "d4": (0, "ann")}
    assert main(["harms", "line.toml", "--answers", str(suspects), "--suspects", str(suspects), "--desk", str(tmp_path)]) == 2
