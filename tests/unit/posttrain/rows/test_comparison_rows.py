"""A comparison in one row that its texts share is the comparison in a row each: the same loss and gradients, of every comparison once."""

from pathlib import Path

import pytest
import torch

from modelyard.execution import ExecutionConfig
from modelyard.formats.feedback import Comparison
from modelyard.model.encoder import Encoder
from modelyard.model.training.batch import SEGMENTS, STEM, Batch
from modelyard.model.training.engine import Engine
from modelyard.posttrain import reward
from modelyard.posttrain.losses import reward_loss
from modelyard.posttrain.reward import RewardConfig
from modelyard.posttrain.rows.comparison_rows import NOTHING, Encoded, batch_of, rows_of, shares
from tests.unit.posttrain.conftest import MODEL, optimizer
from tests.unit.posttrain.test_sft_reward import REWARD

pytestmark = pytest.mark.numerics


def compared(prompt: int, sizes: list[int], ranks: list[int], seed: int) -> Encoded:
    """Random texts: a prompt of so many tokens, and completions of ``sizes``."""
    generator = torch.Generator().manual_seed(seed)
    shared, *own = (torch.randint(5, 320, (size,), generator=generator).tolist() for size in (prompt, *sizes))
    named = Comparison(
        id=str(seed), split="reward", source="s", prompt="", completions=tuple(map(str, range(len(sizes)))), ranks=tuple(ranks)
    )
    return Encoded(named, [shared + text for text in own])


def comparisons() -> list[Encoded]:
    """K from 2 to 5 with ties, nothing shared, equal completions, and completions that begin others; rows longer than the model reads."""
    made = [
        compared(12, [7, 3], [1, 2], 0),
        compared(9, [18, 20, 15, 23, 17], [2, 1, 1, 4, 3], 1),
        compared(1, [4, 6, 5], [1, 2, 2], 2),
        compared(20, [5, 1, 6, 2], [3, 1, 2, 4], 3),
        compared(0, [8, 9], [2, 1], 4),
    ]
    alike, begins = compared(6, [5, 5, 4], [1, 2, 3], 5), compared(6, [5, 7, 9], [2, 3, 1], 6)
    alike.texts[1] = list(alike.texts[0])
    begins.texts[0], begins.texts[1] = begins.texts[2][:8], begins.texts[2][:11]
    return [*made, alike, begins]


def in_rows(shared: bool) -> Batch:
    rows = [row for number, one in enumerate(comparisons()) for row in rows_of(number, one, shared)]
    return batch_of([*rows, NOTHING], shared, 4)


def test_rows_of_shared_holds_the_common_beginning_once() -> None:
    [row] = rows_of(3, compared(2, [2, 1], [2, 1], 0)._replace(texts=[[7, 8, 9, 10], [7, 8, 11]]), True)
    assert row == ([7, 8, 9, 10, 11], [0, 0, 1, 1, 2], 2, [3, 4], [-2, -1], [3, 3])
    assert [one.stem for one in comparisons()] == [12, 9, 1, 20, 0, 6, 7]
    assert max(one.together for one in comparisons()) > MODEL.seq_len >= max(one.longest for one in comparisons())


@pytest.mark.parametrize("style", ["llama", "gpt"])
def test_shared_rows_have_the_loss_and_gradients_of_separate_rows(style: str, execution: ExecutionConfig) -> None:
    model = MODEL.model_copy(update={"style": style, "kv_heads": 2 if style == "llama" else 4})
    settings = optimizer(1e-3, clip_grad=1e9)

    def step(batch: Batch, micro_batch: int) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
        engine = Engine(model, execution, seed=3, precision="fp32", head="scalar", optim=settings, total_steps=2)
        metrics = engine.train_step(batch, micro_batch, reward_loss)
        return metrics, {name: weight.main_grad.clone() for name, weight in engine.gpt.named_parameters()}

    apart, together = in_rows(False), in_rows(True)
    metrics, gradients = step(apart, len(apart.tokens))
    for micro_batch in (2, 8):
        found, shared = step(together, micro_batch)
        assert found == pytest.approx(metrics, rel=1e-5)
        for name, expected in gradients.items():
            rounding = 1e-7 * metrics["grad_norm"]  # biases that move all scores alike have no gradient but this
            assert (shared[name] - expected).norm() <= 1e-5 * expected.norm() + rounding, name
    assert metrics["grad_norm"] > 0.01
    for key in [STEM] if style == "gpt" else [STEM, SEGMENTS]:  # whoever sees a sibling, or not the stem, is another text
        lacking = {name: value for name, value in together.extras.items() if name != key}
        assert step(together._replace(extras=lacking), 8)[0]["grad_norm"] != pytest.approx(metrics["grad_norm"], rel=1e-3)


@pytest.mark.parametrize(
    ("prompt", "sizes", "shared"),
    [
        (20, [10, 10], True),
        (8, [10] * 9, True),
        (0, [10, 12], False),
        (3, [20, 20], False),  # saves 7% of the tokens
        (100, [600] * 9, False),  # saves 13% of the tokens, but each attends over nine texts' places
    ],
)
def test_rows_are_shared_where_that_saves_work(prompt: int, sizes: list[int], shared: bool) -> None:
    made = [compared(prompt, sizes, list(range(1, len(sizes) + 1)), seed) for seed in range(3)]
    assert shares(made, MODEL.model_copy(update={"hidden": 256, "ffn_hidden": 768})) == shared


@pytest.mark.parametrize("shared", [True, False])
def test_reward_batches_of_several_k_hold_every_comparison_whole_in_one_micro_batch(shared: bool, world: dict[str, Path]) -> None:
    sizes = [2, 9, 4, 2, 3, 2, 4, 2]
    prompt = "the film is good " if shared else ""
    named = [
        Comparison(
            id=str(n),
            split="reward",
            source="s",
            prompt=prompt,
            completions=tuple(f"{n} {k}" if shared else f"{k} is fine {n} {k}" for k in range(size)),
            ranks=tuple(range(1, size + 1)),
        )
        for n, size in enumerate(sizes)
    ]
    encoder = Encoder(world["base"])
    train, too_long, cut = reward.encoded(named, encoder, 32)
    assert too_long == cut == 0
    assert reward.encoded([one.model_copy(update={"prompt": "the"}) for one in named], encoder, 3).too_long == len(sizes)
    config = RewardConfig(**{**REWARD, "batch": 8, "micro_batch": 1})
    micro_batch = 1 if shared else 9
    for replicas in (1, 2, 3):
        data = reward.batches(train, config, MODEL, encoder.padding, replicas)
        assert data.micro_batch == micro_batch
        batch = data.batch(0)
        assert (STEM in batch.extras) == shared
        rows = len(batch.tokens)
        assert rows % (micro_batch * replicas) == 0
        assert rows - (8 if shared else sum(sizes)) < micro_batch * (replicas + 1)
        names = batch.extras["comparison"].view(rows // micro_batch, -1)
        homes = [{int(name) for name in part if name != -1} for part in names]
        assert sum(map(len, homes)) == len(set().union(*homes)) == 8
        ends = batch.tokens.gather(1, batch.extras["ends"]).view_as(names)
        for name in range(8):
            [(part, last)] = [(part, last) for part, last in zip(names, ends, strict=True) if (part == name).any()]
            mine = (part == name).nonzero()[:, 0]
            assert torch.equal(mine, torch.arange(int(mine[0]), int(mine[0]) + len(mine)))
            assert (last[mine] == encoder.document_end).all()
        assert sorted((batch.extras["comparison"] == name).sum().item() for name in range(8)) == sorted(sizes)
