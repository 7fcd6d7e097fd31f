"""Feature alignment, LLaVA's first stage (Liu et al. 2023, arXiv:2304.08485, section 4.2): a language model that stays as it is, and what is to show
it images.

The base model gets a patch encoder, a projector and a token that images stand as (:mod:`modelyard.model.image_token`), and demonstrations that hold
images are trained on as in :mod:`modelyard.posttrain.sft`, which trains everything afterwards. LLaVA's patch encoder is CLIP's and stays as it is;
here it begins at random unless the base model brings one, so it is trained with the projector (``train_encoder``). Text demonstrations are not
read: they could teach nothing. Left out: a patch encoder of others beside a language model of another origin.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch.distributed as dist
from pydantic import Field, model_validator

from modelyard.config import Config
from modelyard.execution import ExecutionConfig
from modelyard.formats.feedback import DEMONSTRATIONS, Demonstration, images_of, read
from modelyard.model import image_token, model_directory
from modelyard.model.encoder import Encoder
from modelyard.model.network import disks, parallel
from modelyard.model.network.model_config import Precision
from modelyard.model.network.vision import VisionConfig
from modelyard.model.training import trainer
from modelyard.model.training.optimizer import OptimizerConfig
from modelyard.model.training.spikes import SpikeConfig
from modelyard.posttrain.losses import sft_loss
from modelyard.posttrain.rows.album import Album
from modelyard.posttrain.rows.demonstrations import Average, batches, fit, validation_loss
from modelyard.posttrain.rows.encoding import demonstration, never_stopping
from modelyard.progress import Report


class ProjectorConfig(Config):
    """How a language model gets to see."""

    seed: int = Field(ge=0)
    """Order of the examples, and initial weights."""
    precision: Precision
    """``fp32`` or ``bf16`` parameters."""
    vision: VisionConfig | None = None
    """Patch encoder and projector; absent: the base model has its own."""
    train_encoder: bool
    """Whether the patch encoder is trained with the projector; one that begins at random has to be."""
    epochs: float = Field(gt=0)
    """Passes over the demonstrations (LLaVA: 1)."""
    batch: int = Field(ge=1)
    """Rows of a step (LLaVA: 128; LLaVA 1.5: 256)."""
    micro_batch: int = Field(ge=1)
    """Rows of one forward pass on one replica."""
    share_images: int = Field(default=1, ge=1)
    """Most demonstrations of one image that share a row, in which the image stands once."""
    average: Average = "token"
    """What the loss is the mean over, as in SFT."""
    max_tokens: int | None = Field(default=None, ge=2)
    """Longest demonstration that is trained on, in positions; absent: the model's ``seq_len``."""
    blank: bool = False
    """Whether every image is grey: the same training without seeing."""
    optimizer: OptimizerConfig
    """AdamW; LLaVA: a peak of 2e-3 without weight decay, cosine to 0, 3% warm-up."""
    spike: SpikeConfig | None = None
    """When a step is not taken because its loss stands out; absent: never."""

    @model_validator(mode="after")
    def _fits(self) -> ProjectorConfig:
        if self.batch % self.micro_batch:
            raise ValueError(f"batch {self.batch} is not divisible by micro_batch {self.micro_batch}")
        if self.vision is not None and not self.train_encoder:
            raise ValueError("train_encoder: an encoder that begins at random (vision) must be trained")
        return self

    @property
    def demonstrations_per_batch(self) -> int:
        """Rows of a step: all are demonstrations."""
        return self.batch

    @property
    def pretraining_per_batch(self) -> int:
        """None is pretraining text."""
        return 0

    @property
    def pack(self) -> bool:
        """Rows are shared by demonstrations of one image only."""
        return False


def run(
    config: ProjectorConfig, inputs: Mapping[str, Path], out: Path, checkpoints: Path, execution: ExecutionConfig, report: Report
) -> dict[str, float]:
    """Train what shows ``inputs["base"]`` images on the demonstrations with images of ``inputs["feedback"]``.

    Raises:
        ValueError: the base model brings an encoder and the config one too, or neither does; no demonstration holds an image.
    """
    base = model_directory.read(inputs["base"]).model
    if (base.vision is None) == (config.vision is None):
        have = "neither the base model nor projector.vision says" if base.vision is None else "both the base model and projector.vision say"
        raise ValueError(f"projector: {have} what the patch encoder is")
    tokenizer = _tokenizer(inputs["base"], checkpoints, execution)
    encoder = Encoder(tokenizer)
    vision = config.vision or base.vision
    shown = base.model_copy(update={"vision": vision, "vocab_size": max(base.vocab_size, encoder.vocabulary)})
    album = Album.of(encoder, shown, inputs["feedback"], config.blank)
    width = config.max_tokens or base.seq_len
    train, validation = (
        [demonstration(encoder, d) for d in read(inputs["feedback"] / DEMONSTRATIONS, Demonstration, split) if images_of(d.prompt)]
        for split in ("train", "validation")
    )
    if not train or not validation:
        raise ValueError(f"projector: no demonstration of split {'train' if not train else 'validation'} holds an image")
    fitting, held_out = fit(train, width), fit(validation, width)
    data = batches(fitting, None, config, encoder.padding, width, album)
    steps = max(1, round(config.epochs * data.per_epoch))
    engine = model_directory.load(
        inputs["base"],
        execution,
        seed=config.seed,
        precision=config.precision,
        optim=config.optimizer,
        total_steps=steps,
        part="vision" if config.train_encoder else "projector",
        vision=config.vision,
        vocab_size=shown.vocab_size,
    )
    before = validation_loss(engine, held_out, config.micro_batch, encoder.padding, config.seed, album, config.share_images)
    history = trainer.train(
        engine,
        data.batch,
        steps=steps,
        micro_batch=config.micro_batch,
        loss_fn=sft_loss,
        stage="projector",
        checkpoints=checkpoints,
        execution=execution,
        report=report,
        spike=config.spike,
    )
    model_directory.write(engine, tokenizer, history, out)
    after = validation_loss(engine, held_out, config.micro_batch, encoder.padding, config.seed, album, config.share_images)
    assert engine.model.vision is not None
    return {
        **after.flat("projector/validation/loss"),
        "projector/validation/base_loss": before.value,
        "projector/train/loss": history.lines[-1]["projector/train/loss"],
        "projector/data/examples": float(len(fitting)),
        "projector/data/too_long": float(len(train) - len(fitting)),
        "projector/data/never_stop": float(never_stopping(encoder, fitting)),
        "projector/model/parameters": float(engine.model.vision.parameters(engine.model.hidden)),
    }


def _tokenizer(base: Path, checkpoints: Path, execution: ExecutionConfig) -> Path:
    """The directory of the base model's tokenizer with the token that images stand as; every rank calls it."""
    parallel.initialize(execution)
    if disks.is_first():
        image_token.add(base, checkpoints / "tokenizer")
    dist.barrier()
    return checkpoints / "tokenizer"
