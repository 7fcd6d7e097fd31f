"""Twenty labelers whose errors are those of real raters, at once at a real server: screening, agreement, export and reward model are as planted.

A labeler's vote on a text is drawn from the votes that some nineteen people gave it (``real_votes.txt``), so that each errs as real raters
do; how often two such labelers order a pair alike then follows exactly from the votes. One is careless: their votes are another text's.
"""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import sqlalchemy as sql
import torch
import uvicorn

from modelyard.commands.app import main
from modelyard.desk.database import Database
from modelyard.desk.settings import ScreeningLimits
from modelyard.desk.tables import Account, Assignment, Item
from modelyard.desk.work import quality
from modelyard.desk.work.agreement import Ranked, pairwise, ranked
from modelyard.desk.work.export import labels
from modelyard.execution import ExecutionConfig
from modelyard.formats.feedback import DEMONSTRATIONS
from modelyard.model import model_directory
from modelyard.posttrain import reward
from modelyard.posttrain.reward import RewardConfig
from modelyard.progress import silent
from tests.unit.desk.browsing import Person, batch, desk, people, question, token
from tests.unit.desk.test_line import gathered
from tests.unit.desk.test_work import texts
from tests.unit.posttrain.conftest import world as world
from tests.unit.posttrain.policy.policies import weights
from tests.unit.posttrain.test_sft_reward import REWARD

K, LABELERS, OVERLAP = 4, 20, 3
SCREENED = 8
"""Items of the screening."""
FIRST = 1000
"""Number of the first of them; the others count from 0."""


class Rated(NamedTuple):
    """K texts with all their real votes."""

    votes: tuple[np.ndarray, ...]

    @property
    def reference(self) -> list[int]:
        """The order of the means, 1 for the best."""
        means = [float(one.mean()) for one in self.votes]
        return [1 + sum(other > mean for other in means) for mean in means]


def real_votes() -> list[np.ndarray]:
    """Every snippet's votes, from -4 to 4."""
    lines = (Path(__file__).parent / "real_votes.txt").read_text().splitlines()
    return [np.array([ord(vote) - ord("e") for vote in line.split()[1]]) for line in lines if not line.startswith("#")]


def for_work() -> list[Rated]:
    """Texts as they come, four an item."""
    found = real_votes()
    return [Rated(tuple(found[place : place + K])) for place in range(0, len(found), K)]


def for_screening() -> list[Rated]:
    """Texts whose means lie apart, so that their order is known."""
    found = sorted(real_votes(), key=lambda votes: (float(votes.mean()), len(votes)))
    apart = len(found) // K
    return [Rated(tuple(found[3 * number + apart * place] for place in range(K))) for number in range(SCREENED)]


def ranks_of(item: Rated, careless: bool, dice: np.random.Generator) -> list[int]:
    """Ranks by a vote on each text, with ties where votes tie."""
    order = dice.permutation(K) if careless else range(K)
    votes = [int(dice.choice(item.votes[place])) for place in order]
    values = sorted(set(votes), reverse=True)
    return [1 + values.index(vote) for vote in votes]


def planted(items: Sequence[Rated]) -> float:
    """How often two raters put a pair in the same order, of those in which neither ties: exactly, from the votes."""
    alike = decided = 0.0
    for item in items:
        for one, other in combinations(item.votes, 2):
            signs = np.sign(one[:, None] - other[None, :])
            up, down = float((signs > 0).mean()), float((signs < 0).mean())
            alike, decided = alike + up * up + down * down, decided + (up + down) ** 2
    return alike / decided


def test_intervals_of_agreement_cover_what_real_raters_votes_plant() -> None:
    items, covered = for_work(), 0
    wanted = planted(items)
    assert 0.85 < wanted < 0.93
    for seed in range(100):
        dice = np.random.default_rng(seed)
        drawn = [Ranked(place, f"r{who}", tuple(ranks_of(item, False, dice))) for place, item in enumerate(items) for who in range(OVERLAP)]
        found = pairwise(drawn)
        covered += found.low <= wanted <= found.high
    assert covered >= 89, "0.95 of 100, and fewer than 89 has a chance under 1 in 100"


@contextmanager
def served(application: object) -> Iterator[str]:
    """The address of a real server."""
    server = uvicorn.Server(uvicorn.Config(application, host="127.0.0.1", port=0, access_log=False, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        thread.join(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def works(person: Person, number: int, batch_id: int, items: dict[int, Rated]) -> list[tuple[int, list[int]]]:
    """Rank what the batch has for a labeler, page by page; (item, its ranks) as they were sent."""
    sent, page = [], person.get(f"/batches/{batch_id}")
    while shown := texts(page.text):
        item = int(shown[0].split()[-1])
        ranks = ranks_of(items[item], number == LABELERS - 1, np.random.default_rng([number, item]))
        form = {f"rating-{place}": "4" for place in range(K)}
        form |= {f"rank-{place}": str(ranks[int(re.search(r"\d+", text)[0])]) for place, text in enumerate(shown)}
        page = person.client.post(page.url.path, data={"csrf": token(page), "action": "submit", **form})
        assert page.status_code == 200, page.text
        sent.append((item, ranks))
    return sent


@pytest.mark.slow
def test_twenty_real_raters_at_once_are_screened_counted_and_exported_as_they_voted(
    database: Database, world: dict[str, Path], tmp_path: Path
) -> None:
    rated = dict(enumerate(for_work())) | dict(enumerate(for_screening(), FIRST))
    work = [number for number in rated if number < FIRST]
    batch(database, [question(n, reference={"ranks": rated[n].reference}) for n in rated if n >= FIRST], "screening", screening=True)
    batch(database, [question(number) for number in work], "work", overlap=OVERLAP)
    team = people(database, *(f"rater {number:02d}" for number in range(LABELERS)), admitted=False)
    people(database, "ada", role="admin")
    with served(desk(database)) as address, ThreadPoolExecutor(LABELERS) as pool:
        crowd = list(pool.map(lambda account: Person(address, account.name), team))
        screened = list(pool.map(lambda place: works(crowd[place], place, 1, rated), range(LABELERS)))
        with database.read() as session:
            found = {one.labeler.name: one.screening for one in quality.figures(labels(session), ScreeningLimits())}
        assert [name for name, one in found.items() if "ranking" in one.below] == ["rater 19"], "the careless one, and nobody else"
        assert {one.items for one in found.values()} == {SCREENED}
        ada = Person(address, "ada")
        for account in team[:-1]:
            ada.post(f"/accounts/{account.id}", action="admit")
        worked = list(pool.map(lambda place: works(crowd[place], place, 2, rated), range(LABELERS - 1)))
        assert crowd[-1].get("/batches/2").status_code == 403

    assert all(len(one) == SCREENED for one in screened)
    votes = {(item, team[place].pseudonym): ranks for place, some in enumerate(worked) for item, ranks in some}
    assert len(votes) == sum(map(len, worked)) == len(work) * OVERLAP, "every place was filled once"
    assert set(Counter(item for item, _ in votes).values()) == {OVERLAP}
    with database.read() as session:
        rows = session.execute(sql.select(Assignment, Item, Account).join(Item, Assignment.item_id == Item.id).join(Account)).all()
        kept = {(int(item.key[1:]), who.pseudonym): list(mine.answer["ranks"]) for mine, item, who in rows if item.batch_id == 2}
        assert {mine.state for mine, _, _ in rows} == {"done"}
        assert kept == votes, "nothing is lost and nothing changed"
        agreed = pairwise(ranked([label for label in labels(session) if label.batch.name == "work"]))
    assert abs(agreed.value - planted([rated[number] for number in work])) < 4 * agreed.stderr

    assert main(["label", "--out", str(tmp_path / "desk"), "--book", str(database.engine.url)]) == 0
    by_hand = tmp_path / "by-hand.jsonl"
    by_hand.write_text("".join(json.dumps(row) + "\n" for row in as_a_file(votes)))
    gathered(tmp_path / "desk/comparisons.jsonl", tmp_path / "from-desk", held_out_raters=0.2)
    gathered(by_hand, tmp_path / "from-file", held_out_raters=0.2)
    for name in ("comparisons.jsonl", "prompts.jsonl", "demonstrations.jsonl"):
        assert (tmp_path / "from-desk" / name).read_bytes() == (tmp_path / "from-file" / name).read_bytes()
    assert len((tmp_path / "from-desk/comparisons.jsonl").read_text().splitlines()) > 80

    (learned, desk_weights), (same, file_weights) = (rewarded(world, tmp_path / name) for name in ("from-desk", "from-file"))
    assert learned == same
    assert all(torch.equal(desk_weights[name], file_weights[name]) for name in desk_weights)
    assert learned["reward/held_out_raters/accuracy_n"] > 0, "some labelers are only asked about what it learned"

    backwards = {place: [1 + K - rank for rank in ranks] for place, ranks in votes.items()}
    by_hand.write_text("".join(json.dumps(row) + "\n" for row in as_a_file(backwards)))
    gathered(by_hand, tmp_path / "from-others", held_out_raters=0.2)
    _, others_weights = rewarded(world, tmp_path / "from-others")
    assert not all(torch.equal(desk_weights[name], others_weights[name]) for name in desk_weights), "other votes teach something else"


def rewarded(world: dict[str, Path], feedback: Path) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
    """What was measured of a reward model that is trained on ``feedback``, and its weights."""
    (feedback / DEMONSTRATIONS).write_bytes((world["feedback"] / DEMONSTRATIONS).read_bytes())
    out = feedback / "reward"
    out.mkdir()
    config, execution = RewardConfig(**REWARD), ExecutionConfig(log_every=100, threads=1)
    metrics = reward.run(config, {"body": world["base"], "feedback": feedback}, out, feedback / "ck", execution, silent)
    return metrics, weights(model_directory.load(out, execution, seed=0, precision="fp32", head="scalar"))


def as_a_file(votes: dict[tuple[int, str], list[int]]) -> Iterator[dict]:
    """The same votes as somebody without a desk would write them down."""
    for (item, rater), ranks in sorted(votes.items()):
        yield {
            "id": f"work-q{item}-{rater}", "rater": rater, "prompt": [{"role": "user", "content": f"question {item}"}],
            "completions": [f"answer {place} to {item}" for place in range(K)], "ranks": ranks,
        }  # fmt: skip
