"""Several examples in a row are as many rows: the same log-probabilities, gradients and trained weights; dropout drops, differently each step."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from modelyard.execution import ExecutionConfig
from modelyard.formats.feedback import DEMONSTRATIONS, Demonstration, Message, read
from modelyard.formats.token_rows import PackedRows
from modelyard.model.encoder import Encoder
from modelyard.model.training.batch import SEGMENTS, UNLABELLED, Batch
from modelyard.model.training.engine import Engine
from modelyard.posttrain import sft
from modelyard.posttrain.kept_epochs import EPOCHS
from modelyard.posttrain.losses import sft_loss
from modelyard.posttrain.policy.update import pretraining_batch
from modelyard.posttrain.rows import demonstrations
from modelyard.posttrain.rows.encoding import demonstration
from modelyard.posttrain.rows.masking import Example, fill_rows, pack_examples, pad_examples
from modelyard.progress import silent

from .conftest import MODEL, optimizer
from .test_sft_reward import sft_config, shown


def examples() -> list[Example]:
    generator = torch.Generator().manual_seed(0)

    def ids(count: int) -> list[int]:
        return torch.randint(5, 300, (count,), generator=generator).tolist()

    sizes = [(3, 4), (1, 9), (6, 2), (10, 8), (2, 2), (4, 12), (5, 5)]
    made = [Example(ids(prompt), ids(completion)) for prompt, completion in sizes]
    return [*made, Example(ids(12), ids(3), ((2, 5), (7, 9)))]


def batch(rows: object, segments: torch.Tensor | None = None) -> Batch:
    extras = {"mask": rows.mask} | ({} if segments is None else {SEGMENTS: segments})
    return Batch(rows.tokens, rows.labels, extras)


def test_fill_rows_places_everything_once_and_within_the_width() -> None:
    lengths = [7, 3, 9, 2, 2, 10, 1, 4]
    rows = fill_rows(lengths, 10)
    assert sorted(i for row in rows for i in row) == list(range(8))
    assert max(sum(lengths[i] for i in row) for row in rows) <= 10
    assert len(rows) == 4
    with pytest.raises(ValueError, match="11 positions do not fit in a row of 10"):
        fill_rows([11], 10)


def test_pack_examples_masks_every_turn_of_the_assistant_and_no_other_token() -> None:
    first, second = Example([1, 2, 3], [4, 5]), Example([6, 7, 8, 9, 10], [11], ((2, 4),))
    packed = pack_examples([[first, second]], 0, 12)
    rows = packed.rows
    assert rows.tokens[0].tolist() == [1, 2, 3, 4, 6, 7, 8, 9, 10, 0, 0, 0]
    nothing = UNLABELLED
    assert rows.labels[0].tolist() == [nothing, nothing, 4, 5, nothing, 8, 9, nothing, 11, nothing, nothing, nothing]
    assert rows.labels[0][rows.mask[0].bool()].tolist() == [4, 5, 8, 9, 11]
    assert packed.segments[0].tolist() == [0] * 4 + [1] * 5 + [2] * 3


@pytest.mark.parametrize("style", ["llama", "gpt"])
def test_packed_rows_train_exactly_like_rows_of_one(style: str, execution: ExecutionConfig) -> None:
    model = MODEL.model_copy(update={"style": style, "kv_heads": 2 if style == "llama" else 4, "tie_embeddings": style == "llama"})
    made = examples()
    groups = fill_rows([example.length for example in made], 31)
    assert max(map(len, groups)) > 1
    packed = pack_examples([[made[i] for i in group] for group in groups], 4)
    single = pad_examples(made, 4)
    settings = {"eps": 1e-3}  # rounding of tiny gradients must not become whole steps
    engines = [Engine(model, execution, seed=3, precision="fp32", optim=optimizer(1e-2, **settings), total_steps=4) for _ in range(2)]
    apart = [engines[0].train_step(batch(single), 1, sft_loss) for _ in range(3)]
    together = [engines[1].train_step(batch(packed.rows, packed.segments), 1, sft_loss) for _ in range(3)]
    assert [step["loss"] for step in together] == pytest.approx([step["loss"] for step in apart], abs=2e-6)
    assert [step["grad_norm"] for step in together] == pytest.approx([step["grad_norm"] for step in apart], rel=1e-5)
    for (name, one), (_, other) in zip(engines[0].gpt.named_parameters(), engines[1].gpt.named_parameters(), strict=True):
        torch.testing.assert_close(other, one, atol=5e-6, rtol=1e-4, msg=lambda m, name=name: f"{name}: {m}")
    blind = Engine(model, execution, seed=3, precision="fp32", optim=optimizer(1e-2, **settings), total_steps=4)
    assert abs(blind.train_step(batch(packed.rows), 1, sft_loss)["loss"] - apart[0]["loss"]) > 1e-4, "without segments they see each other"


@pytest.mark.parametrize("pack", [True, False])
def test_repeated_examples_stand_so_often_in_a_pass_and_never_twice_in_a_row(pack: bool) -> None:
    often = [1, 3, 1, 2, 1, 1, 3, 1]
    made = [Example([5] * (2 + number), [100 + number]) for number in range(len(often))]
    config = sft_config(batch=1, micro_batch=1, pretraining_share=0.0, pack=pack)
    data = demonstrations.batches(made, None, config, 4, 32, repeats=often)
    rows = [data.batch(step).labels[0] for step in range(data.per_epoch)]
    found = [row[row != UNLABELLED].tolist() for row in rows]
    assert all(len(row) == len(set(row)) for row in found)
    assert (max(map(len, found)) > 1) is pack
    assert Counter(label for row in found for label in row) == {100 + number: count for number, count in enumerate(often)}


def test_source_to_repeat_that_has_no_demonstration_is_refused() -> None:
    one = Demonstration(id="a", split="train", source="emoji", category="", prompt="a", completion="b")
    assert demonstrations.times({"emoji": 3}, [one]) == [3]
    with pytest.raises(ValueError, match=r"repeat: no demonstration is of 'emojis', only of emoji"):
        demonstrations.times({"emojis": 3}, [one])


@pytest.mark.parametrize(("average", "pack"), [("sample", True), ("sample", False), ("square", True)])
def test_average_over_samples_is_the_mean_of_each_ones_mean_and_square_stands_between(
    average: demonstrations.Average, pack: bool, execution: ExecutionConfig
) -> None:
    text = PackedRows(np.random.default_rng(0).integers(5, 300, (2, 41)))
    config = sft_config(pack=pack, batch=8 if not pack else 3, micro_batch=1, pretraining_share=0.2 if not pack else 0.34, average=average)
    made = examples()[: config.demonstrations_per_batch] if not pack else examples()
    taken = demonstrations.batches(made, text, config, 4, 32).batch(0)
    engine = Engine(MODEL, execution, seed=3, precision="fp32", optim=optimizer(1e-2), total_steps=4)
    logprobs, mask = engine.evaluate(taken, 1), taken.extras["mask"]
    segments = taken.extras.get(SEGMENTS, torch.zeros_like(taken.tokens))
    samples = [
        logprobs[row][chosen]
        for row in range(len(mask))
        for number in segments[row].unique()
        if (chosen := (segments[row] == number) & (mask[row] > 0)).any()
    ]
    assert len({len(sample) for sample in samples}) > 2
    power = {"square": 0.5, "sample": 1.0}[average]
    expected = -sum(float(s.sum()) * len(s) ** -power for s in samples) / sum(len(s) ** (1 - power) for s in samples)
    alone = engine.train_step(taken, 1, sft_loss)
    assert alone["loss"] == pytest.approx(expected, rel=1e-5)
    other = Engine(MODEL, execution, seed=3, precision="fp32", optim=optimizer(1e-2), total_steps=4)
    together = other.train_step(taken, len(mask), sft_loss)
    assert together["grad_norm"] == pytest.approx(alone["grad_norm"], rel=1e-4), "however the batch is cut"


@pytest.mark.parametrize("pack", [True, False])
def test_pretraining_rows_of_sft_and_ptx_keep_their_documents_apart_where_the_tokens_say_so(pack: bool) -> None:
    draw = np.random.default_rng(0)
    tokens = draw.integers(5, 300, (6, 41))
    documents = np.cumsum(draw.random((6, 41)) < 0.2, axis=1)
    config = sft_config(pack=pack, batch=4, micro_batch=4, pretraining_share=0.5)
    apart, joined = (
        demonstrations.batches(examples(), text, config, 4, 32).batch(1) for text in (PackedRows(tokens, documents), PackedRows(tokens))
    )
    width = apart.tokens.shape[1]
    segments, mask = apart.extras[SEGMENTS], apart.extras["mask"]
    assert torch.equal(apart.tokens, joined.tokens)
    assert torch.equal(segments[2:], torch.from_numpy(documents[2:4, :width]))
    assert torch.equal(apart.tokens[2:], torch.from_numpy(tokens[2:4, :width]))
    if pack:
        assert torch.equal(joined.extras[SEGMENTS][:2], segments[:2])
        assert not joined.extras[SEGMENTS][2:].any()
    else:
        assert SEGMENTS not in joined.extras
        assert not (segments[:2] * mask[:2]).any(), "a demonstration is one text"
    ptx, plain = (
        pretraining_batch(text, 5, 2, 80.0, ("mask", "old_logprobs")) for text in (PackedRows(tokens, documents), PackedRows(tokens))
    )
    assert torch.equal(ptx.extras[SEGMENTS], torch.from_numpy(documents[[5, 0], :-1]))
    assert SEGMENTS not in plain.extras
    assert (ptx.extras["ce_weight"] == 1.0).all()


def test_dropout_drops_in_training_only_and_is_a_function_of_seed_and_step(execution: ExecutionConfig) -> None:
    rows = batch(pad_examples(examples(), 4))

    def losses(dropout: float, steps: int) -> list[float]:
        engine = Engine(MODEL, execution, seed=3, precision="fp32", optim=optimizer(0.0), total_steps=4, dropout=dropout)
        found = [engine.train_step(rows, 8, sft_loss)["loss"] for _ in range(steps)]
        return [*found, float(engine.evaluate(rows, 8).sum())]

    plain, dropped, again = losses(0.0, 2), losses(0.2, 2), losses(0.2, 2)
    assert plain[0] == plain[1]
    assert len({plain[0], dropped[0], dropped[1]}) == 3
    assert dropped == again
    assert dropped[-1] == plain[-1]


def test_sft_run_packed_with_kept_epochs_overfits_and_keeps_every_epoch(
    world: dict[str, Path], tmp_path: Path, execution: ExecutionConfig
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    config = sft_config(epochs=6, pack=True, keep_epochs=True, batch=4, micro_batch=4, pretraining_share=0.0)
    inputs = {"base": world["base"], "feedback": world["feedback"]}
    metrics = sft.run(config, inputs, out, tmp_path / "ck", execution, silent)
    assert metrics["sft/validation/loss"] < 0.4 * metrics["sft/validation/base_loss"]
    assert metrics["sft/data/tokens_in_rows"] > 0.8
    kept = sorted(path.name for path in (out / EPOCHS).iterdir())
    assert kept == [f"{epoch:03d}" for epoch in range(1, 7)]
    engine = Engine(MODEL, execution, seed=0, precision="fp32")
    encoder = Encoder(out)
    held_out = [demonstration(encoder, d) for d in read(world["feedback"] / DEMONSTRATIONS, Demonstration, "validation")]
    curve = []
    for name in kept:
        engine.load_weights(out / EPOCHS / name)
        curve.append(demonstrations.validation_loss(engine, held_out, 8, encoder.padding, 1).value)
    assert curve[0] > curve[-1] == pytest.approx(metrics["sft/validation/loss"], abs=1e-5)


def test_sft_pretraining_mix_without_tokens_is_refused(world: dict[str, Path], tmp_path: Path, execution: ExecutionConfig) -> None:
    with pytest.raises(ValueError, match=r"pretraining_share 0\.125 needs pretraining text"):
        sft.run(sft_config(), {"base": world["base"], "feedback": world["feedback"]}, tmp_path, tmp_path / "ck", execution, silent)


def test_demonstration_of_a_conversation_trains_on_every_assistant_turn(world: dict[str, Path]) -> None:
    encoder = Encoder(world["tokens"])
    talk = [Message(role=("user", "assistant")[i % 2], content=said) for i, said in enumerate(["the film", "is good", "and the plot"])]
    example = demonstration(encoder, shown(talk, "is bad"))
    rows = pad_examples([example], encoder.padding)
    trained = rows.labels[0][rows.mask[0].bool()].tolist()
    assert encoder.decode(trained) == "is goodis bad"
    assert trained.count(encoder.turn_end) == 2
