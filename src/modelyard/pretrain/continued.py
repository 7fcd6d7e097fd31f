"""Continued pretraining: an imported model trained further on the corpus, with the tokens of its own tokenizer.

The same loop as pretraining, from the imported weights instead of random ones: a batch is a function of seed and step, and a run resumes from its
newest checkpoint bit for bit. The optimizer starts afresh and the learning rate warms up and decays once more, since an imported model brings
weights only (Ibrahim et al. 2024, arXiv:2403.08763, re-warm and re-decay). What the model knew before is measured by the held-out loss before the
first step and, after alignment, by the evals. Left out: text of the imported model's own pretraining mixed in against forgetting; nobody has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from modelyard.execution import ExecutionConfig
from modelyard.formats.token_rows import TokenRows, read_info
from modelyard.model import model_directory
from modelyard.model.encoder import Encoder
from modelyard.model.training.recipe import Schedule, train_engine
from modelyard.model.training.token_data import held_out_loss
from modelyard.pretrain.import_model import ImportConfig, ImportedModel
from modelyard.progress import Report


class ContinueConfig(ImportedModel, Schedule):
    """The imported model and how it is trained further."""

    kind: Literal["continue"] = "continue"
    """A base model that others pretrained, trained further on the corpus."""

    @property
    def imported(self) -> ImportConfig:
        """What is imported before the training."""
        return ImportConfig(**{key: getattr(self, key) for key in ImportedModel.model_fields})


def run(
    config: ContinueConfig, inputs: Mapping[str, Path], out: Path, checkpoints: Path, execution: ExecutionConfig, report: Report
) -> dict[str, float]:
    """Train ``inputs["imported"]`` on ``inputs["tokens"]`` and write it to ``out``; losses in nats a token, before and after.

    Raises:
        ValueError: the tokens are of another tokenizer, or their rows are longer than the model reads.
    """
    Encoder(inputs["imported"]).require_same("tokens", inputs["tokens"])
    engine = model_directory.load(
        inputs["imported"],
        execution,
        seed=config.seed,
        precision=config.precision,
        optim=config.optimizer,
        total_steps=config.steps,
    )
    before = held_out_loss(engine, TokenRows(inputs["tokens"], "validation"), config.batch, config.seed)
    trained = train_engine(engine, config, inputs["tokens"], "base", checkpoints, execution, report)
    model_directory.write(engine, inputs["imported"], trained.history, out)
    tokens = float(config.steps * config.batch * read_info(inputs["tokens"]).seq_len)
    return {
        "base/train/first_loss": trained.history.lines[0]["base/train/loss"],
        "base/train/loss": trained.history.lines[-1]["base/train/loss"],
        "base/train/tokens": tokens,
        "base/train/flops": tokens * engine.model.flops_per_token(),
        "base/validation/imported_loss": before.value,
        **trained.held_out.flat("base/validation/loss"),
    }
