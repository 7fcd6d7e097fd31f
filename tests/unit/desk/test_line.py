"""What two people rank at the desk's pages is the line's feedback, the same as those votes from a file; and a removal finds it there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from modelyard.commands.app import main
from modelyard.data.feedback import gather
from modelyard.data.feedback.config import FeedbackConfig
from modelyard.desk.database import Database
from modelyard.formats.feedback import Comparison, records
from modelyard.progress import silent
from modelyard.store.artifacts import Store
from modelyard.store.file_hash import sha256_file
from modelyard.store.manifest import Spec
from tests.unit.desk.browsing import Person, batch, desk, people, question
from tests.unit.desk.test_work import texts


def gathered(file: Path, out: Path, held_out_raters: float = 0.0) -> FeedbackConfig:
    config = {
        "seed": 3, "splits": {"held_out": 0.3, "gold": 0.2, "held_out_raters": held_out_raters}, "prefix_characters": 100, "prompts_per_user": 9,
        "pii": {"kinds": [], "region": "US"},
        "files": [{"name": "desk", "path": str(file), "sha256": sha256_file(file), "licence": "ours", "shape": "ranked"}],
    }  # fmt: skip
    found = FeedbackConfig.model_validate(config)
    out.mkdir()
    gather.run(found, {}, out, silent, (str(file.parent),))
    return found


def test_export_of_the_desk_becomes_the_feedback_that_the_same_votes_from_a_file_become(
    database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    team = people(database, "lea", "leo")
    attention = question(99, attention=True, reference={"ranks": [1, 2, 3, 4]})
    batch(database, [*(question(number, category="chat") for number in range(6)), attention], "answers", overlap=2)
    batch(database, [question(50)], "screening", screening=True)
    app, votes = desk(database, attention_every=3), []
    for place, account in enumerate(team):
        person = Person(app, account.name)
        while texts((page := person.get("/batches/1")).text):
            shown = texts(page.text)
            number = int(shown[0].split()[-1])
            ranks = {f"answer {answer} to {number}": 1 + (answer * (place + 1) + number) % 3 for answer in range(4)}
            form = {f"rank-{at}": str(ranks[text]) for at, text in enumerate(shown)} | {f"rating-{at}": "5" for at in range(4)}
            person.post(page.url.path, action="submit", **form)
            if number != 99:
                votes.append((number, account.pseudonym, list(ranks), list(ranks.values())))
    assert len(votes) == 12
    book = str(database.engine.url)
    assert main(["label", "--out", str(tmp_path / "desk"), "--book", book]) == 0
    by_hand = tmp_path / "by-hand.jsonl"
    rows = [
        {
            "id": f"answers-q{number}-{rater}", "rater": rater, "category": "chat",
            "prompt": [{"role": "user", "content": f"question {number}"}], "completions": completions, "ranks": ranks,
        }
        for number, rater, completions, ranks in sorted(votes, key=lambda vote: (vote[0], vote[1]))
    ]  # fmt: skip
    by_hand.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = gathered(tmp_path / "desk/comparisons.jsonl", tmp_path / "from-desk")
    gathered(by_hand, tmp_path / "from-file")
    for name in ("comparisons.jsonl", "prompts.jsonl", "demonstrations.jsonl"):
        assert (tmp_path / "from-desk" / name).read_bytes() == (tmp_path / "from-file" / name).read_bytes()
    found = list(records(tmp_path / "from-desk/comparisons.jsonl", Comparison))
    assert {one.rater for one in found} == {account.pseudonym for account in team}
    assert all(one.agreement is not None for one in found)

    store = Store(f"file://{tmp_path}/store", str(tmp_path / "scratch"))

    def produce(out: Path, _: Path) -> dict[str, float]:
        gather.run(config, {}, out, silent, (str(tmp_path),))
        return {}

    made = store.build(Spec("feedback", config, {}, "code"), produce).artifact
    capsys.readouterr()
    assert main(["account", "leo", "--remove", "--book", book, "--store", f"file://{tmp_path}/store"]) == 0
    assert f"held by {made.ref}: build it again" in capsys.readouterr().out
    assert main(["label", "--out", str(tmp_path / "after"), "--book", book]) == 0
    left = {json.loads(line)["rater"] for line in (tmp_path / "after/comparisons.jsonl").read_text().splitlines()}
    assert left == {team[0].pseudonym}
    assert team[1].pseudonym not in (tmp_path / "after/labels.jsonl").read_text()
