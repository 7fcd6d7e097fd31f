"""The supervised loops learn what they are shown: demonstrations, and which of two texts people prefer."""

import json
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from modelyard.execution import ExecutionConfig
from modelyard.formats.feedback import COMPARISONS, DEMONSTRATIONS, Comparison, Demonstration, Message, read, records, write
from modelyard.formats.token_rows import TokenRows
from modelyard.model import model_directory
from modelyard.model.encoder import Encoder
from modelyard.posttrain import reward, sft
from modelyard.posttrain.reward import RewardConfig
from modelyard.posttrain.rows import demonstrations
from modelyard.posttrain.rows.encoding import demonstration, whole
from modelyard.posttrain.rows.sampling import length_grouped
from modelyard.posttrain.scores import score
from modelyard.posttrain.sft import SFTConfig
from modelyard.progress import silent

from .conftest import optimizer

pytestmark = pytest.mark.numerics

REWARD = {
    "split": "reward",
    "seed": 2,
    "precision": "fp32",
    "epochs": 1,
    "batch": 4,
    "micro_batch": 2,
    "reference_texts": 64,
    "optimizer": optimizer(5e-3),
}


def shown(prompt: object, completion: str) -> Demonstration:
    return Demonstration(id="d", split="train", source="s", prompt=prompt, completion=completion)


def sft_config(**changes: object) -> SFTConfig:
    settings = {"seed": 1, "precision": "fp32", "epochs": 20, "batch": 16, "micro_batch": 8, "pretraining_share": 0.125}
    settings |= {"pack": False, "dropout": 0.0, "keep_epochs": False}
    return SFTConfig(**{**settings, "optimizer": optimizer(1e-2), **changes})


def test_encoder_review_and_dialog_are_closed_and_follow_the_template(world: dict[str, Path]) -> None:
    encoder = Encoder(world["tokens"])
    review = demonstration(encoder, shown("the film", " is good"))
    assert review.prompt + review.completion == encoder.document("the film")[:-1] + encoder.document(" is good")[1:]
    dialog = demonstration(encoder, shown((Message(role="user", content="hello"),), "good"))
    assert (dialog.prompt[0], dialog.prompt[-2:], dialog.completion[-1]) == (1, [3, 2], 3)
    assert encoder.decode(dialog.prompt + dialog.completion) == "hellogood"
    assert whole(encoder, (Message(role="user", content="hello"),), "good") == dialog.prompt + dialog.completion


def test_sft_run_tokens_of_another_tokenizer_are_refused(world: dict[str, Path], tmp_path: Path, execution: ExecutionConfig) -> None:
    other = tmp_path / "tokens"
    other.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        text = (world["tokens"] / name).read_text()
        (other / name).write_text(text.replace("<|assistant|>", "<|bot|>") if "chat_template" in text else text)
    with pytest.raises(ValueError, match=r"tokens: made with another chat template \(\w{16}\) than the rest \(\w{16}\)"):
        sft.run(sft_config(), {**world, "tokens": other}, tmp_path, tmp_path / "ck", execution, silent)


def test_sft_batch_of_demonstrations_and_text_masks_prompts_only(world: dict[str, Path]) -> None:
    encoder = Encoder(world["base"])
    examples = [demonstration(encoder, d) for d in read(world["feedback"] / DEMONSTRATIONS, Demonstration, "train")]
    batch = demonstrations.batches(examples, TokenRows(world["tokens"], "train"), sft_config(), encoder.padding, 32).batch(3)
    assert batch.tokens.shape[0] == 16
    assert (batch.extras["mask"][-2:] == 1).all()
    for tokens, labels, mask in zip(batch.tokens[:14], batch.labels[:14], batch.extras["mask"][:14], strict=True):
        trained = labels[mask.bool()].tolist()
        assert trained[-1] in (encoder.document_end, encoder.turn_end)
        assert trained in [example.completion for example in examples]
        assert mask[0] == 0 or len(tokens) == 1


def test_length_grouped_pass_uses_each_example_once_and_pads_less() -> None:
    generator = np.random.default_rng(0)
    lengths = generator.integers(5, 90, 103).tolist()
    batches = length_grouped(lengths, 10, generator)
    used = [i for batch in batches for i in batch]
    assert len(used) == len(set(used)) == 100
    assert sum(max(lengths[i] for i in batch) * 10 for batch in batches) < 1.15 * sum(lengths)
    assert batches != length_grouped(lengths, 10, generator)


def test_sft_run_tiny_world_overfits_demonstrations(world: dict[str, Path], tmp_path: Path, execution: ExecutionConfig) -> None:
    out = tmp_path / "out"
    out.mkdir()
    metrics = sft.run(sft_config(), world, out, tmp_path / "ck", execution, silent)
    assert metrics["sft/validation/base_loss"] > 5.0
    # nothing tells which of four nouns, four adjectives and three endings comes: (log 4 + log 4 + log 3) nats over about 9 tokens, and not less
    assert 0.2 < metrics["sft/validation/loss_low"] <= metrics["sft/validation/loss"] < 0.75
    assert (out / "history.jsonl").read_text().count("\n") == 60
    reopened = model_directory.load(out, execution, seed=9, precision="fp32", head="lm")
    encoder = Encoder(out)
    held_out = [demonstration(encoder, d) for d in read(world["feedback"] / DEMONSTRATIONS, Demonstration, "validation")]
    assert demonstrations.validation_loss(reopened, held_out, 8, encoder.padding, 1).value == pytest.approx(
        metrics["sft/validation/loss"], abs=1e-5
    )


@pytest.mark.parametrize("split", ["reward", "gold"])
def test_reward_run_tiny_world_learns_preferences(split: str, world: dict[str, Path], tmp_path: Path, execution: ExecutionConfig) -> None:
    out = tmp_path / "out"
    out.mkdir()
    config = RewardConfig(**{**REWARD, "split": split})
    metrics = reward.run(config, {"body": world["base"], "feedback": world["feedback"]}, out, tmp_path / "ck", execution, silent)
    liked_pairs = metrics[f"{split}/margin_2.5-inf/accuracy"]
    assert liked_pairs > 0.95
    assert metrics[f"{split}/test/accuracy_low"] < metrics[f"{split}/test/accuracy"] < metrics[f"{split}/test/accuracy_high"]
    assert 0.5 < metrics[f"{split}/test/human_ceiling"] < 1.0
    assert metrics[f"{split}/held_out_raters/accuracy"] > 0.6
    assert 0.0 <= metrics[f"{split}/test/calibration_error"] < 0.3
    assert sum(bar["n"] for bar in json.loads((out / reward.RELIABILITY).read_text())) == metrics[f"{split}/test/accuracy_n"]
    engine, encoder = model_directory.load(out, execution, seed=9, precision="fp32", head="scalar"), Encoder(out)
    reviews = [d for d in read(world["feedback"] / DEMONSTRATIONS, Demonstration, "train") if isinstance(d.prompt, str)]
    scores = score(engine, [whole(encoder, d.prompt, d.completion) for d in reviews], encoder.padding)
    assert sum(scores) / len(scores) == pytest.approx(0.0, abs=1e-4)
    assert min(s for s, d in zip(scores, reviews, strict=True) if "good" in d.completion) > max(
        s for s, d in zip(scores, reviews, strict=True) if "dull" in d.completion
    )


def test_reward_run_counts_and_measures_people_and_judge_apart(world: dict[str, Path], tmp_path: Path, execution: ExecutionConfig) -> None:
    """The judge wants the contrary of what people want, in training and in the test; the share of each decides and both are reported."""
    feedback, out = tmp_path / "feedback", tmp_path / "out"
    feedback.mkdir()
    out.mkdir()
    (feedback / DEMONSTRATIONS).write_bytes((world["feedback"] / DEMONSTRATIONS).read_bytes())
    every = list(records(world["feedback"] / COMPARISONS, Comparison))
    raters = {one.rater for one in every if one.split == "reward"}
    people = [one for one in every if one.rater in raters]
    test = [one for one in people if one.split == "test"]
    judge = [contrary(one) for one in test]
    few = [contrary(one) for one in people if one.split == "reward"][:4]
    write(feedback / COMPARISONS, [*people, *judge, *few])

    metrics = reward.run(RewardConfig(**REWARD), {"body": world["base"], "feedback": feedback}, out, tmp_path / "ck", execution, silent)

    assert metrics["reward/train/judge"] == 4.0
    assert metrics["reward/train/people"] == metrics["reward/train/comparisons"] - 4.0
    by_people, by_judge = (metrics[f"reward/test/{by}/accuracy"] for by in ("people", "judge"))
    assert by_people > 0.7
    assert by_people + by_judge == pytest.approx(1.0)  # of the same pairs, turned round
    assert metrics["reward/test/accuracy"] == pytest.approx(0.5)
    assert metrics["reward/test/people/accuracy_n"] == metrics["reward/test/judge/accuracy_n"] == len(test)


def contrary(one: Comparison) -> Comparison:
    """The comparison in the other order, by a judge."""
    ranks = tuple(max(one.ranks) + 1 - rank for rank in one.ranks)
    return one.model_copy(update={"id": f"{one.id}-j", "ranks": ranks, "scores": None, "ranked_by": "judge"})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reference_texts": 0}, "greater than or equal to 1"),
        ({"batch": 5}, "not divisible by micro_batch"),
        ({"split": "test"}, "'reward' or 'gold'"),
    ],
)
def test_reward_config_impossible_values_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        RewardConfig(**{**REWARD, **changes})
