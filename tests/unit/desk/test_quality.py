"""Agreement, screening, drift and attention of simulated labelers whose errors are known."""

from __future__ import annotations

import json
import math
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pytest

from modelyard.commands.app import main
from modelyard.desk.database import Database
from modelyard.desk.settings import DeskConfig, ScreeningLimits
from modelyard.desk.tables import Account, Assignment, Batch, Item
from modelyard.desk.work import assignment as work
from modelyard.desk.work import quality
from modelyard.desk.work.agreement import Ranked, agreement, pairwise, with_others, with_reference
from modelyard.desk.work.export import labels
from modelyard.stats.krippendorff_alpha import alpha
from modelyard.stats.ratio import bootstrapped_ratio
from tests.unit.desk.browsing import Person, batch, desk, people, question, shown

K = 4
TRUTH = tuple(range(1, K + 1))


def ranking(error: float, dice: np.random.Generator) -> tuple[int, ...]:
    """The right order, or with probability ``error`` any."""
    return tuple(int(rank) + 1 for rank in dice.permutation(K)) if dice.random() < error else TRUTH


def rankings(items: int, errors: list[float], dice: np.random.Generator) -> list[Ranked]:
    return [Ranked(item, f"r{rater}", ranking(error, dice)) for item in range(items) for rater, error in enumerate(errors)]


def planted(one: float, other: float) -> float:
    """How often two such labelers order a pair alike: always where both know, else by chance."""
    both = (1 - one) * (1 - other)
    return both + (1 - both) / 2


def test_intervals_of_agreement_cover_the_planted_value_as_often_as_they_say() -> None:
    errors = [0.1, 0.3, 0.6]
    wanted = np.mean([planted(a, b) for a, b in combinations(errors, 2)])
    covered, of_one = 0, 0
    for seed in range(80):
        drawn = rankings(40, errors, np.random.default_rng(seed))
        found = pairwise(drawn)
        covered += found.low <= wanted <= found.high
        mine = with_others("r2", drawn)
        of_one += mine.low <= np.mean([planted(0.6, 0.1), planted(0.6, 0.3)]) <= mine.high
    assert 70 <= covered <= 80, "0.95 of 80 is 76, and fewer than 70 has a chance under 1 in 200"
    assert 70 <= of_one <= 80


def slow_alpha(units: list[list[int]]) -> float:
    """Nominal alpha by its definition: observed over expected disagreement of all pairs within units and of all values."""
    units = [unit for unit in units if len(unit) > 1]
    total = sum(len(unit) for unit in units)
    observed = sum(sum(a != b for (i, a), (j, b) in product(enumerate(u), enumerate(u)) if i != j) / (len(u) - 1) for u in units) / total
    values = [value for unit in units for value in unit]
    expected = sum(a != b for (i, a), (j, b) in product(enumerate(values), enumerate(values)) if i != j) / (total * (total - 1))
    return 1 - observed / expected


def test_alpha_is_its_definition_with_missing_ratings_and_is_zero_for_chance() -> None:
    dice = np.random.default_rng(0)
    units = [[int(value) for value in dice.choice(3, dice.integers(1, 6), p=(0.5, 0.3, 0.2))] for _ in range(40)]
    counts = np.array([np.bincount(unit, minlength=3) for unit in units])
    assert alpha(counts, "nominal") == pytest.approx(slow_alpha(units), abs=1e-12)
    assert math.isnan(alpha(np.array([[1, 0], [0, 1]]), "nominal")), "nobody rated the same"
    random = agreement(rankings(300, [1.0, 1.0, 1.0], dice))
    assert random.alpha.low < 0 < random.alpha.high
    assert random.pairwise.low < 0.5 < random.pairwise.high
    assert agreement(rankings(20, [0.0, 0.0], dice)).pairwise.value == 1


def test_alpha_of_orders_without_ties_is_twice_the_agreement_less_one_wherever_the_better_answer_stands() -> None:
    found = agreement(rankings(300, [0.4, 0.2, 0.3], np.random.default_rng(5)))
    assert found.alpha.value == pytest.approx(2 * found.pairwise.value - 1, abs=1e-3)


def test_ties_make_no_pair_of_the_papers_figure_and_a_third_value_of_alpha() -> None:
    one, other = Ranked(0, "a", (1, 1, 2)), Ranked(0, "b", (1, 2, 2))
    found = agreement([one, other])
    assert (found.pairwise.value, found.pairwise.n) == (1.0, 1)
    assert found.alpha.value == pytest.approx(slow_alpha([[1, 0], [0, 0], [0, 1], [1, 2], [2, 2], [2, 1]]))
    assert with_reference([((1, 1, 2), (1, 2, 3))]).value == pytest.approx(2 / 3)


def test_ratio_is_of_sums_and_wider_than_if_pairs_were_independent() -> None:
    found = bootstrapped_ratio([(6, 6), (0, 6)] * 20 + [(0, 0)], 1)
    assert (found.value, found.n) == (0.5, 240)
    assert found.high - found.low > 3 * 0.5 / math.sqrt(240)
    assert bootstrapped_ratio([(6, 6)] * 3, 1).low < 0.5, "three items of which all pairs agree prove little"


def labelled(
    database: Database, people_: list[Account], errors: list[float], number: int, dice: np.random.Generator, late: float = 0.0
) -> None:
    """Every labeler does all that a batch has for them; from the middle on with ``late`` more errors."""
    with database.write() as session:
        one = session.get_one(Batch, number)
        for account, error in zip(people_, errors, strict=True):
            done = 0
            while given := work.following(session, session.get_one(Account, account.id), one, DeskConfig(attention_every=5)):
                item = session.get_one(Item, given.item_id)
                said = ranking(error + (late if done >= 46 else 0), dice)
                sensitive = [["sexual"] if (place == 3) == (dice.random() >= error) else [] for place in range(K)]
                work.submit(session, given, {"ranks": said, "ratings": [4] * K, "flags": sensitive}, 0)
                done += 1
                assert item.batch_id == number


def test_screening_and_attention_find_the_careless_and_drift_finds_who_tires(database: Database) -> None:
    dice = np.random.default_rng(4)
    known = {"reference": {"ranks": list(TRUTH), "sensitive": [False, False, False, True]}}
    batch(database, [question(number, **known) for number in range(24)], "s", screening=True)
    attention = [question(1000 + number, attention=True, reference={"ranks": list(TRUTH)}) for number in range(12)]
    batch(database, [*(question(number) for number in range(80)), *attention], "w", overlap=4)
    team = people(database, "careful", "careless", "good", "tiring")
    labelled(database, team, [0.05, 0.9, 0.1, 0.05], 1, dice)
    labelled(database, team[:3], [0.05, 0.9, 0.1], 2, dice)
    labelled(database, team[3:], [0.05], 2, dice, late=0.8)
    with database.read() as session:
        found = {one.labeler.name: one for one in quality.figures(labels(session), ScreeningLimits())}
    assert {name: one.screening.below for name, one in found.items()} == {
        "careful": (), "good": (), "tiring": (), "careless": ("ranking", "sensitive"),
    }  # fmt: skip
    assert found["careful"].screening.items == 24
    assert found["careless"].attention.high < found["careful"].attention.low
    assert found["careless"].with_others.high < found["good"].with_others.low
    drifts = {name: one.drift.value for name, one in found.items()}
    assert found["tiring"].drift.high < 0
    assert min(drifts, key=drifts.get) == "tiring", "others fall a little too, since they are compared with them"
    assert found["good"].done == 24 + 80 + 12


def test_expert_grades_demonstrations_blind_and_copies_of_the_model_are_shown(database: Database, tmp_path: Path) -> None:
    people(database, "lea", admitted=False)
    people(database, "eva", role="expert")
    said = "The tides come from the pull of the moon upon the waters of the sea, twice a day."
    row = {"id": "d", "prompt": "Explain tides.", "completions": [{"text": said, "model": "m"}]}
    own = {"id": "own", "prompt": "Ask what a baker is asked.", "asks_prompt": True}
    batch(database, [type(question(0)).model_validate(one) for one in (row, own)], "s", kind="demonstration", screening=True)
    app = desk(database)
    lea, eva = Person(app, "lea"), Person(app, "eva")
    for _ in range(2):
        page = lea.get("/batches/1")
        assert lea.post(page.url.path, action="submit", completion=" ").status_code == 400
        lea.post(page.url.path, action="submit", prompt="Have you rye bread?", completion=said.upper())
    with database.read() as session:
        pseudonym = session.get_one(Account, 1).pseudonym
    page = eva.get("/quality/demonstrations")
    assert pseudonym not in page.text
    assert page.text.count("nearly a model's own text") == 1
    for number in (1, 2):
        assert eva.post(f"/quality/demonstrations/{number}", grade="6" if number == 1 else "5").status_code == 200
    assert eva.post("/quality/demonstrations/1", grade="8").status_code == 400
    assert lea.get("/quality").status_code == 403
    assert "below: demonstration" in shown(eva.get("/quality"))
    with database.read() as session:
        assert session.get_one(Assignment, 1).grade == 6
        (found,) = quality.figures(labels(session), ScreeningLimits())
        assert (found.screening.demonstration, found.copied) == (5.5, 1)


def test_removed_labeler_leaves_no_answer_and_frees_the_places(
    database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    team = people(database, "lea", "leo")
    batch(database, [question(number) for number in range(3)], "w")
    labelled(database, team[:1], [0.0], 1, np.random.default_rng(0))
    book, store = str(database.engine.url), f"file://{tmp_path}/store"
    assert main(["label", "--out", str(tmp_path / "out"), "--book", book]) == 0
    rows = [json.loads(line) for line in (tmp_path / "out/comparisons.jsonl").read_text().splitlines()]
    assert {row["rater"] for row in rows} == {team[0].pseudonym}
    assert main(["account", "lea", "--remove", "--book", book, "--store", store]) == 0
    assert f"{team[0].pseudonym} removed: 3 answers, 0 chats" in capsys.readouterr().out
    labelled(database, team[1:], [0.0], 1, np.random.default_rng(0))
    with database.read() as session:
        assert [label.labeler.name for label in labels(session)] == ["leo"] * 3
