"""How a language model gets to see: what is trained, what stays, what a resumed run gives, and what the twin without sight learns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from modelyard.execution import ExecutionConfig
from modelyard.formats import feedback, images, stored_images
from modelyard.formats.feedback import DEMONSTRATIONS, Demonstration, ImagePart, Message, TextPart
from modelyard.formats.token_rows import PackedRows
from modelyard.model import image_token, model_directory
from modelyard.model.asked import Decoding
from modelyard.model.encoder import Encoder
from modelyard.model.hf.weights import read_checkpoint
from modelyard.model.network.lora import LoRAConfig
from modelyard.model.network.vision import VisionConfig
from modelyard.model.subject import Subject
from modelyard.model.training.batch import SEGMENTS, STEM, UNLABELLED, Batch
from modelyard.model.training.optimizer import OptimizerConfig
from modelyard.posttrain import projector, sft
from modelyard.posttrain.losses import sft_loss
from modelyard.posttrain.projector import ProjectorConfig
from modelyard.posttrain.rows import demonstrations
from modelyard.posttrain.rows.album import Album
from modelyard.posttrain.rows.encoding import demonstration
from modelyard.posttrain.rows.masking import alike, pack_examples, stem_of
from modelyard.posttrain.sft import SFTConfig
from modelyard.progress import PreemptedError, Stop, request_stop, silent

from .. import small_model
from ..model.seeing import TEMPLATE

ONE = ExecutionConfig(threads=1)
VISION = VisionConfig(tile=16, patch=8, grids=((1, 1), (1, 2)), layers=1, hidden=16, heads=2, ffn_hidden=24)
OPTIMIZER = OptimizerConfig(
    lr=5e-3, min_lr_ratio=0.1, warmup_steps=4, weight_decay=0.0, beta1=0.9, beta2=0.95, eps=1e-8, clip_grad=1.0, schedule="cosine"
)
COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}
SHOWN = ProjectorConfig(
    seed=0, precision="fp32", vision=VISION, train_encoder=True, epochs=3, batch=6, micro_batch=3, share_images=4, optimizer=OPTIMIZER
)  # fmt: skip
TUNED = SFTConfig(
    seed=0, precision="fp32", epochs=12, batch=6, micro_batch=6, pretraining_share=0, pack=False, dropout=0, keep_epochs=False,
    optimizer=OPTIMIZER, share_images=4,
)  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that reads text, and pictures of one colour with two questions each; beside them a demonstration without a picture."""
    root = tmp_path_factory.mktemp("world")
    small_model.write(root)
    for name in ("tokens", "ours"):
        path = root / name / "tokenizer_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"chat_template": TEMPLATE, "bos_token": "<|endoftext|>"}))
    described = json.loads((root / "ours" / "model.json").read_text())
    (root / "ours" / "model.json").write_text(json.dumps({k: v for k, v in described.items() if k != "chat_template"}))
    generator = np.random.default_rng(0)
    drawn, names = [], []
    for number in range(24):
        name = list(COLOURS)[number % 3]
        pixels = np.zeros((16, 16 if number % 2 else 24, 3), np.uint8)
        pixels[:] = COLOURS[name]
        pixels[:2, :2] = generator.integers(0, 256, (2, 2, 3))
        drawn.append(images.of_pixels(pixels))
        names.append(name)
    (root / "feedback").mkdir()
    stored_images.write(root / "feedback", drawn)
    lines = []
    for number, (image, name) in enumerate(zip(drawn, names, strict=True)):
        for text, answer in (("which?", name), ("Is it red?", "yes" if name == "red" else "no")):
            said = Message(role="user", content=(ImagePart(image=image.id), TextPart(text=text)))
            split = "validation" if number >= 18 else "train"
            lines.append(Demonstration(id=f"{number}{text}", split=split, source="x", prompt=(said,), completion=answer))
    words = Message(role="user", content="the king of the")
    lines += [Demonstration(id=f"t{i}", split="train", source="x", prompt=(words,), completion="castle") for i in range(6)]
    feedback.write(root / "feedback" / DEMONSTRATIONS, lines)
    return root


def ran(stage: Any, config: Any, inputs: dict[str, Path], root: Path, execution: ExecutionConfig = ONE) -> tuple[Path, dict[str, float]]:
    (root / "out").mkdir(parents=True, exist_ok=True)
    (root / "checkpoints").mkdir(exist_ok=True)
    return root / "out", stage.run(config, inputs, root / "out", root / "checkpoints", execution, silent)


@pytest.fixture(scope="module")
def shown(world: Path) -> tuple[Path, dict[str, float]]:
    return ran(projector, SHOWN, {"base": world / "ours", "feedback": world / "feedback"}, world / "shown")


def answers(world: Path, model: Path, blank: bool = False) -> list[bool]:
    """Whether each validation demonstration is answered as it should be."""
    subject = Subject.open("model", model, ONE, 8)
    subject.show(stored_images.ImageFiles(world / "feedback"), blank)
    asked = feedback.read(world / "feedback" / DEMONSTRATIONS, Demonstration, "validation")
    said = subject.reply([one.prompt for one in asked], Decoding(max_new_tokens=6, temperature=0.0, samples=1, seed=0))
    return [one.text == wanted.completion for one, wanted in zip(said, asked, strict=True)]


def test_projector_trains_what_shows_images_and_leaves_the_language_model(world: Path, shown: tuple[Path, dict[str, float]]) -> None:
    out, metrics = shown
    assert metrics["projector/validation/loss"] < metrics["projector/validation/base_loss"]
    assert metrics["projector/data/examples"] == 36, "the demonstrations without an image are not read"
    before, after = read_checkpoint(world / "ours" / "checkpoint"), read_checkpoint(out / "checkpoint")
    known = model_directory.read(world / "ours").model.vocab_size
    for name, tensor in before.items():
        assert torch.equal(after[name][: len(tensor)] if "word_embeddings" in name else after[name], tensor), name
    rows = after["embedding.word_embeddings.weight"]
    torch.testing.assert_close(rows[known], rows[:known].double().mean(0).float())
    assert Encoder(out).placeholder == known
    Encoder(out).require_same("tokens", world / "tokens")


def test_sft_by_adapters_learns_to_tell_what_the_encoder_shows_and_leaves_the_encoder(
    world: Path, shown: tuple[Path, dict[str, float]], tmp_path: Path
) -> None:
    inputs = {"base": world / "ours", "projector": shown[0], "feedback": world / "feedback"}
    lora = LoRAConfig(rank=8, alpha=16.0, targets=("q_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"))
    tuned = TUNED.model_copy(update={"lora": lora, "epochs": 30, "optimizer": OPTIMIZER.model_copy(update={"lr": 2e-2})})
    seeing, metrics = ran(sft, tuned, inputs, tmp_path / "seeing")
    assert metrics["sft/validation/loss"] < metrics["sft/validation/base_loss"]
    assert sum(answers(world, seeing)) > sum(answers(world, seeing, blank=True)) + 2
    encoder = {name: tensor for name, tensor in read_checkpoint(shown[0] / "checkpoint").items() if name.startswith("vision.")}
    assert encoder
    after = read_checkpoint(seeing / "checkpoint")
    assert all(torch.equal(after[name], tensor) for name, tensor in encoder.items())


def test_sft_with_images_learns_to_see_and_its_blank_twin_does_not(
    world: Path, shown: tuple[Path, dict[str, float]], tmp_path: Path
) -> None:
    inputs = {"base": world / "ours", "projector": shown[0], "feedback": world / "feedback"}
    seeing, metrics = ran(sft, TUNED, inputs, tmp_path / "seeing")
    blind, _ = ran(sft, TUNED.model_copy(update={"blank": True}), inputs, tmp_path / "blind")
    assert metrics["sft/data/with_images"] == 36
    assert metrics["sft/data/examples"] == 42
    assert all(answers(world, seeing))
    assert sum(answers(world, seeing, blank=True)) < 10
    assert sum(answers(world, blind, blank=True)) < 10


@pytest.mark.parametrize("stage", ["projector", "sft"])
def test_stopped_and_resumed_run_is_the_uninterrupted_one(
    world: Path, shown: tuple[Path, dict[str, float]], tmp_path: Path, stage: str
) -> None:
    inputs = {"base": world / "ours", "feedback": world / "feedback"}
    config: Any = SHOWN
    if stage == "sft":
        inputs["projector"], config = shown[0], TUNED.model_copy(update={"epochs": 2.0})
    module = {"projector": projector, "sft": sft}[stage]
    whole, _ = ran(module, config, inputs, tmp_path / "whole")
    place = tmp_path / "resumed"
    (place / "checkpoints").mkdir(parents=True)
    (place / "out").mkdir()

    def stop(done: int, total: int, metrics: Any = None, unit: str = "step") -> None:
        if done >= 3:
            request_stop(Stop.SIGNALLED)

    with pytest.raises(PreemptedError):
        module.run(config, inputs, place / "out", place / "checkpoints", ONE.model_copy(update={"log_every": 1}), stop)
    resumed, _ = ran(module, config, inputs, place)
    once, twice = read_checkpoint(whole / "checkpoint"), read_checkpoint(resumed / "checkpoint")
    assert once.keys() == twice.keys()
    assert all(torch.equal(once[name], twice[name]) for name in once)


def test_demonstrations_that_share_an_image_train_as_rows_of_their_own(world: Path, shown: tuple[Path, dict[str, float]]) -> None:
    shown_at = shown[0]
    encoder, model = Encoder(shown_at), model_directory.read(shown_at).model
    album = Album.of(encoder, model, world / "feedback", False)
    examples = [demonstration(encoder, one) for one in feedback.read(world / "feedback" / DEMONSTRATIONS, Demonstration, "train")]
    examples = [*examples[:6], examples[-1]]
    groups = [[examples[i] for i in row] for row in alike(examples, album.placeholder, 4)]
    assert [len(group) for group in groups] == [2, 2, 2, 1]

    def step(groups: list[Any], stems: list[int]) -> tuple[dict[str, float], list[torch.Tensor]]:
        packed = pack_examples(groups, encoder.padding, None, stems)
        extras = {"mask": packed.rows.mask, SEGMENTS: packed.segments, STEM: packed.stems}
        batch = Batch(packed.rows.tokens, packed.rows.labels, extras, album.tiles(packed.rows.tokens, packed.images))
        engine = model_directory.load(shown_at, ONE, optim=OPTIMIZER.model_copy(update={"clip_grad": 0.0}), part="all")
        metrics = engine.train_step(batch, 1, sft_loss)
        moments = [parameter.main_grad.clone() for parameter in engine.gpt.parameters()]
        return metrics, moments

    shared, own = step(groups, [stem_of(group) for group in groups]), step([[one] for one in examples], [0] * len(examples))
    for key in ("loss", "grad_norm"):
        assert shared[0][key] == pytest.approx(own[0][key], rel=1e-5)
    for mine, expected in zip(shared[1], own[1], strict=True):
        assert (mine - expected).norm() <= 1e-4 * expected.norm() + 1e-7
    # and so they are measured
    engine = model_directory.load(shown_at, ONE)
    alone, together = (demonstrations.validation_loss(engine, examples, 2, encoder.padding, 0, album, share) for share in (1, 4))
    assert (together.n, together.value) == (alone.n, pytest.approx(alone.value, rel=1e-5))
    assert together.low == pytest.approx(alone.low, rel=0.02)


def test_token_of_images_is_added_once(world: Path, tmp_path: Path) -> None:
    first = image_token.add(world / "tokens", tmp_path / "once")
    assert first == image_token.add(tmp_path / "once", tmp_path / "twice") == Encoder(world / "tokens").vocabulary
    assert (tmp_path / "once" / "tokenizer.json").read_bytes() == (tmp_path / "twice" / "tokenizer.json").read_bytes()


def test_projector_is_refused_where_nothing_can_be_learned(world: Path, shown: tuple[Path, dict[str, float]], tmp_path: Path) -> None:
    inputs = {"base": world / "ours", "feedback": world / "feedback"}
    with pytest.raises(ValueError, match=r"neither the base model nor projector\.vision says what the patch encoder is"):
        ran(projector, SHOWN.model_copy(update={"vision": None}), inputs, tmp_path / "none")
    with pytest.raises(ValueError, match=r"both the base model and projector\.vision say"):
        ran(projector, SHOWN, inputs | {"base": shown[0]}, tmp_path / "both")
    with pytest.raises(ValueError, match="train_encoder: an encoder that begins at random"):
        ProjectorConfig.model_validate({**SHOWN.model_dump(), "train_encoder": False})
    text = tmp_path / "text"
    text.mkdir()
    lines = feedback.records(world / "feedback" / DEMONSTRATIONS, Demonstration)
    feedback.write(
        text / DEMONSTRATIONS, [one for one in lines if isinstance(one.prompt[0], Message) and isinstance(one.prompt[0].content, str)]
    )
    with pytest.raises(ValueError, match="no demonstrations of split 'validation'"):
        ran(projector, SHOWN, inputs | {"feedback": text}, tmp_path / "textual")


def test_pretraining_rows_shorter_than_shared_ones_are_padded_and_nothing_is_learned_of_that(
    world: Path, shown: tuple[Path, dict[str, float]]
) -> None:
    encoder, model = Encoder(shown[0]), model_directory.read(shown[0]).model
    album = Album.of(encoder, model, world / "feedback", False)
    examples = [demonstration(encoder, one) for one in feedback.read(world / "feedback" / DEMONSTRATIONS, Demonstration, "train")]
    text = PackedRows(np.arange(4 * 21).reshape(4, 21).astype(np.int32) + 5, None)
    config = TUNED.model_copy(update={"pretraining_share": 0.5})
    batch = demonstrations.batches(examples, text, config, encoder.padding, 256, album).batch(0)
    assert batch.tokens.shape[1] > 20
    assert torch.equal(batch.tokens[3:, :20], torch.from_numpy(text.tokens[:3, :20].astype(np.int64)))
    assert bool((batch.labels[3:, 20:] == UNLABELLED).all())
    assert batch.extras["mask"][3:].sum() == 60
    engine = model_directory.load(shown[0], ONE, optim=OPTIMIZER, part="all")
    alone = engine.evaluate(Batch(batch.tokens[3:, :20], batch.labels[3:, :20], {}), 3)
    torch.testing.assert_close(engine.evaluate(batch, 3)[3:, :20], alone, rtol=1e-5, atol=1e-5)
