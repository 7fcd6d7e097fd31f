"""AI feedback as an artifact: people's records with a model's beside them, and a reward model that learns the judge from them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from flows.pipeline_config import load_pipeline
from modelyard.config import ConfigError
from modelyard.execution import ExecutionConfig
from modelyard.formats.feedback import (
    COMPARISONS,
    DEMONSTRATIONS,
    PROMPTS,
    THUMBS,
    Comparison,
    Message,
    Prompt,
    PromptRecord,
    read,
    records,
    write,
)
from modelyard.formats.flags import FLAGS, Flag
from modelyard.judges import record
from modelyard.judges.judge import Asking, Judge
from modelyard.model.asked import Decoding
from modelyard.model.subject import Subject
from modelyard.posttrain import reward
from modelyard.posttrain.judged import ai_feedback
from modelyard.posttrain.judged.ai_feedback import AIFeedbackConfig
from modelyard.posttrain.judged.candidates import Candidates, SampledConfig, answers
from modelyard.posttrain.judged.rlaif import label
from modelyard.posttrain.reward import RewardConfig
from modelyard.progress import silent
from tests.unit import small_model
from tests.unit.completions_server import serving
from tests.unit.judges.scripted import Scripted, biased
from tests.unit.posttrain.test_sft_reward import REWARD

SHIPPED = load_pipeline("configs/pipeline/smollm2.toml", ()).ai_feedback
EXECUTION = ExecutionConfig(checkpoint_every=1000, log_every=100, threads=1)


def config(judge: Path) -> AIFeedbackConfig:
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
                "min_kappa": -1.0,
            },
            "closed_domain": {
                "judge": {"kind": "directory", "weights": weights},
                "rubric": SHIPPED.closed_domain.rubric,
                "min_kappa": -1.0,
                "prompts": 4,
                "rounds": 2,
                "response_tokens": 4,
                "list_tokens": 4,
                "temperature": 1.0,
                "seed": 0,
            },
            "rankings": {
                "judge": {"kind": "directory", "weights": weights, "orders": 1, "calibrate": "nothing", "shots": 0, "chat": False},
                "rules": [{"rubric": SHIPPED.rankings.rules[0].rubric, "stance": "refuse", "categories": ["", "closed_domain"]}],
                "min_kappa": -1.0,
                "prompts": {"reward": 3, "gold": 1, "test": 1},
                "max_prompt_tokens": 20,
                "samples": 4,
                "max_new_tokens": 6,
                "temperature": 1.0,
                "tie": 0.0,
            },
            "open_domain": True,
        }
    )


def test_answers_that_did_not_end_are_counted_and_left_out_where_the_config_says_so(world: dict[str, Path]) -> None:
    policy = Subject.open("policy", world["base"], EXECUTION, micro_batch=8)
    prompts = list(records(world["feedback"] / PROMPTS, PromptRecord)) * 16  # few samples of a model of nothing end
    settings = SampledConfig(samples=4, max_new_tokens=24, temperature=1.0)
    every = answers(settings, policy, prompts, seed=1)
    whole = answers(settings.model_copy(update={"cut": "leave_out"}), policy, prompts, seed=1)
    decoding = Decoding(max_new_tokens=24, temperature=1.0, samples=1, seed=1)
    drawn = policy.follow([one.prompt for one in prompts for _ in range(4)], decoding)
    ends = [one.tokens[-1] in policy.encoder.ends for one in drawn]
    assert every.cut == whole.cut == ends.count(False)
    assert 0 < every.cut < len(drawn)
    assert [one.ended for one in drawn] == ends
    for number, (all_of, left) in enumerate(zip(every.candidates, whole.candidates, strict=True)):
        mine = slice(4 * number, 4 * number + 4)
        assert set(all_of.completions) == {one.text for one in drawn[mine] if one.text.strip()}
        assert set(left.completions) == {one.text for one, end in zip(drawn[mine], ends[mine], strict=True) if end and one.text.strip()}


def flag(name: str, split: str, prompt: Prompt, **more: object) -> Flag:
    fields = {"id": name, "split": split, "source": "app", "prompt": prompt, "completion": "wrong", "factual": False}
    return Flag.model_validate({**fields, "correction": "right", **more})


def asked_for(
    world: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[AIFeedbackConfig, dict[str, Path], ExecutionConfig]:
    """A config with every source, what the stage reads, and where it runs; judge and feedback lie under ``tmp_path``."""
    small_model.write(tmp_path, seq_len=512)
    monkeypatch.setenv("MODELYARD_JUDGE", str(tmp_path / "hf"))
    feedback = tmp_path / "feedback"
    feedback.mkdir()
    for name in (COMPARISONS, DEMONSTRATIONS, THUMBS):
        (feedback / name).write_bytes((world["feedback"] / name).read_bytes())
    prompts = list(records(world["feedback"] / PROMPTS, PromptRecord))
    write(feedback / PROMPTS, [one.model_copy(update={"category": "closed_domain" if i == 0 else ""}) for i, one in enumerate(prompts)])
    write(feedback / FLAGS, [flag("1", "reward", "p"), flag("2", "gold", prompts[1].prompt), flag("3", "test", "r")])
    return config(tmp_path / "hf"), {"sft": world["base"], "feedback": feedback}, EXECUTION


def test_ai_feedback_adds_a_models_comparisons_to_peoples(world: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, inputs, execution = asked_for(world, tmp_path, monkeypatch)
    feedback, out = inputs["feedback"], tmp_path / "out"
    out.mkdir()

    metrics = ai_feedback.run(made, inputs, out, tmp_path / "ck", execution, silent)

    given, found = (list(records(path / COMPARISONS, Comparison)) for path in (feedback, out))
    new = found[len(given) :]
    assert found[: len(given)] == given
    assert {one.source for one in new} <= {"rankings", "rlaif", "closed_domain", "open_domain"}
    assert all((one.ranked_by == "judge") == (one.source != "open_domain") for one in new)
    rankings = [one for one in new if one.source == "rankings"]
    assert rankings
    assert all(2 <= len(one.completions) <= 4 for one in rankings)
    judged = [one for one in new if one.source == "rlaif"]
    assert judged
    assert all(one.rater.startswith("directory ") and one.split == "reward" for one in judged)
    told = [one for one in new if one.source == "open_domain"]
    assert [(one.split, one.prompt, one.completions) for one in told] == [
        (split, prompt, ("right", "wrong")) for split, prompt in (("reward", "p"), ("gold", told[1].prompt), ("test", "r"))
    ]
    assert told[1].prompt in [one.prompt for one in read(feedback / PROMPTS, PromptRecord, "train")[:4]], (
        "a judge would prefer among its answers"
    )
    assert {one.split for one in new if one.prompt == told[1].prompt} == {"gold"}
    assert metrics["ai_feedback/comparisons/made"] == len(new)
    assert metrics["ai_feedback/rlaif/agreement_n"] > 0
    assert (
        metrics["ai_feedback/closed_domain/faithful"]
        + metrics["ai_feedback/closed_domain/rewritten"]
        + metrics["ai_feedback/closed_domain/given_up"]
        + metrics["ai_feedback/closed_domain/unclear"]
        == 1
    )
    kept = record.read(out)
    assert kept is not None
    assert {one.source: one.comparisons for one in kept.counts if one.ranked_by == "judge" and one.split == "reward"} == {
        source: count
        for source in ("rankings", "rlaif", "closed_domain")
        if (count := sum(one.source == source and one.split == "reward" for one in new))
    }
    assert sum(one.comparisons for one in kept.counts) == len(found)
    assert [one.rubric.split("-")[0] for one in kept.agreement] == ["refusal_style", "preference", "closed_domain"]
    assert kept.set_aside == ()
    assert (out / PROMPTS).read_bytes() == (feedback / PROMPTS).read_bytes()

    alone = made.model_copy(update={"keep_comparisons": False, "rankings": None, "closed_domain": None, "open_domain": False})
    ai_feedback.run(alone, {"sft": world["base"], "feedback": feedback}, out, tmp_path, EXECUTION, silent)
    assert {one.source for one in records(out / COMPARISONS, Comparison) if one.split == "reward"} == {"rlaif"}

    strict = alone.model_copy(update={"keep_comparisons": True, "rlaif": made.rlaif.model_copy(update={"min_kappa": 1.0})})
    ai_feedback.run(strict, {"sft": world["base"], "feedback": feedback}, out, tmp_path, EXECUTION, silent)
    assert list(records(out / COMPARISONS, Comparison)) == given, "a judge that agrees too little labels nothing"
    set_aside = record.read(out).set_aside
    assert ["preferences among the policy's samples" in one.what and "below min_kappa 1" in one.reason for one in set_aside] == [True]

    loop_alone = made.model_copy(update={"rankings": None, "rlaif": None, "open_domain": False})
    with pytest.raises(ValueError, match="no training prompt is of category 'closed_domain'"):
        ai_feedback.run(loop_alone, {"sft": world["base"], "feedback": world["feedback"]}, out, tmp_path, EXECUTION, silent)


def test_flag_whose_prompt_lies_on_another_side_trains_nothing() -> None:
    asked = (Message(role="system", content="Be kind."), Message(role="user", content="Who?"))
    flags = [flag("1", "reward", "p"), flag("2", "reward", "Who?"), flag("3", "gold", "Who?"), flag("4", "reward", "q", correction="")]
    flags.append(flag("5", "reward", "s").model_copy(update={"prompt": asked}))
    compared = {"id": "c", "split": "test", "source": "x", "prompt": asked, "completions": ("a", "b"), "ranks": (1, 2)}
    found = ai_feedback.flagged(flags, [Comparison.model_validate(compared)])
    assert [(one.id, one.split) for one in found.comparisons] == [("open_domain-1-0", "reward"), ("open_domain-3-0", "gold")]
    assert found.metrics == {"unpaired": 1.0, "other_side": 2.0}
    assert found.set_aside == ()
    (aside,) = ai_feedback.flagged(flags[3:4], []).set_aside
    assert aside.reason == "none has a better answer beside it"


def test_table_of_a_file_of_flags_is_an_unknown_key() -> None:
    with pytest.raises(ConfigError, match=r"ai_feedback\.flags: unknown key"):
        load_pipeline("configs/pipeline/smollm2.toml", ('ai_feedback.flags={path="flags.jsonl", sha256="00"}',))


def larger(message: str) -> str:
    """A judge that knows which of the shipped labelled responses are faithful, finds fault with all others, and rewrites to ``It is so.``"""
    response = message.partition("Response:\n")[2].partition("\n\n")[0]
    if "Rewrite the response" in message:
        return " It is so."
    labels = {one.response: one.label for one in SHIPPED.closed_domain.rubric.labelled()}
    return " none" if response == "It is so." or labels.get(response) == 0 else "- something that nobody said"


def closed_world(world: dict[str, Path], root: Path) -> Path:
    """The world's feedback with two closed-domain prompts."""
    for name in (COMPARISONS, DEMONSTRATIONS, THUMBS):
        (root / name).write_bytes((world["feedback"] / name).read_bytes())
    prompts = list(records(world["feedback"] / PROMPTS, PromptRecord))[:4]
    write(root / PROMPTS, [one.model_copy(update={"category": "closed_domain" if i < 2 else ""}) for i, one in enumerate(prompts)])
    return root


@pytest.mark.parametrize(("says", "made"), [(larger, 2), (lambda message: " none", 0)])
def test_shipped_hallucination_config_with_a_larger_judge_behind_an_endpoint(
    says: Callable[[str], str], made: int, world: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = 'ai_feedback.closed_domain.judge={kind = "endpoint", model = "large"}'
    shipped = load_pipeline("configs/pipeline/smollm2.toml", (judge,)).ai_feedback
    assert shipped is not None
    assert shipped.closed_domain is not None
    loop = shipped.closed_domain.model_copy(update={"response_tokens": 8})  # the world's model reads 32 tokens
    config = shipped.model_copy(update={"rankings": None, "closed_domain": loop})
    feedback, out = tmp_path / "feedback", tmp_path / "out"
    feedback.mkdir()
    out.mkdir()
    closed_world(world, feedback)

    with serving(Scripted(say=lambda prompt: says(prompt.removeprefix("User: ")))) as url:
        monkeypatch.setenv("MODELYARD_JUDGE", url)
        metrics = ai_feedback.run(config, {"sft": world["base"], "feedback": feedback}, out, tmp_path, EXECUTION, silent)

    new = [one for one in records(out / COMPARISONS, Comparison) if one.source == "closed_domain"]
    kept = record.read(out)
    assert kept is not None
    assert len(new) == made == metrics["ai_feedback/comparisons/made"]
    assert all(one.completions[0] == "It is so." and one.rater.startswith("large ") and one.ranked_by == "judge" for one in new)
    assert metrics["ai_feedback/closed_domain/kappa"] == float(bool(made)) == 1 - metrics["ai_feedback/closed_domain/set_aside"]
    if not made:
        (aside,) = kept.set_aside
        assert aside.what.startswith("comparisons against hallucination by closed_domain-v1-")
        assert "kappa 0.00" in aside.reason
        assert aside.reason.endswith("below min_kappa 0.3")


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
