"""Pictures on the card: what is said of them is text, whoever said it."""

from pathlib import Path

import pytest

from modelyard.formats.images import data_url
from modelyard.formats.results import Reply, Shown, write_shown
from modelyard.progress import silent
from modelyard.release.card.seen import seen
from modelyard.release.decision import run
from tests.unit.release import evidence

PNG = data_url(b"\x89PNG")
ITEM = Shown(
    benchmark="easy_vqa",
    item="easy_vqa/0",
    images=(PNG, PNG),
    question="<script>alert(1)</script>?",
    choices=("<b>one</b>", "two"),
    target="two",
    replies={
        "policy": Reply(said="<img src=x onerror=alert(1)>", score=0.0),
        "no_vision": Reply(said="two", score=1.0),
        "sft": Reply(said="not shown", score=1.0),
    },
)


def test_items_are_shown_with_what_the_release_and_its_twin_say(tmp_path: Path) -> None:
    write_shown(tmp_path, [ITEM])
    [picture] = seen(tmp_path)["easy vqa"]
    assert picture.images == (PNG, PNG)
    assert [tuple(answer) for answer in picture.answers] == [("policy", "<img src=x onerror=alert(1)>", False), ("no_vision", "two", True)]
    assert seen(tmp_path / "none") == {}


@pytest.mark.parametrize("shown", [[], [ITEM]])
def test_card_shows_texts_of_others_as_text(shown: list[Shown], tmp_path: Path) -> None:
    inputs = evidence.write_all(tmp_path)
    write_shown(inputs["results"], shown)
    run(evidence.CONFIG, inputs, tmp_path, silent, evidence.satisfied, evidence.agreeing, "line")
    card = (tmp_path / "card.html").read_text()
    assert card.count(f'<img src="{PNG}"') == 2 * len(shown)
    assert "<script>alert" not in card
    assert "<img src=x" not in card
    assert ("&lt;script&gt;alert(1)&lt;/script&gt;?" in card) is bool(shown)
