"""Supervised fine-tuning on demonstrations: InstructGPT (arXiv:2203.02155, section 3.5 and appendix C.1).

Loss on what the assistant says only, in every turn of a conversation and in completions of plain text, with pretraining text mixed in as for the
model PPO starts from (appendix C.4: 2 epochs, 10% pretraining data). The 16-epoch baseline is the same stage with ``dropout`` 0.2, no mix and
``keep_epochs``, from whose weights :mod:`modelyard.posttrain.selection` takes the ones that the reward model likes best. Short examples may share
rows (``pack``); which ones do is fixed for a run and changes nothing, since none sees another. A model that is shown images learns from
demonstrations with images and without, all of its parts at once, as in LLaVA's second stage (Liu et al. 2023, arXiv:2304.08485, section 4.2);
demonstrations of one image may share it (``share_images``), which changes nothing either. Left out: loss on prompts.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, model_validator

from modelyard.config import Config
from modelyard.execution import ExecutionConfig
from modelyard.formats.feedback import DEMONSTRATIONS, Demonstration, read
from modelyard.formats.token_rows import Rows, TokenRows
from modelyard.model import model_directory
from modelyard.model.encoder import Encoder
from modelyard.model.network.architecture import Precision
from modelyard.model.network.lora import LoRAConfig
from modelyard.model.training import trainer
from modelyard.model.training.batch import SEGMENTS, STEM, UNLABELLED, Batch
from modelyard.model.training.engine import Engine
from modelyard.model.training.optimizer import OptimizerConfig
from modelyard.model.training.spikes import SpikeConfig
from modelyard.model.training.token_data import sequences
from modelyard.posttrain.losses import sft_loss
from modelyard.posttrain.rows.album import NO_ALBUM, Album
from modelyard.posttrain.rows.encoding import demonstration
from modelyard.posttrain.rows.masking import Example, alike, averaged, fill_rows, pack_examples, room, stem_of, sums_of_examples
from modelyard.posttrain.rows.sampling import length_grouped, pretraining_window
from modelyard.progress import Report
from modelyard.stats.estimate import Estimate, bootstrap_mean

Average = Literal["token", "square", "sample"]
POWERS: dict[Average, float] = {"token": 0.0, "square": 0.5, "sample": 1.0}
"""Each token of an example of n counts n to the power of minus this."""
EPOCHS = "epochs"
"""Where the weights after every epoch are kept."""
VALIDATION_ROWS = 64
"""Rows of validation demonstrations that are padded together."""


class SFTConfig(Config):
    """Supervised fine-tuning."""

    seed: int
    """Order of the examples."""
    precision: Precision
    """``fp32`` or ``bf16`` parameters."""
    epochs: float
    """Passes over the demonstrations (InstructGPT: 2 for the model PPO starts from)."""
    batch: int
    """Rows of a step."""
    micro_batch: int
    """Rows of one forward pass on one replica."""
    pretraining_share: float
    """Share of a batch's rows that are pretraining text (InstructGPT: 0.1)."""
    pack: bool
    """Whether short demonstrations share rows as wide as ``max_tokens``."""
    max_tokens: int | None = None
    """Longest demonstration that is trained on, in positions; absent: the model's ``seq_len``."""
    dropout: float = Field(ge=0, lt=1)
    """Share of the residual stream's updates that is dropped (InstructGPT: 0.2)."""
    average: Average = "token"
    """What the loss is the mean over: trained tokens; examples (``sample``: a long answer weighs as a short one, a row of pretraining text or each of
    its documents as one example); or between the two (``square``), as InternVL 2.5 weighs them (arXiv:2412.05271)."""
    keep_epochs: bool
    """Whether the weights after every epoch are kept, for a choice among them (InstructGPT: by reward-model score)."""
    optimizer: OptimizerConfig
    """AdamW; InstructGPT decays by cosine to 10% without warm-up."""
    lora: LoRAConfig | None = None
    """Adapters that are trained in place of all weights (``[sft.lora]``); absent: all weights are."""
    spike: SpikeConfig | None = None
    """When a step is not taken because its loss stands out; absent: never."""
    share_images: int = Field(default=1, ge=1)
    """Most demonstrations of one image that share a row, in which the image stands once."""
    blank: bool = False
    """Whether every image is grey: the same training without seeing."""

    @model_validator(mode="after")
    def _fits(self) -> SFTConfig:
        if self.pack and self.share_images > 1:
            raise ValueError("pack and share_images are two ways to share rows: only one of them")
        if self.epochs <= 0:
            raise ValueError(f"epochs must be positive, got {self.epochs}")
        if not 0 <= self.pretraining_share < 1 or self.demonstrations_per_batch < 1:
            raise ValueError("pretraining_share must leave a batch at least one demonstration")
        if self.micro_batch < 1 or self.batch % self.micro_batch:
            raise ValueError(f"batch {self.batch} is not divisible by micro_batch {self.micro_batch}")
        return self

    @property
    def pretraining_per_batch(self) -> int:
        """Rows of pretraining text in a batch."""
        return round(self.batch * self.pretraining_share)

    @property
    def demonstrations_per_batch(self) -> int:
        """Rows of demonstrations in a batch."""
        return self.batch - self.pretraining_per_batch


def run(
    config: SFTConfig, inputs: Mapping[str, Path], out: Path, checkpoints: Path, execution: ExecutionConfig, report: Report
) -> dict[str, float]:
    """Fine-tune ``inputs["projector"]``, else ``inputs["base"]``, on the demonstrations of ``inputs["feedback"]``.

    Text of ``inputs["tokens"]`` is mixed in. Tokens are not needed where ``pretraining_share`` is 0.
    """
    base = inputs["projector"] if "projector" in inputs else inputs["base"]
    encoder, model = Encoder(base), model_directory.read(base).model
    if "tokens" in inputs:
        encoder.require_same("tokens", inputs["tokens"])
    width = config.max_tokens or model.seq_len
    album = Album.of(encoder, model, inputs["feedback"], config.blank)
    train, validation = (
        [demonstration(encoder, d) for d in read(inputs["feedback"] / DEMONSTRATIONS, Demonstration, split)]
        for split in ("train", "validation")
    )
    fitting, held_out = fit(train, width), fit(validation, width)
    data = batches(fitting, mixed_in(config, inputs), config, encoder.padding, width, album)
    steps = max(1, round(config.epochs * data.per_epoch))
    engine = model_directory.load(
        base,
        execution,
        seed=config.seed,
        precision=config.precision,
        head="lm",
        optim=config.optimizer,
        total_steps=steps,
        dropout=config.dropout,
        lora=config.lora,
        part="all" if any(example.images for example in fitting) else "language",
    )
    before = validation_loss(engine, held_out, config.micro_batch, encoder.padding, config.seed, album, config.share_images)

    def keep_epoch(step: int) -> None:
        if config.keep_epochs and (step % data.per_epoch == 0 or step == steps):
            engine.save_weights(checkpoints / EPOCHS / f"{-(-step // data.per_epoch):03d}")

    history = trainer.train(
        engine,
        data.batch,
        steps=steps,
        micro_batch=config.micro_batch,
        loss_fn=sft_loss,
        stage="sft",
        checkpoints=checkpoints,
        execution=execution,
        report=report,
        spike=config.spike,
        after_step=keep_epoch,
    )
    model_directory.write(engine, base, history, out)
    if config.keep_epochs and engine.layout.rank == 0:
        shutil.copytree(checkpoints / EPOCHS, out / EPOCHS)
    after = validation_loss(engine, held_out, config.micro_batch, encoder.padding, config.seed, album, config.share_images)
    return {
        **after.flat("sft/validation/loss"),
        "sft/validation/base_loss": before.value,
        "sft/train/loss": history.lines[-1]["sft/train/loss"],
        "sft/data/examples": float(len(fitting)),
        "sft/data/too_long": float(len(train) - len(fitting)),
        "sft/data/tokens_in_rows": data.density,
        **({"sft/data/with_images": float(sum(bool(example.images) for example in fitting))} if album.pictures else {}),
    }


def mixed_in(config: SFTConfig, inputs: Mapping[str, Path]) -> TokenRows | None:
    """The packed pretraining rows, where some are wanted. Raises ValueError where they are wanted and absent."""
    if not config.pretraining_per_batch:
        return None
    if "tokens" not in inputs:
        raise ValueError(f"sft.pretraining_share {config.pretraining_share} needs pretraining text, and this line has none")
    return TokenRows(inputs["tokens"], "train")


def fit(examples: Sequence[Example], width: int) -> list[Example]:
    """The examples that fit in a row of ``width`` positions; raises ValueError if none does."""
    fitting = [example for example in examples if example.length <= width]
    if not fitting:
        raise ValueError(f"no demonstration fits in {width} positions")
    return fitting


class Batches(NamedTuple):
    """What is trained on, step by step."""

    batch: Callable[[int], Batch]
    per_epoch: int
    """Steps of a pass over the demonstrations."""
    density: float
    """Share of the demonstrations' rows that is no padding."""


class Rowed(Protocol):
    """What a config says of a batch's rows (see :class:`SFTConfig`)."""

    @property
    def seed(self) -> int:
        """Order of the examples."""

    @property
    def pack(self) -> bool:
        """Whether short demonstrations share rows."""

    @property
    def average(self) -> Average:
        """What the loss is the mean over."""

    @property
    def share_images(self) -> int:
        """Most demonstrations of one image that share a row."""

    @property
    def demonstrations_per_batch(self) -> int:
        """Rows of demonstrations."""

    @property
    def pretraining_per_batch(self) -> int:
        """Rows of pretraining text."""


def batches(
    examples: Sequence[Example], pretraining: Rows | None, config: Rowed, pad_id: int, width: int, album: Album = NO_ALBUM
) -> Batches:
    """Step -> batch: rows of demonstrations first, then pretraining rows cut to the batch's width.

    Packed rows are ``width`` wide and taken in random order; otherwise a row is one demonstration, or those that share an image, beside others of
    similar length. Documents of a pretraining row see each other unless the rows keep them apart; where demonstrations share a row that is longer
    than theirs, theirs are padded.
    """
    size, mixed = config.demonstrations_per_batch, config.pretraining_per_batch
    lengths = [example.length for example in examples]
    rows = fill_rows(lengths, width) if config.pack else alike(examples, album.placeholder, config.share_images)
    if len(rows) < size:
        raise ValueError(f"{len(rows)} rows of demonstrations do not fill one batch of {size}")
    groups = [[examples[i] for i in row] for row in rows]
    stems = [0 if config.pack else stem_of(group) for group in groups]
    taken = [room(group, stem) for group, stem in zip(groups, stems, strict=True)]
    widths = [width] * len(rows) if config.pack else taken
    longest = pretraining[np.arange(1)].tokens.shape[1] - 1 if pretraining is not None else 0

    @lru_cache(maxsize=2)
    def grouped(epoch: int) -> list[list[int]]:
        return length_grouped(widths, size, np.random.default_rng([config.seed, epoch]))

    def batch(step: int) -> Batch:
        epoch, place = divmod(step, len(rows) // size)
        chosen = grouped(epoch)[place]
        packed = pack_examples([groups[r] for r in chosen], pad_id, width if config.pack else None, [stems[r] for r in chosen])
        tokens, labels, mask = packed.rows
        segments, stem, images = packed.segments, packed.stems, packed.images
        apart, shares = config.pack or any(len(rows[r]) > 1 for r in chosen), bool(stem.any())
        if pretraining is not None:
            wide = tokens.shape[1] if stem.max() == 0 else min(tokens.shape[1], longest)
            text = sequences(pretraining_window(pretraining, step * mixed, mixed, wide))
            fill = (0, tokens.shape[1] - wide)
            tokens, labels = (
                torch.cat([tokens, F.pad(text.tokens, fill, value=pad_id)]),
                torch.cat([labels, F.pad(text.labels, fill, value=UNLABELLED)]),
            )
            mask = torch.cat([mask, F.pad(torch.ones(mixed, wide), fill)])
            segments = torch.cat([segments, F.pad(text.extras.get(SEGMENTS, torch.zeros_like(text.tokens)), fill, value=-1)])
            stem, images = torch.cat([stem, stem.new_zeros(mixed)]), [*images, *[()] * mixed]
            apart |= SEGMENTS in text.extras
        mask = averaged(mask, segments, POWERS[config.average])
        extras = {"mask": mask} | ({SEGMENTS: segments} if apart else {}) | ({STEM: stem} if shares else {})
        return Batch(tokens, labels, extras, album.tiles(tokens, images))

    filled = sum(max(widths[r] for r in group) * size for group in grouped(0))
    density = sum(taken[r] for group in grouped(0) for r in group) / filled
    return Batches(batch, len(rows) // size, density)


def validation_loss(
    engine: Engine, examples: Sequence[Example], micro_batch: int, pad_id: int, seed: int, album: Album = NO_ALBUM, share_images: int = 1
) -> Estimate:
    """-log p a trained token, in nats; the interval is a bootstrap over examples with their token counts taken as fixed.

    At most ``share_images`` examples of one image share a row, as in training, which changes nothing but the time.
    """
    sums: list[float] = []
    tokens = 0.0
    groups = [[examples[i] for i in group] for group in alike(examples, album.placeholder, share_images)]
    groups.sort(key=lambda group: room(group, stem_of(group)))
    for start in range(0, len(groups), VALIDATION_ROWS):
        part = groups[start : start + VALIDATION_ROWS]
        packed = pack_examples(part, pad_id, stems=[stem_of(group) for group in part])
        rows, shares = packed.rows, any(len(group) > 1 for group in part)
        texts = {SEGMENTS: packed.segments, STEM: packed.stems} if shares else {}
        logprobs = engine.evaluate(Batch(rows.tokens, rows.labels, texts, album.tiles(rows.tokens, packed.images)), micro_batch).cpu()
        sums += sums_of_examples(-(logprobs * rows.mask), packed, [len(group) for group in part])
        tokens += float(rows.mask.sum())
    return bootstrap_mean([one * len(examples) / tokens for one in sums], seed)
