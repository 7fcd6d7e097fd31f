"""Supervised fine-tuning on demonstrations: InstructGPT (arXiv:2203.02155, section 3.5 and appendix C.1).

Loss on what the assistant says only, in every turn of a conversation and in completions of plain text, with pretraining text mixed in as for the
model PPO starts from (appendix C.4: 2 epochs, 10% pretraining data). The 16-epoch baseline is the same stage with ``dropout`` 0.2, no mix and
``keep_epochs``, from whose weights :mod:`modelyard.posttrain.selection` takes the ones that the reward model likes best. Short examples may share
rows (``pack``); which ones do is fixed for a run and changes nothing, since none sees another. A model that is shown images learns from
demonstrations with images and without, all of its parts at once, as in LLaVA's second stage (Liu et al. 2023, arXiv:2304.08485, section 4.2);
demonstrations of one image may share it (``share_images``), which changes nothing either. Left out: loss on prompts.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from modelyard.config import Config
from modelyard.execution import ExecutionConfig
from modelyard.formats.feedback import DEMONSTRATIONS, Demonstration, read
from modelyard.formats.token_rows import TokenRows
from modelyard.model import model_directory
from modelyard.model.encoder import Encoder
from modelyard.model.network.lora import LoRAConfig
from modelyard.model.network.model_config import Precision
from modelyard.model.training import trainer
from modelyard.model.training.optimizer import OptimizerConfig
from modelyard.model.training.spikes import SpikeConfig
from modelyard.posttrain import kept_epochs
from modelyard.posttrain.losses import sft_loss
from modelyard.posttrain.rows.album import Album
from modelyard.posttrain.rows.demonstrations import Average, batches, fit, times, validation_loss
from modelyard.posttrain.rows.encoding import demonstration, never_stopping
from modelyard.progress import Report


class SFTConfig(Config):
    """Supervised fine-tuning."""

    seed: int = Field(ge=0)
    """Order of the examples."""
    precision: Precision
    """``fp32`` or ``bf16`` parameters."""
    epochs: float = Field(gt=0)
    """Passes over the demonstrations (InstructGPT: 2 for the model PPO starts from)."""
    repeat: dict[str, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)
    """Source -> how often a pass shows its demonstrations (absent: once), as InternVL 2.5's repeat factor balances sets of very different size."""
    batch: int = Field(ge=1)
    """Rows of a step."""
    micro_batch: int = Field(ge=1)
    """Rows of one forward pass on one replica."""
    pretraining_share: float = Field(ge=0, lt=1)
    """Share of a batch's rows that are pretraining text (InstructGPT: 0.1)."""
    pack: bool
    """Whether short demonstrations share rows as wide as ``max_tokens``."""
    max_tokens: int | None = Field(default=None, ge=2)
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
        if self.demonstrations_per_batch < 1:
            raise ValueError("pretraining_share must leave a batch at least one demonstration")
        if self.batch % self.micro_batch:
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
    shown, unseen = (read(inputs["feedback"] / DEMONSTRATIONS, Demonstration, split) for split in ("train", "validation"))
    train = list(zip([demonstration(encoder, d) for d in shown], times(config.repeat, shown), strict=True))
    fitting, held_out = fit([example for example, _ in train], width), fit([demonstration(encoder, d) for d in unseen], width)
    repeats = [often for example, often in train if example.length <= width]
    data = batches(fitting, mixed_in(config, inputs), config, encoder.padding, width, album, repeats)
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
            kept_epochs.keep(engine, base, -(-step // data.per_epoch), checkpoints, execution)

    epochs = -(-steps // data.per_epoch)
    if config.keep_epochs:
        kept_epochs.resume(epochs, checkpoints, execution)
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
    if config.keep_epochs:
        kept_epochs.publish(engine, epochs, checkpoints, out, execution)
    after = validation_loss(engine, held_out, config.micro_batch, encoder.padding, config.seed, album, config.share_images)
    return {
        **after.flat("sft/validation/loss"),
        "sft/validation/base_loss": before.value,
        "sft/train/loss": history.lines[-1]["sft/train/loss"],
        "sft/data/examples": float(len(fitting)),
        "sft/data/too_long": float(len(train) - len(fitting)),
        "sft/data/never_stop": float(never_stopping(encoder, fitting)),
        "sft/validation/too_long": float(len(unseen) - len(held_out)),
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
