"""Policies that learn from comparisons: what they learn, what is left out, and resume bit for bit."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from modelyard.execution import ExecutionConfig
from modelyard.formats.feedback import COMPARISONS, THUMBS, Comparison, Message, Thumb, records, write
from modelyard.model import model_directory
from modelyard.model.encoder import Encoder
from modelyard.posttrain.losses import NO_COMPARISON
from modelyard.posttrain.preference import reference, train
from modelyard.posttrain.preference.config import PreferenceConfig
from modelyard.posttrain.preference.ranked import log_likelihoods, next_others, ranked, strangers, thumb
from modelyard.posttrain.preference.rows import NOTHING, batch_of, rows_of, with_thumbs
from modelyard.posttrain.rows.masking import Example
from modelyard.progress import silent
from tests.unit.posttrain.conftest import SENTENCES, optimizer

from .preferences import Inputs, dpo_config, ipo_config, kto_config, kwise_config, run

pytestmark = pytest.mark.numerics

Make = Callable[..., PreferenceConfig]


@pytest.mark.parametrize("make", [dpo_config, pytest.param(ipo_config, marks=pytest.mark.slow), kwise_config, kto_config])
def test_preference_policy_learns_the_order_of_test_comparisons(
    make: Make, inputs: Inputs, tmp_path: Path, execution: ExecutionConfig
) -> None:
    metrics = run(make(optimizer=optimizer(3e-3), final_episodes=64), inputs, tmp_path, execution)
    # pairs of two liked or two disliked texts are ordered by chance, so the best that can be had is about 0.75
    assert metrics["policy/test/accuracy_low"] > 0.6
    history = [json.loads(line) for line in (tmp_path / "out" / "history.jsonl").read_text().splitlines()]
    first, last = history[0], history[-1]
    assert first["policy/train/margin"] == pytest.approx(0.0, abs=1e-5), "policy and reference start equal"
    assert first["policy/train/accuracy"] == pytest.approx(0.5), "so every pair ties"
    assert last["policy/train/margin"] > 0
    assert last["policy/train/reward/chosen"] > last["policy/train/reward/rejected"]
    assert metrics["policy/objective/reward"] > metrics["policy/reference/reward"], "the reward model learned from the same comparisons"
    assert metrics["policy/objective/kl"] > 0
    assert metrics["policy/data/rows"] > metrics["policy/train/comparisons"] > 0
    assert metrics["policy/data/too_long"] == metrics["policy/data/never_stop"] == 0


def test_implicit_rewards_are_a_token_where_the_loss_takes_them_so(inputs: Inputs, tmp_path: Path, execution: ExecutionConfig) -> None:
    whole, a_token = ipo_config(), ipo_config(length_normalised=True)
    (tmp_path / "reference").mkdir()
    reference.run(whole.reference, inputs, tmp_path / "reference", tmp_path / "ck", execution, silent)
    policy = model_directory.load(inputs["sft"], execution)
    every, _ = train.compared(whole, {**inputs, "reference": tmp_path / "reference"}, Encoder(inputs["sft"]), policy.model.seq_len)
    moved = [
        one._replace(reference=one.reference.model_copy(update={"logprobs": tuple(kept - 1 for kept in one.reference.logprobs)}))
        for one in every[:4]
    ]
    sums, means = (train.rewards_of(config, policy, moved, 0) for config in (whole, a_token))
    lengths = [[len(example.completion) for example in one.ranked.examples] for one in moved]
    for one, other, long in zip(sums, means, lengths, strict=True):
        assert one == pytest.approx([whole.beta] * len(one), rel=1e-3)
        assert other == pytest.approx([reward / length for reward, length in zip(one, long, strict=True)])


@pytest.mark.parametrize("make", [kwise_config, kto_config])
def test_preference_policy_killed_and_resumed_equals_uninterrupted_bit_for_bit(
    make: Make, inputs: Inputs, thumbed: Inputs, tmp_path: Path
) -> None:
    inputs = thumbed if make is kto_config else inputs
    execution = ExecutionConfig(checkpoint_every=3, log_every=1, threads=1)
    config = make(optimizer=optimizer(1e-3, warmup_steps=4), epochs=0.5)
    whole = run(config, inputs, tmp_path / "whole", execution)

    def killed(done: int, total: int, metrics: Mapping[str, float] = {}, unit: str = "step") -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(config, inputs, tmp_path / "cut", execution, killed)
    seen: list[int] = []
    resumed = run(config, inputs, tmp_path / "cut", execution, lambda done, *_, **__: seen.append(done))
    assert seen[:2] == [3, 4]
    assert resumed == whole
    left, right = (tmp_path / name / "out" for name in ("whole", "cut"))
    assert (left / "history.jsonl").read_text() == (right / "history.jsonl").read_text()
    models = [model_directory.load(path, execution, precision="fp32", head="lm").gpt.state_dict() for path in (left, right)]
    tensors = [key for key, value in models[0].items() if isinstance(value, torch.Tensor)]
    assert tensors
    assert all(torch.equal(models[0][key], models[1][key]) for key in tensors)


@pytest.fixture(scope="module")
def thumbed(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    """The world with thumbs of what it likes: single sentences, some of them held out, and no comparison that trains."""
    feedback = tmp_path_factory.mktemp("thumbed")
    shutil.copytree(inputs["feedback"], feedback, dirs_exist_ok=True)
    halves = [(text[: len("the film")], text[len("the film") :], sign) for text, sign in SENTENCES]
    said = [
        Thumb(id=f"t{n}-{k}", split="test" if n % 4 == 3 else "train", source="s", prompt=prompt, completion=completion, label=sign > 0)
        for n, (prompt, completion, sign) in enumerate(halves)
        for k in range(6)
    ]
    write(feedback / THUMBS, said)
    write(feedback / COMPARISONS, [one for one in records(inputs["feedback"] / COMPARISONS, Comparison) if one.split != "reward"])
    return {**inputs, "feedback": feedback}


def test_kto_learns_from_thumbs_alone(thumbed: Inputs, tmp_path: Path, execution: ExecutionConfig) -> None:
    config = kto_config(optimizer=optimizer(3e-3), batch=8, epochs=3.0, final_episodes=64)
    metrics = run(config, thumbed, tmp_path, execution)
    counts = [metrics[f"policy/train/{key}"] for key in ("comparisons", "rated", "thumbs/up", "thumbs/down")]
    assert counts[0] == 0
    assert counts[1] == counts[2] + counts[3] == sum(one.split == "train" for one in records(thumbed["feedback"] / THUMBS, Thumb))
    assert metrics["policy/test/thumb_accuracy_low"] > 0.7
    assert metrics["policy/test/accuracy_low"] > 0.55, "comparisons that nothing was trained on are ordered too"
    assert metrics["policy/objective/reward"] > metrics["policy/reference/reward"]
    history = [json.loads(line) for line in (tmp_path / "out" / "history.jsonl").read_text().splitlines()]
    assert history[0]["policy/train/margin"] == pytest.approx(0.0, abs=1e-5)
    assert history[-1]["policy/train/margin"] > 0.1


def test_kto_reads_thumbs_behind_comparisons_and_other_losses_do_not(inputs: Inputs, thumbed: Inputs, tmp_path: Path) -> None:
    feedback = tmp_path / "both"
    shutil.copytree(thumbed["feedback"], feedback)
    shutil.copyfile(inputs["feedback"] / COMPARISONS, feedback / COMPARISONS)
    encoder = Encoder(inputs["sft"])
    with_thumbs_, without = (ranked(feedback, encoder, 32, thumbs=thumbs).fitting for thumbs in (True, False))
    assert with_thumbs_[: len(without)] == without
    rated = with_thumbs_[len(without) :]
    assert [one.said for one in rated] == list(records(feedback / THUMBS, Thumb))
    assert {one.thumbs for one in rated} == {(1,), (-1,)}
    assert all(len(one.examples) == len(one.ranks) == 1 for one in rated)


@pytest.mark.parametrize(
    ("prompts", "expected"),
    [("aabbc", [2, 2, 4, 4, 0]), ("abca", [1, 2, 3, 1]), ("aaba", [2, 2, 3, 2]), ("aaa", [1, 2, 0]), ("a", [0])],
)
def test_next_other_prompt_is_found_around_the_end(prompts: str, expected: list[int]) -> None:
    assert next_others([[ord(letter)] for letter in prompts]) == expected


def test_reference_of_other_comparisons_is_refused(inputs: Inputs, tmp_path: Path, execution: ExecutionConfig) -> None:
    kept = tmp_path / "reference"
    kept.mkdir()
    reference.run(kwise_config().reference, inputs, kept, tmp_path, execution, silent)
    lines = list(records(kept / reference.FILE, reference.Reference))
    write(kept / reference.FILE, lines[1:])
    with pytest.raises(ValueError, match="is not of the comparisons that the policy is trained on"):
        train.run(kwise_config(), {**inputs, "reference": kept}, tmp_path, tmp_path / "ck", execution, silent)


def test_preference_micro_batch_smaller_than_a_comparison_is_refused(inputs: Inputs, tmp_path: Path, execution: ExecutionConfig) -> None:
    with pytest.raises(ValueError, match=r"policy.micro_batch 3 is less than the 4 completions of a comparison"):
        run(kwise_config(micro_batch=3), inputs, tmp_path, execution)


def test_ranked_comparison_with_a_long_completion_is_left_out_and_counted(inputs: Inputs, tmp_path: Path) -> None:
    encoder = Encoder(inputs["sft"])
    given = [
        Comparison(id="fits", split="reward", source="s", prompt="the film", completions=(" is good", " is bad"), ranks=(1, 2)),
        Comparison(id="long", split="reward", source="s", prompt="the film", completions=(" is good", " is bad" * 40), ranks=(1, 2)),
        Comparison(id="gold", split="gold", source="s", prompt="the film", completions=(" is good", " is bad"), ranks=(1, 2)),
        Comparison(
            id="chat", split="test", source="s", prompt=(Message(role="user", content="hello"),), completions=("good", "bad"), ranks=(2, 1)
        ),
    ]
    write(tmp_path / COMPARISONS, given)
    found = ranked(tmp_path, encoder, 24, thumbs=False)
    assert [one.said.id for one in found.fitting] == ["fits", "chat"]
    assert found.too_long == 1
    plain, chat = (one.examples[0] for one in found.fitting)
    assert plain.completion[-1] == encoder.document_end, "nothing teaches never to stop"
    assert plain.prompt == encoder.prompt("the film")
    assert chat.completion[-1] == encoder.turn_end


def test_strangers_are_every_completion_behind_the_next_prompt_cut_to_fit(inputs: Inputs, tmp_path: Path) -> None:
    encoder = Encoder(inputs["sft"])
    prompts = ("the film", "the plot of it all")
    given = [
        Comparison(id=prompt, split="reward", source="s", prompt=prompt, completions=(" is good", " is bad today"), ranks=(1, 2))
        for prompt in prompts
    ]
    write(tmp_path / COMPARISONS, given)
    found = ranked(tmp_path, encoder, 32, thumbs=False).fitting
    moved = strangers(found, 6)
    for one, other, group in ((found[0], found[1], moved[0]), (found[1], found[0], moved[1])):
        for example, stranger in zip(one.examples, group, strict=True):
            assert stranger.completion == example.completion
            assert 0 < len(stranger.prompt) <= len(other.examples[0].prompt)
            assert other.examples[0].prompt[-len(stranger.prompt) :] == stranger.prompt
            assert stranger.length <= max(6, len(example.completion))


def test_rows_of_a_batch_carry_ranks_thumbs_and_means(inputs: Inputs) -> None:
    config = kto_config()
    tied = Comparison(id="a", split="reward", source="s", prompt="", completions=("x", "y", "z", "w"), ranks=(1, 2, 2, 3))
    pair = Comparison(id="b", split="reward", source="s", prompt="", completions=("x", "y"), ranks=(2, 1))
    compared = [train.Ranked(one, [Example([0], [5, 6, 0])] * len(one.completions)) for one in (tied, pair)]
    rows = [row for number, one in enumerate(compared) for row in rows_of(number, one, [-1.0] * len(one.examples))]
    batch = with_thumbs(batch_of([*rows, NOTHING, NOTHING], 9), config, 0.25)
    assert batch.extras["comparison"].tolist() == [0, 0, 0, 0, 1, 1, NO_COMPARISON, NO_COMPARISON]
    assert batch.extras["thumb"].tolist() == [1, 0, 0, -1, -1, 1, 0, 0]
    assert batch.extras["weight"].tolist() == [1, 0, 0, 1.25, 1.25, 1, 0, 0]
    # four thumbs, two of each side: divided by four, sums over a side become its mean
    assert batch.extras["liked"].tolist() == [2, 0, 0, 0, 0, 2, 0, 0]
    assert batch.extras["disliked"].tolist() == [0, 0, 0, 2, 2, 0, 0, 0]
    assert float(batch.extras["ce_weight"].sum()) == pytest.approx(2.0)
    assert (batch.extras["ce_weight"].sum(dim=1) > 0).tolist() == [True, False, False, False, False, True, False, False]
    assert [thumb(rank, (1, 2)) for rank in (1, 2)] == [1, -1]


def test_log_likelihoods_are_sums_over_completions(inputs: Inputs, execution: ExecutionConfig) -> None:
    engine = model_directory.load(inputs["sft"], execution, precision="fp32", head="lm")
    examples = [Example([0, 7, 8], [9, 10, 11]), Example([0], [5, 6, 7, 0]), Example([0, 4, 4, 4, 4], [9])]
    together = log_likelihoods(engine, examples, 2, 4)
    alone = [log_likelihoods(engine, [example], 1, 4)[0] for example in examples]
    assert together == pytest.approx(alone, abs=1e-4)
    assert max(together) < 0


@pytest.mark.parametrize(
    ("make", "changes", "message"),
    [
        (dpo_config, {"beta": 0.0}, "greater than 0"),
        (dpo_config, {"clip_range": 0.2}, "Extra inputs"),
        (kto_config, {"sft_coef": 0.1}, "Extra inputs"),
        (kto_config, {"desirable_weight": 0.0, "undesirable_weight": 0.0}, "nothing would be learned"),
    ],
)
def test_preference_config_impossible_values_are_refused(make: Make, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        make(**changes)
