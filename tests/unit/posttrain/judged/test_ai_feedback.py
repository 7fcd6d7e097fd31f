"""AI feedback as an artifact: people's records with a model's beside them, and a reward model that learns the judge from them."""

import json
from hashlib import sha256
from pathlib import Path

import pytest

from modelyard.execution import ExecutionConfig
from modelyard.formats.feedback import COMPARISONS, DEMONSTRATIONS, PROMPTS, Comparison, PromptRecord, records, write
from modelyard.judges.judge import Asking, Judge
from modelyard.model.subject import Subject
from modelyard.posttrain import reward
from modelyard.posttrain.judged import ai_feedback
from modelyard.posttrain.judged.ai_feedback import AIFeedbackConfig
from modelyard.posttrain.judged.rlaif import Candidates, label
from modelyard.posttrain.reward import RewardConfig
from modelyard.progress import silent
from tests.unit import small_model
from tests.unit.judges.scripted import Scripted, biased
from tests.unit.posttrain.test_sft_reward import REWARD

EXECUTION = ExecutionConfig(checkpoint_every=1000, log_every=100, threads=1)


def config(judge: Path, flags: Path) -> AIFeedbackConfig:
    weights = Subject.open("x", judge, EXECUTION, 4).weights
    return AIFeedbackConfig.model_validate(
        {
            "seed": 0,
            "keep_comparisons": True,
            "rlaif": {
                "judge": {"kind": "directory", "weights": weights, "orders": 2, "calibrate": "nothing", "shots": 0, "chat": False},
                "prompts": 4,
                "samples": 3,
                "max_new_tokens": 6,
                "temperature": 1.0,
                "tie": 0.0,
                "agreement_comparisons": 5,
            },
            "closed_domain": {"rounds": 2, "response_tokens": 4, "list_tokens": 4, "temperature": 1.0, "seed": 0},
            "flags": {"path": str(flags), "sha256": sha256(flags.read_bytes()).hexdigest()},
        }
    )


def test_ai_feedback_adds_a_models_comparisons_to_peoples(world: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_model.write(tmp_path, seq_len=512)
    monkeypatch.setenv("MODELYARD_JUDGE", str(tmp_path / "hf"))
    flags = tmp_path / "flags.jsonl"
    flags.write_text(
        json.dumps({"id": "1", "prompt": "p", "completion": "wrong", "factual": False, "correction": "right", "consent": True})
    )
    feedback, out = tmp_path / "feedback", tmp_path / "out"
    feedback.mkdir()
    out.mkdir()
    for name in (COMPARISONS, DEMONSTRATIONS):
        (feedback / name).write_bytes((world["feedback"] / name).read_bytes())
    prompts = list(records(world["feedback"] / PROMPTS, PromptRecord))
    write(feedback / PROMPTS, [one.model_copy(update={"category": "closed_domain" if i == 0 else ""}) for i, one in enumerate(prompts)])
    made = config(tmp_path / "hf", flags)

    metrics = ai_feedback.run(made, {"sft": world["base"], "feedback": feedback}, out, tmp_path, EXECUTION, silent)

    given, found = (list(records(path / COMPARISONS, Comparison)) for path in (feedback, out))
    new = found[len(given) :]
    assert found[: len(given)] == given
    assert {one.source for one in new} <= {"rlaif", "closed_domain", "open_domain"}
    judged = [one for one in new if one.source == "rlaif"]
    assert judged
    assert all(one.rater.startswith("directory ") and one.split == "reward" for one in judged)
    assert new[-1].completions == ("right", "wrong")
    assert metrics["ai_feedback/comparisons/made"] == len(new)
    assert metrics["ai_feedback/rlaif/agreement_n"] > 0
    assert (
        metrics["ai_feedback/closed_domain/faithful"]
        + metrics["ai_feedback/closed_domain/rewritten"]
        + metrics["ai_feedback/closed_domain/given_up"]
        == 1
    )
    assert (out / PROMPTS).read_bytes() == (feedback / PROMPTS).read_bytes()

    alone = made.model_copy(update={"keep_comparisons": False, "closed_domain": None, "flags": None})
    ai_feedback.run(alone, {"sft": world["base"], "feedback": feedback}, out, tmp_path, EXECUTION, silent)
    assert {one.source for one in records(out / COMPARISONS, Comparison) if one.split == "reward"} == {"rlaif"}

    flags.write_text(flags.read_text() + "\n")
    flags_alone, loop_alone = (made.model_copy(update={"rlaif": None, other: None}) for other in ("closed_domain", "flags"))
    with pytest.raises(ValueError, match=r"flags.jsonl has changed: sha256 [0-9a-f]{64}, the config says"):
        ai_feedback.run(flags_alone, {"sft": world["base"], "feedback": feedback}, out, tmp_path, EXECUTION, silent)
    with pytest.raises(ValueError, match="no training prompt is of category 'closed_domain'"):
        ai_feedback.run(loop_alone, {"sft": world["base"], "feedback": world["feedback"]}, out, tmp_path, EXECUTION, silent)


def test_ai_feedback_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one must make comparisons"):
        AIFeedbackConfig(seed=0, keep_comparisons=True)


def test_reward_model_trained_on_a_judges_labels_has_the_judges_taste(world: dict[str, Path], tmp_path: Path) -> None:
    """The judge wants complaints where people want praise: trained on its labels the model disagrees with people's test comparisons."""

    def gloomy(context: str, option: str) -> float:
        return 4.0 * any(word in option for word in ("bad", "dull"))

    judge = Judge(Scripted(biased(gloomy, "A")), Asking(orders=2, calibrate="none", shots=0, chat=False))
    people = list(records(world["feedback"] / COMPARISONS, Comparison))
    candidates = [Candidates(one.id, one.prompt, one.completions) for one in people if one.split == "reward"]
    labels = label(judge, candidates, "reward", tie=0.05)
    feedback, out = tmp_path / "feedback", tmp_path / "out"
    feedback.mkdir()
    out.mkdir()
    write(feedback / COMPARISONS, [*labels.comparisons, *(one for one in people if one.split == "test")])
    for name in (DEMONSTRATIONS, PROMPTS):
        (feedback / name).write_bytes((world["feedback"] / name).read_bytes())

    metrics = reward.run(RewardConfig(**REWARD), {"body": world["base"], "feedback": feedback}, out, tmp_path, EXECUTION, silent)

    assert len(labels.comparisons) > len(candidates) / 2
    assert metrics["reward/train/accuracy"] > 0.9
    assert metrics["reward/test/accuracy"] < 0.2
