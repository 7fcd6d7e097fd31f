"""Completions of a prompt in one row are completions in a row each: what models say of them, the update, and when they share."""

from pathlib import Path

import numpy as np
import pytest
import torch

from modelyard.execution import ExecutionConfig
from modelyard.model.network.model_config import Head
from modelyard.model.training.batch import SEGMENTS, STEM
from modelyard.model.training.engine import Engine
from modelyard.posttrain.policy import loop, rollout
from modelyard.posttrain.policy.update import minibatches
from modelyard.posttrain.rows import completions
from modelyard.posttrain.rows.completions import Together, alone, repeats, together
from modelyard.posttrain.rows.masking import Example
from modelyard.posttrain.rows.sharing import texts_of_a_row
from modelyard.posttrain.scores import score
from tests.unit.posttrain.conftest import MODEL, optimizer
from tests.unit.posttrain.policy.policies import Inputs, grpo_config, ppo_config, weights

pytestmark = pytest.mark.numerics

BODY = MODEL.model_copy(update={"hidden": 256, "ffn_hidden": 768})


def examples(prompts: list[int], sizes: list[int]) -> list[Example]:
    """Random prompts of so many tokens, each with completions of ``sizes``."""
    draw = torch.Generator().manual_seed(1)

    def tokens(count: int) -> list[int]:
        return torch.randint(5, 320, (count,), generator=draw).tolist()

    return [Example(prompt, tokens(size)) for prompt in map(tokens, prompts) for size in sizes]


def shared_by(texts: int, made: list[Example]) -> Together:
    """As :func:`together` makes them of a model that is worth so much."""
    found = together(made, BODY, texts, 4)
    assert found.texts == texts
    return found


@pytest.mark.parametrize("head", ["lm", "scalar"])
@pytest.mark.parametrize("style", ["llama", "gpt"])
def test_models_say_of_completions_in_one_row_what_they_say_of_each_alone(style: str, head: Head, execution: ExecutionConfig) -> None:
    model = MODEL.model_copy(update={"style": style, "kv_heads": 2 if style == "llama" else 4})
    engine, made = Engine(model, execution, seed=3, precision="fp32", head=head), examples([12, 20, 9], [7, 3, 1, 10])
    made += [Example(made[4].prompt, one.completion[:1]) for one in made[:4]]  # a short row beside one wider than the model reads
    apart = alone(shared_by(4, made).rows)
    mask = apart.rows.mask.bool()
    expected = apart.said(engine, 12)[mask]
    for texts, micro_batch in ((2, 4), (4, 4), (4, 12)):
        found = shared_by(texts, made).said(engine, micro_batch)
        torch.testing.assert_close(found[mask], expected, atol=1e-5, rtol=1e-5)
        assert not found[~mask].any()
    one = shared_by(4, made)
    lacking = {key: value for key, value in one.batch.extras.items() if key != (STEM if style == "gpt" else SEGMENTS)}
    # who sees a sibling, or not the prompt, says something else
    blind = one._replace(batch=one.batch._replace(extras=lacking)).said(engine, 4)
    assert (blind[mask] - expected).abs().max() > 1e-3


def test_numbers_move_between_rows_of_one_and_of_several_completions_in_order() -> None:
    one = shared_by(2, examples([3, 5, 4], [2, 3, 1, 4]))
    known = torch.arange(one.rows.mask.numel()).view(one.rows.mask.shape)
    chosen = torch.tensor([4, 1])
    assert one.completions_of(chosen).tolist() == [8, 9, 2, 3]
    batch = one.batch_of(chosen, {"number": known[one.completions_of(chosen)]})
    assert batch.extras["number"][one.mask[chosen]].tolist() == [int(x) for i in (8, 9, 2, 3) for x in known[i][one.rows.mask[i].bool()]]
    assert torch.equal(batch.labels[one.mask[chosen]], torch.cat([one.rows.labels[i][one.rows.mask[i].bool()] for i in (8, 9, 2, 3)]))
    assert not batch.extras["number"][~one.mask[chosen]].any()


def test_grpo_of_shared_rows_is_grpo_of_separate_rows(inputs: Inputs, execution: ExecutionConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two updates of two minibatches each, which hold whole prompts."""
    # a large epsilon keeps Adam from blowing rounding of tiny gradients up to whole steps
    config = grpo_config(optimizer=optimizer(5e-3, eps=1e-3))

    def trained(texts: int) -> tuple[dict[str, torch.Tensor], list[dict[str, float]]]:
        training, said = loop.prepare(config, inputs, execution), []
        for iteration in range(2):
            drawn = loop.sampled(config, training, iteration)
            assert drawn.together.texts == texts
            said.append(rollout.statistics(drawn, config.kl_coef) | loop.update(config, training, drawn, iteration, config.kl_coef))
        return weights(training.models.actor), said

    shared, found = trained(4)
    for module in (completions, rollout):
        monkeypatch.setattr(module, "texts_of_a_row", lambda *given, **named: 1)
    apart, expected = trained(1)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3, abs=1e-5)
    for key, tensor in apart.items():
        torch.testing.assert_close(shared[key], tensor, atol=2e-6, rtol=1e-4, msg=lambda m, key=key: f"{key}: {m}")


def test_reward_model_scores_answers_in_shared_rows_as_each_alone(world: dict[str, Path], execution: ExecutionConfig) -> None:
    engine = Engine(MODEL, execution, seed=3, precision="fp32", head="scalar")
    policy = Engine(MODEL, execution, seed=4, precision="fp32")
    sampling = rollout.SamplingConfig(max_new_tokens=6, temperature=1.0, end=3, padding=4)
    prompts = [prompt for prompt in ([*range(5, 20)], [*range(40, 53)]) for _ in range(4)]
    found = rollout.answered(policy, engine, prompts, 0, sampling)
    texts = [p + new + ([] if done else [3]) for p, new, done in zip(prompts, found.drawn.tokens, found.ended, strict=True)]
    assert texts_of_a_row(MODEL, [len(text) for text in texts], [len(p) for p in prompts], 4, 64) == 4
    assert found.scores == pytest.approx(score(engine, texts, 4), abs=1e-5)
    assert len(set(found.scores)) == 8


@pytest.mark.parametrize("texts", [1, 2, 4])
def test_minibatches_hold_whole_prompts_whatever_rows_hold(texts: int) -> None:
    config = grpo_config(episodes=24, minibatches=3, micro_batch=4)
    found = [(chosen[:, None] * texts + torch.arange(texts)).flatten().tolist() for chosen, _ in minibatches(config, 3, texts)]
    assert found == [chosen.tolist() for chosen, _ in minibatches(config, 3)]
    assert sorted(i for one in found for i in one) == list(range(24))
    assert all({i // 4 * 4 + k for i in one for k in range(4)} == set(one) for one in found)
    divided = grpo_config(episodes=24, minibatches=4, micro_batch=2)  # of six: half a prompt more than one
    assert all(len({i // 2 for i in chosen.tolist()}) == 3 for chosen, _ in minibatches(divided, 0))
    alone = [i for chosen, _ in minibatches(ppo_config(), 1) for i in chosen.tolist()]
    assert alone == np.random.default_rng([ppo_config().seed, 1]).permutation(16).tolist()


def test_completions_beside_pretraining_text_have_a_row_each(inputs: Inputs, execution: ExecutionConfig) -> None:
    config = grpo_config(ptx_rows=4, ptx_coef=0.5)
    assert loop.sampled(config, loop.prepare(config, inputs, execution), 0).together.texts == 1


@pytest.mark.parametrize(
    ("prompt", "size", "group", "most", "texts"),
    [
        (32, 48, 8, 32, 4),  # eight would attend over more than four save
        (200, 20, 8, 32, 8),
        (200, 20, 8, 6, 2),  # rows are to fill a forward pass of six
        (200, 20, 3, 6, 3),
        (4, 100, 8, 32, 1),  # saves 2% of the tokens
        (100, 2000, 8, 32, 1),  # saves 4%, and would attend over thousands
        (32, 48, 1, 32, 1),  # a prompt is sampled from once
    ],
)
def test_completions_share_rows_where_that_saves_work(prompt: int, size: int, group: int, most: int, texts: int) -> None:
    lengths = [prompt + size] * group * 2
    assert texts_of_a_row(BODY, lengths, [prompt] * len(lengths), group, most) == texts


def test_one_long_prompt_decides_for_rows_of_one_width_alone() -> None:
    prompts = [2] * 500 * 4 + [100] * 4
    lengths = [prompt + 33 for prompt in prompts]
    assert texts_of_a_row(BODY, lengths, prompts, 4, 64, one_width=False) == 1
    assert texts_of_a_row(BODY, lengths, prompts, 4, 64) == 4


def test_repeats_is_what_all_runs_of_one_prompt_have_in_common() -> None:
    assert repeats([[1], [1], [2], [2], [2], [2], [3], [3]]) == 2
    assert repeats([[1], [1], [2]]) == 1
    assert repeats([[1]] * 3) == 3
