"""What the card says of texts that were too long: the stages' own counts."""

import json
from pathlib import Path

from modelyard import printable
from modelyard.release.card.card_template import TEMPLATE
from modelyard.release.card.lost_rows import lost_rows


def stage(root: Path, name: str, **metrics: float) -> Path:
    (root / name).mkdir()
    (root / name / "artifact.json").write_text(json.dumps({"metrics": {key.replace("__", "/"): value for key, value in metrics.items()}}))
    return root / name


def test_card_counts_of_stages_that_ran_dash_for_what_a_stage_cannot_have(tmp_path: Path) -> None:
    sft = {"sft__data__examples": 4010.0, "sft__data__too_long": 12.0, "sft__data__never_stop": 0.0, "sft__validation__too_long": 2.0}
    judged = {"ai_feedback__rankings__cut": 9.0, "ai_feedback__closed_domain__rewrite_cut": 1.0}
    reward = {
        "reward__train__comparisons": 3375.0,
        "reward__train__too_long": 0.0,
        "reward__train__cut": 7.0,
        "reward__test__too_long": 1.0,
    }
    inputs = {
        "sft": stage(tmp_path, "chosen", selection__epoch=2.0, selection__too_long=5.0),
        "seeing": stage(tmp_path, "sft", **sft),
        "reward": stage(tmp_path, "reward", **reward, reward__test__cut=4.0),
        "ai_feedback": stage(tmp_path, "ai_feedback", **judged),
        "gold": stage(tmp_path, "gold"),  # of a revision that counted nothing
        "policy": stage(
            tmp_path, "policy", policy__data__rows=2176.0, policy__data__too_long=3.0, policy__data__cut=40.0, policy__data__never_stop=21.0
        ),
        "feedme": tmp_path / "nowhere",
    }
    found = lost_rows(inputs)
    assert found == [
        ("sft: demonstrations", "4,010", "12", "\u2013", "0"),
        ("sft: held-out demonstrations", "\u2013", "2", "\u2013", "\u2013"),
        ("ai_feedback: ranked answers", "\u2013", "\u2013", "9", "\u2013"),
        ("ai_feedback: faithful rewrites", "\u2013", "\u2013", "1", "\u2013"),
        ("reward: comparisons", "3,375", "0", "7", "\u2013"),
        ("reward: test comparisons", "\u2013", "1", "4", "\u2013"),
        ("selection: prompts", "\u2013", "5", "\u2013", "\u2013"),
        ("policy: completions", "2,176", "3", "40", "21"),
    ]
    page = printable.page(TEMPLATE[TEMPLATE.index("{% if lost %}") : TEMPLATE.index("{% if feedback.counts %}")])
    assert (
        '<td>policy: completions</td><td class="n">2,176</td><td class="n">3</td><td class="n">40</td><td class="n">21</td>'
        in page.render(lost=found)
    )
    assert page.render(lost=lost_rows({})).strip() == ""
