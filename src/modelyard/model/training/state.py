"""Weights and state in and out of an engine: all of it, to go on at any layout, or its weights alone, from files or whole tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from modelyard.model.checkpoints import checkpoint
from modelyard.model.network.architecture import Head, ModelConfig
from modelyard.model.training import optimizer


class Stored:
    """The half of :class:`~modelyard.model.training.engine.Engine` that gives and takes state; the other half makes the model and runs it."""

    model: ModelConfig
    head: Head
    step: int
    chunk: Any
    optimizer: Any
    schedule: Any

    @property
    def gpt(self) -> Any:
        """The bare ``GPTModel`` inside the wrappers."""
        module = self.chunk
        while hasattr(module, "module"):
            module = module.module
        return module

    def _sharded_model(self) -> dict[str, Any]:
        """Sharded weights; without the empty ``_extra_state`` entries that only Transformer Engine's layers fill."""
        return {key: value for key, value in self.gpt.sharded_state_dict().items() if not key.endswith("_extra_state")}

    def _take_weights(self, loaded: dict[str, Any]) -> None:
        missing, unexpected = self.gpt.load_state_dict(loaded, strict=False)
        lacking = [key for key in missing if not key.endswith("_extra_state") and not key.startswith("output_layer.")]
        assert not lacking, f"checkpoint lacks {lacking}"
        assert not unexpected, f"checkpoint has unknown {unexpected}"

    def save(self, directory: Path, extra: Mapping[str, Any] | None = None, then: Sequence[Callable[[], None]] | None = None) -> None:
        """Everything needed to go on from here: weights, optimizer (if any), schedule, step, and ``extra`` (JSON) in the note.

        ``then`` is :func:`modelyard.model.checkpoints.checkpoint.save`'s: with it the state is written beside what follows.
        """
        model = self._sharded_model()
        state: dict[str, Any] = {"model": model}
        if self.optimizer is not None:
            state |= {"optimizer": optimizer.sharded_state(self.optimizer, model), "updates": optimizer.updates(self.optimizer)}
        checkpoint.save(state, directory, {"step": self.step, **(extra or {})}, then)

    def load(self, directory: Path) -> dict[str, Any]:
        """Continue from :meth:`save`, at this or any other layout; returns the note."""
        assert self.optimizer is not None
        assert self.schedule is not None
        model = self._sharded_model()
        state = {"model": model, "optimizer": optimizer.sharded_state(self.optimizer, model, loading=True)}
        loaded = checkpoint.load(state, directory)
        self._take_weights(loaded["model"])
        optimizer.load_sharded_state(self.optimizer, loaded["optimizer"], loaded["updates"])
        note = checkpoint.note(directory)
        self.step = int(note["step"])
        self.schedule.num_steps = 0
        self.schedule.step(self.step)
        return note

    def save_weights(self, directory: Path) -> None:
        """Weights only, for the stages that follow."""
        checkpoint.save({"model": self._sharded_model()}, directory, {"step": self.step})

    def load_weights(self, directory: Path) -> None:
        """Take the weights at ``directory``; a scalar head stays fresh when the checkpoint is a language model's."""
        wanted = self._sharded_model()
        if self.head == "scalar":
            from torch.distributed.checkpoint.filesystem import FileSystemReader

            stored = FileSystemReader(str(directory)).read_metadata().state_dict_metadata
            wanted = {key: value for key, value in wanted.items() if not key.startswith("output_layer.") or "output_layer.bias" in stored}
        loaded = checkpoint.load({"model": wanted}, directory)
        self._take_weights(loaded["model"])
        if self.optimizer is not None:
            self.optimizer.reload_model_params()

    def take_whole(self, weights: Mapping[str, Tensor]) -> None:
        """Take this rank's parts of whole tensors under their global names (:func:`modelyard.model.hf.weights.from_hf` makes them).

        Raises:
            ValueError: a tensor is missing or has another shape.
        """
        from megatron.core.dist_checkpointing.mapping import ShardedTensor, ShardedTensorFactory

        def part(wanted: ShardedTensor) -> Tensor:
            if wanted.key not in weights:
                raise ValueError(f"no tensor {wanted.key} among the weights")
            whole = weights[wanted.key]
            if wanted.allow_shape_mismatch:  # a vocabulary, padded to a multiple of the tensor-parallel ranks
                whole = torch.nn.functional.pad(whole, (0, 0, 0, wanted.global_shape[0] - self.model.vocab_size))
            if tuple(whole.shape) != tuple(wanted.global_shape):
                raise ValueError(f"{wanted.key} is {tuple(whole.shape)}, the model needs {tuple(wanted.global_shape)}")
            return whole[wanted.global_slice()].reshape(wanted.local_shape)

        taken = {}
        for name, entry in self._sharded_model().items():
            if isinstance(entry, ShardedTensorFactory):
                taken[name] = entry.merge_fn([part(piece) for piece in entry.build()])
            elif isinstance(entry, ShardedTensor):
                taken[name] = part(entry)
        self._take_weights(taken)
