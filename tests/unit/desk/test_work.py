"""Items reach labelers blind, each once, and nothing that was said is lost."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sql
from scipy.stats import entropy

from modelyard.commands.app import main
from modelyard.desk import accounts
from modelyard.desk.database import Database
from modelyard.desk.settings import DeskConfig
from modelyard.desk.tables import Account, Assignment, Batch, Finding, Item
from modelyard.desk.work import assignment as work
from modelyard.desk.work.answers import Ranking
from modelyard.desk.work.export import labels
from modelyard.desk.work.value import disagreement, unsureness
from modelyard.execution import ExecutionConfig
from modelyard.model import model_directory
from modelyard.model.scorer_model import ScorerModel
from modelyard.model.training.trainer import History
from modelyard.posttrain.rows.encoding import whole
from tests.unit import small_model
from tests.unit.desk.browsing import Person, batch, desk, people, question, shown
from tests.unit.desk.test_guards import POSTGRESQL, postgresql


def filled(count: int, ranks: dict[int, int] | None = None, **more: str) -> dict[str, str]:
    """A form with every answer ranked and marked, by its place on the page."""
    places = range(count)
    return {f"rank-{p}": str((ranks or {}).get(p, p + 1)) for p in places} | {f"rating-{p}": "4" for p in places} | more


def texts(page: str) -> list[str]:
    return re.findall(r'<div class="text">(answer [^<]+)</div>', page)


def test_labeler_sees_no_model_name_ranks_with_ties_and_the_export_has_it_in_the_items_order(database: Database) -> None:
    (lea,) = people(database, "lea")
    batch(database, [question(0)])
    person = Person(desk(database), "lea")
    page = person.get("/batches/1")
    assert "secret-model" not in page.text
    assert "Be truthful." in page.text
    order = texts(page.text)
    best = order.index("answer 2 to 0")
    ranks = {place: 1 if place == best else 4 for place in range(4)}
    flags = {f"flag-{best}": "opinion", "all_wrong": "1", "comment": "hm <b>", "seconds": "1e9"}
    done = person.post(page.url.path, action="submit", **filled(4, ranks, **flags))
    assert "Nothing is left for you" in shown(done)
    with database.read() as session:
        (label,) = labels(session)
        assert label.said == Ranking(
            ranks=(2, 2, 1, 2), ratings=(4,) * 4, flags=((), (), ("opinion",), ()), all_wrong=True, comment="hm <b>"
        )  # fmt: skip
        assert 0 <= label.assignment.seconds < 60, "no longer than the item was open"
        assert label.id == f"b-q0-{lea.pseudonym}"


def test_orders_shown_differ_between_labelers_and_items(database: Database) -> None:
    people(database, "lea", "leo")
    batch(database, [question(number) for number in range(6)], overlap=2)
    orders = set()
    for name in ("lea", "leo"):
        person = Person(desk(database), name)
        for _ in range(6):
            page = person.get("/batches/1")
            orders.add(tuple(text.split()[1] for text in texts(page.text)))
            person.post(page.url.path, action="submit", **filled(4))
    assert len(orders) > 4


def test_half_done_work_is_saved_resumed_and_refused_with_what_is_missing(database: Database) -> None:
    people(database, "lea")
    batch(database, [question(0), question(1)])
    person = Person(desk(database), "lea")
    page = person.get("/batches/1")
    saved = person.post(f"{page.url.path}/save", **{"rank-1": "3", "rating-0": "7", "comment": "so far"})
    assert saved.text.startswith("Saved ")
    again = Person(desk(database), "lea").get("/batches/1")
    assert again.url.path == page.url.path
    for one in ('name="rank-1" value="3" checked', 'name="rating-0" value="7" checked', "so far</textarea>"):
        assert one in again.text
    for form, said in (
        ({}, "4 of 4 answers have no rank"),
        ({"rank-0": "5"}, "rank-0: expected a number from 1 to 4"),
        ({"rank-0": "x"}, "rank-0"),
    ):
        refused = person.post(page.url.path, action="submit", **form)
        assert refused.status_code == 400
        assert said in shown(refused)
    assert person.post(page.url.path, action="skip", **filled(4)).status_code == 400
    gone = person.post(page.url.path, action="skip", reason="no idea", **filled(4))
    assert gone.url.path != page.url.path
    assert person.post(page.url.path, action="submit", **filled(4)).url.path == gone.url.path, "what was skipped is over"
    with database.read() as session:
        kept = session.get_one(Assignment, 1)
        assert (kept.state, kept.slot, kept.reason) == ("skipped", None, "no idea")
        assert kept.answer["ranks"] != [None] * 4


def test_nobody_reaches_anothers_item_or_works_without_consent_or_before_the_screening(database: Database) -> None:
    people(database, "lea", "leo")
    people(database, "new", admitted=False)
    batch(database, [question(0), question(1)])
    batch(database, [question(2)], "s", screening=True)
    app = desk(database)
    lea, leo, new = (Person(app, name) for name in ("lea", "leo", "new"))
    mine = lea.get("/batches/1").url.path
    assert leo.get(mine).status_code == 404
    assert leo.post(mine, action="submit", **filled(4)).status_code == 404
    assert new.get("/batches/1").status_code == 403
    assert lea.get("/batches/2").status_code == 403
    assert "question 2" in shown(new.get("/batches/2"))
    with database.write() as session:
        accounts.find(session, "lea").consented_at = None
    assert lea.get("/batches/1").url.path == "/me"


def test_reported_item_is_kept_from_everybody_and_waits_for_an_expert(database: Database) -> None:
    people(database, "lea", "leo")
    batch(database, [question(0)], overlap=2)
    app = desk(database)
    lea, leo = Person(app, "lea"), Person(app, "leo")
    theirs = leo.get("/batches/1").url.path
    page = lea.get("/batches/1")
    lea.post(page.url.path, action="report", reason="answer 2 is a threat", **filled(4))
    assert "Nothing is left" in shown(leo.get("/batches/1"))
    assert leo.get(theirs).status_code == 200, "who has it open may still send or skip it"
    with database.read() as session:
        finding = session.scalars(sql.select(Finding)).one()
        assert (finding.state, finding.note) == ("reported", "answer 2 is a threat")
        assert "answer 3 to 0" in finding.messages[-1]["content"]


def test_item_that_two_reported_is_given_out_again_once_both_reports_are_dismissed(database: Database) -> None:
    people(database, "lea", "leo")
    people(database, "eva", role="expert")
    batch(database, [question(0)], overlap=2)
    app = desk(database)
    labelers = [Person(app, name) for name in ("lea", "leo")]
    for page in [one.get("/batches/1").url.path for one in labelers]:
        next(one for one in labelers if one.get(page).status_code == 200).post(page, action="report", reason="a threat", **filled(4))
    eva = Person(app, "eva")
    for place, withheld in ((1, True), (2, False)):
        eva.post(f"/findings/{place}", action="dismiss", note="a quotation")
        with database.read() as session:
            assert session.get_one(Item, 1).withheld == withheld


def test_most_valuable_items_go_first_beside_a_random_share_that_is_marked(database: Database) -> None:
    (lea,) = people(database, "lea")
    batch(database, [question(number, value=number / 200) for number in range(200)])
    given = []
    with database.write() as session:
        account, one = session.get_one(Account, lea.id), session.get_one(Batch, 1)
        for _ in range(120):
            mine = work.following(session, account, one, DeskConfig(random_share=0.25))
            given.append((mine.at_random, session.get_one(Item, mine.item_id).value))
            mine.state = "done"
            session.flush()
    by_value = [value for at_random, value in given if not at_random]
    at_random = [value for at_random, value in given if at_random]
    assert by_value == sorted(by_value, reverse=True)
    assert 15 <= len(at_random) <= 45
    assert 0.3 < sum(at_random) / len(at_random) < 0.7


def test_value_is_highest_where_a_reward_model_is_unsure_or_judges_disagree() -> None:
    assert unsureness([1.0, 1.0, 1.0]) == 1
    assert unsureness([0.0, 2.0]) == pytest.approx(entropy([0.8807970780, 0.1192029220], base=2), abs=1e-8)  # sigmoid(2) and the rest
    assert unsureness([0.0, 1e9]) == pytest.approx(0, abs=1e-9)
    assert disagreement([[1, 2, 3], [3, 2, 1]]) == 1
    assert disagreement([[1, 2, 3], [1, 2, 3], [1, 3, 2]]) == pytest.approx(2 / 9)
    assert disagreement([[1, 1], [1, 2]]) == 0.5
    assert unsureness([]) == disagreement([[1, 2]]) == 0


def test_item_left_open_goes_to_another_and_what_was_saved_of_it_is_found_again(database: Database) -> None:
    lea, leo = people(database, "lea", "leo")
    batch(database, [question(0)])
    config = DeskConfig(lapse_hours=1e-9)
    with database.write() as session:
        one = session.get_one(Batch, 1)
        a, b = session.get_one(Account, lea.id), session.get_one(Account, leo.id)
        first = work.following(session, a, one, config)
        work.save(first, {"ranks": [1, None, None, None], "ratings": [None] * 4, "flags": [[]] * 4}, 0)
        second = work.following(session, b, one, config)
        assert (first.state, first.slot, second.slot) == ("lapsed", None, 0)
        assert work.following(session, a, one, config) is None
        work.skip(second, "no")
        assert work.following(session, a, one, config) is first
        assert first.answer["ranks"][0] == 1
        assert work.following(session, b, one, config) is None, "never the same item twice"


@pytest.mark.parametrize("items", [60, pytest.param(500, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "kind", ["sqlite", pytest.param("postgresql", marks=pytest.mark.skipif(not POSTGRESQL, reason="no PostgreSQL server is installed"))]
)
def test_twenty_labelers_at_once_lose_nothing_and_share_no_place(kind: str, items: int, tmp_path: Path) -> None:
    if kind == "postgresql":
        with postgresql(tmp_path) as url:
            _at_once(url, items)
    else:
        _at_once(f"sqlite:///{tmp_path}/desk.db", items)


def _at_once(url: str, items: int, overlap: int = 3, labelers: int = 20) -> None:
    """Everybody takes items until none is left and skips some, and comes back until nothing is left for anybody: the last places may be given back
    when others have gone. A database for each of four processes' worth."""
    databases = [Database(url) for _ in range(4)]
    team = people(databases[0], *(f"l{number}" for number in range(labelers)))
    batch(databases[0], [question(number) for number in range(items)], overlap=overlap)
    config, dices = DeskConfig(random_share=0.5), [random.Random(place) for place in range(labelers)]

    def labels_all(place: int) -> Counter[str]:
        mine, dice, said = databases[place % 4], dices[place], Counter[str]()
        while True:
            with mine.write() as session:
                given = work.following(session, session.get_one(Account, team[place].id), session.get_one(Batch, 1), config)
                if given is None:
                    return said
                number = given.id
            with mine.write() as session:
                given = session.get_one(Assignment, number)
                if dice.random() < 0.05:
                    work.skip(given, "hard")
                    said["skipped"] += 1
                else:
                    work.submit(session, given, {"ranks": [place + 1, 100, 101, 102], "ratings": [4] * 4, "flags": [[]] * 4}, 0)
                    said["done"] += 1

    with ThreadPoolExecutor(labelers) as pool:
        said = Counter[str]()
        while found := sum(pool.map(labels_all, range(labelers)), Counter()):
            said += found
    with databases[0].read() as session:
        rows = session.scalars(sql.select(Assignment)).all()
        states = Counter(row.state for row in rows)
        assert states == said
        done = [row for row in rows if row.state == "done"]
        assert len(done) == items * overlap, "every place of every item was filled"
        assert Counter(Counter(row.item_id for row in done).values()) == {overlap: items}
        assert max(Counter((row.item_id, row.account_id) for row in rows).values()) == 1
        assert len({row.account_id for row in done}) > overlap, "nobody can do it all alone"
    for one in databases:
        one.close()


def test_label_command_imports_once_and_names_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    book, items, config = f"sqlite:///{tmp_path}/desk.db", tmp_path / "items.jsonl", tmp_path / "b.toml"
    rows = [question(number).model_dump(mode="json", exclude_none=True) for number in range(3)]
    config.write_text('name = "b"\nkind = "ranking"\nitems = "items.jsonl"\noverlap = 2\n')

    def put(*lines: dict) -> int:
        items.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return main(["label", str(config), "--book", book])

    assert put(*rows[:2]) == 0
    assert "2 items added, 0 were there" in capsys.readouterr().out
    assert put(*rows) == 0
    assert "1 items added, 2 were there" in capsys.readouterr().out
    for bad, said in (
        ({**rows[0], "completions": ["same", "same"]}, "item q0: a ranking needs two different answers, got 1"),
        ({**rows[0], "reference": {"ranks": [1]}}, "items.jsonl:1: reference.ranks: 1 for 4 completions"),
        ({"id": "x"}, "items.jsonl:1: prompt"),
        ({**rows[0], "source": "nobody"}, "items.jsonl:1: source"),
    ):
        assert put({**bad, "id": "x"} if "completions" in bad and "reference" not in bad and bad["source"] != "nobody" else bad) == 2
        assert said.replace("q0", "x") in capsys.readouterr().err
    assert main(["label", "configs/label/screening.toml", "--book", book]) == 0
    assert "batch screening: 4 items added" in capsys.readouterr().out
    assert main(["label", "--book", book]) == 2
    assert main(["label", str(config), "--out", "x", "--book", book]) == 2
    assert main(["label", "--out", str(tmp_path / "out"), "--only", "none", "--book", book]) == 2
    assert not (tmp_path / "out").exists()


def test_answers_are_drawn_from_models_and_valued_by_a_reward_model_without_a_word_to_the_labeler(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small_model.write(tmp_path)
    engine = model_directory.load(tmp_path / "ours", ExecutionConfig(threads=1), head="scalar", seed=1)
    model_directory.write(engine, tmp_path / "tokens", History(), tmp_path / "reward")
    prompts = [{"id": f"p{number}", "prompt": f"the king {number}", "split": "train", "source": "user"} for number in range(3)]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in prompts))
    config = f"""name = "b"
kind = "ranking"
items = "prompts.jsonl"
reward = "{tmp_path}/reward"
[draw]
models = ["{tmp_path}/hf", "{tmp_path}/ours"]
k = 5
max_new_tokens = 6
"""
    (tmp_path / "b.toml").write_text(config)
    book = f"sqlite:///{tmp_path}/desk.db"
    assert main(["label", str(tmp_path / "b.toml"), "--book", book, "--threads", "1"]) == 0, capsys.readouterr().err
    database = Database(book)
    with database.read() as session:
        items = session.scalars(sql.select(Item).order_by(Item.id)).all()
        for item in items:
            assert len(item.samples) == len({sample["text"] for sample in item.samples}) == 5
            assert {sample["model"] for sample in item.samples} == {f"{tmp_path}/hf", f"{tmp_path}/ours"}
            assert 0 < item.value <= 1
        wanted = ScorerModel(tmp_path / "reward", ExecutionConfig(threads=1), 1)
        texts = [sample["text"] for sample in items[0].samples]
        by_hand = [wanted.scores([whole(wanted.encoder, "the king 0", text)])[0] for text in texts]
        assert items[0].value == pytest.approx(unsureness(by_hand), abs=1e-6)
    people(database, "lea")
    assert str(tmp_path) not in Person(desk(database), "lea").get("/batches/1").text
    (tmp_path / "b.toml").write_text(config.replace(f"{tmp_path}/reward", f"{tmp_path}/ours"))
    assert main(["label", str(tmp_path / "b.toml"), "--book", book]) == 2
    assert "ours: is no reward model" in capsys.readouterr().err
