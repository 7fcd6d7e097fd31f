"""The bench of judges by rules: one that knows finds every planted error and labels like people, one that guesses gives nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import harm_judge
from bench.harm_judge import Asked, few_shot, zero_shot
from modelyard.data.harms import gather
from modelyard.judges.answers import Answers
from modelyard.judges.harm_rules import HarmRule, asking
from modelyard.judges.judge import Judge
from tests.unit.judges.scripted import Scripted, biased
from tests.worlds.imported import harms

RULES = {"rude": HarmRule(version=1, text="no zzqx"), "cruel": HarmRule(version=1, text="no wwyk")}


def knows(context: str, option: str) -> float:
    """2 nats for the right answer about the last text, by the word that the rule names."""
    word = context.partition("Rule: no ")[2][:4]
    return 2.0 * ((word in context.rpartition("Text:")[2]) == option.startswith("Yes"))


@pytest.mark.parametrize("good", [True, False])
def test_bench_of_a_judge_that_knows_and_of_one_that_guesses(good: bool, tmp_path: Path) -> None:
    model = Scripted(biased(knows if good else lambda context, option: 0.0, ""))
    asked = Asked(Judge(model, asking(1, 0, False)), RULES, Answers(tmp_path / "answers"))
    texts = gather.split([gather.Row(str(row["prompt"]), {"rude": int(row["R"]), "cruel": int(row["C"])}) for row in harms()], 0.5)
    train, test = ([one for one in texts if one.split == side] for side in ("train", "test"))

    found = zero_shot(asked, train, test, [0.1], seeds=3)
    assert [one["kappa"] for one in found["zero-shot"]] == [float(good)] * 2
    planted = found["flipped 0.1"]
    assert planted["planted"]["value"] == round(0.1 * 2 * len(test))
    assert planted["judge: recall"]["value"] == float(good)
    assert (planted["judge: average precision of the ranking"]["value"] > 0.99) is good
    assert planted["classifier: average precision of the ranking"]["value"] > 0.5, "it learned from labels that were left alone"

    labelled = few_shot(asked, train, test, 12, None, 2, seed=0)
    assert labelled["texts that the judge labelled"] == len(train) - 12
    assert [labelled[f"kappa of {name}"] for name in RULES] == [float(good)] * 2
    assert (labelled["and more by the judge"] == labelled["and more by people"]) is good
    assert labelled["and more by people"] > 0.9
    with pytest.raises(ValueError, match=r"--category kind: .* has rules for sexual"):
        harm_judge.main("nowhere", labels=tmp_path / "labels.jsonl", category=["kind"])
