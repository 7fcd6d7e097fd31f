"""Weights and state in and out of an engine: all of it, to go on at any layout, or its weights alone, from files or whole tensors.

An engine that trains a part of its weights, or adapters, keeps what it trains and says by hash which weights stand below; its weights alone are whole
and have the adapters merged.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from modelyard.model.checkpoints import checkpoint, shards
from modelyard.model.network import parallel
from modelyard.model.network.initialization import VISION, VOCABULARY
from modelyard.model.network.lora import LoRAConfig, adapted, is_adapter, weight_of
from modelyard.model.network.model_config import Head, ModelConfig
from modelyard.model.network.parallel import Layout
from modelyard.model.training import optimizer

Part = Literal["language", "projector", "vision", "all"]
"""What is trained of a model that is shown images: the language model, the projector to it, projector and patch encoder, or everything."""
PROJECTOR = (f"{VISION}projector.", f"{VISION}newline")


class Stored:
    """The half of :class:`~modelyard.model.training.engine.Engine` that gives and takes state; the other half makes the model and runs it."""

    model: ModelConfig
    head: Head
    layout: Layout
    step: int
    chunks: list[Any]
    """This rank's model in megatron-core's wrappers; several models in an interleaved pipeline."""
    optimizer: Any
    schedule: Any
    lora: LoRAConfig | None
    part: Part
    base: str = ""
    """Hash of the checkpoint whose weights stand below what is trained; "" where there are none or it came from no file."""

    @property
    def gpt(self) -> Any:
        """The same without wrappers, as one (:mod:`modelyard.model.network.chunks`), its weights whole."""
        raise NotImplementedError

    def _is_trained(self, name: str) -> bool:
        """Whether the parameter of this name is trained: all of :data:`Part` are but for those below adapters; a scalar head is trained with
        them."""
        if self.lora is not None:
            return is_adapter(name) or (self.head == "scalar" and name.startswith("output_layer."))
        if self.part == "projector":
            return name.startswith(PROJECTOR)
        return self.part == "all" or name.startswith(VISION) == (self.part == "vision")

    @property
    def is_partial(self) -> bool:
        """Whether some of the weights stay as they are."""
        return self.lora is not None or (self.model.vision is not None and self.part != "all")

    def trained(self) -> list[torch.nn.Parameter]:
        """The parameters that an update moves."""
        return [parameter for name, parameter in self.gpt.named_parameters() if self._is_trained(name)]

    def _sharded_model(self) -> dict[str, Any]:
        """Sharded weights; without the empty ``_extra_state`` entries that only Transformer Engine's layers fill."""
        return {key: value for key, value in self.gpt.sharded_state_dict().items() if not key.endswith("_extra_state")}

    def _sharded_own(self) -> dict[str, Any]:
        """The part of them that is trained."""
        return {key: value for key, value in self._sharded_model().items() if self._is_trained(key)}

    def _sharded_plain(self) -> dict[str, Any]:
        """Those of a model without adapters, as they stand below the adapters."""
        return {key: value for key, value in self._sharded_model().items() if not is_adapter(key)}

    def _sharded_merged(self) -> dict[str, Any]:
        """The same with the adapters merged."""
        entries, parameters = self._sharded_plain(), dict(self.gpt.named_parameters())
        places = {layer.layer_number - 1: place for place, layer in enumerate(self.gpt.decoder.layers)}
        for layer, name, linear in adapted(self.gpt):
            key = f"decoder.layers.{places[layer]}.{name}.weight"
            assert entries[key].data is parameters[key]
            entries[key] = dataclasses.replace(entries[key], data=weight_of(linear))
        return entries

    def _take_weights(self, loaded: dict[str, Any], wanted: Collection[str]) -> None:
        """Take tensors under the names of ``wanted``; an output layer may be missing among them."""
        missing, unexpected = self.gpt.load_state_dict(loaded, strict=False)
        lacking = [key for key in missing if key in wanted and not key.startswith("output_layer.")]
        assert not lacking, f"checkpoint lacks {lacking}"
        assert not unexpected, f"checkpoint has unknown {unexpected}"

    def _own_share(self) -> dict[str, Any]:
        """What this rank writes of a checkpoint: its share of what is trained, which its replicas hold too, and its part of the optimizer."""
        model = self._sharded_own()
        state: dict[str, Any] = {"model": shards.shared_out(model, parallel.replicas)}
        if self.optimizer is not None:
            state["optimizer"] = optimizer.sharded_state(self.optimizer, model, parallel.replicas)
        return state

    def to_save(self, directory: Path, extra: Mapping[str, Any]) -> checkpoint.Save:
        """Everything needed to go on from here: what is trained, optimizer (if any), schedule, step, and ``extra`` (JSON) in the note."""
        state = self._own_share()
        if self.optimizer is not None:
            state["updates"] = optimizer.updates(self.optimizer)
        below = {"base": self.base} if self.is_partial else {}
        return checkpoint.Save(state, directory, {"step": self.step, **below, **extra})

    def save(self, directory: Path, *, beside: bool = False) -> None:
        """Write :meth:`to_save`'s state: return when it is whole or, with ``beside``, as soon as it is copied."""
        one = self.to_save(directory, {})
        if beside:
            checkpoint.save_beside([one])
        else:
            checkpoint.save(one.state, one.directory, one.note)

    def load(self, directory: Path) -> dict[str, Any]:
        """Continue from :meth:`save`, at this or any other layout; returns the note.

        Raises:
            ValueError: what it has was trained on other weights than these.
        """
        note = checkpoint.note(directory)
        if self.is_partial and note.get("base") != self.base:
            what = "adapters were" if self.lora else f"{self.part} was"
            raise ValueError(f"{directory}: its {what} trained on other weights than those of this run")
        model = self._sharded_own()
        state: dict[str, Any] = {"model": model}
        if self.optimizer is not None:
            state["optimizer"] = optimizer.sharded_state(self.optimizer, model, parallel.replicas)
        loaded = checkpoint.load(state, directory)
        self._take_weights(loaded.get("model", {}), model)  # a pipeline stage may have nothing to train
        self.step = int(note["step"])
        if self.optimizer is not None:
            optimizer.take_updates(self.optimizer, loaded["updates"])
            self.schedule.num_steps = 0
            self.schedule.step(self.step)
        return note

    def save_weights(self, directory: Path, then: Sequence[Callable[[], None]] = ()) -> None:
        """Weights only, adapters merged, for the stages that follow; ``then`` runs when they are whole."""
        checkpoint.save({"model": shards.shared_out(self._sharded_merged(), parallel.replicas)}, directory, {"step": self.step}, then)

    def load_weights(self, directory: Path) -> None:
        """Take the weights at ``directory``, below the adapters where there are any; a scalar head stays fresh when the checkpoint is a language
        model's, a patch encoder when it is that of a model that reads text only."""
        self._load_plain(directory, self._sharded_plain())

    def load_head(self, directory: Path) -> None:
        """Take the scalar head at ``directory``, if model and checkpoint have one; every other weight is there already (see ``body``)."""
        if self.head == "scalar":
            self._load_plain(directory, {key: value for key, value in self._sharded_plain().items() if key.startswith("output_layer.")})

    def _load_plain(self, directory: Path, wanted: dict[str, Any]) -> None:
        if self.head == "scalar" or self.model.vision is not None:
            from torch.distributed.checkpoint.filesystem import FileSystemReader

            stored = FileSystemReader(str(directory)).read_metadata().state_dict_metadata
            fresh = [VISION] if not any(name.removeprefix("model.").startswith(VISION) for name in stored) else []
            fresh += ["output_layer."] if self.head == "scalar" and "output_layer.bias" not in stored else []
            wanted = {key: value for key, value in wanted.items() if not key.startswith(tuple(fresh))}
        loaded = checkpoint.load({"model": wanted}, directory)
        self._take_weights(loaded["model"], wanted)
        if self.optimizer is not None:
            self.optimizer.reload_model_params()

    def begin_rows(self, known: int) -> None:
        """Begin the vocabulary's rows from ``known`` on as the mean of those before, so that a token nobody has met is about as likely as any.

        Every rank calls it behind :meth:`load_weights` of a checkpoint that has fewer rows.
        """
        for name, parameter in self.gpt.named_parameters():
            if name not in VOCABULARY:
                continue
            first = self.layout.tp_rank * len(parameter)
            numbers = torch.arange(first, first + len(parameter), device=parameter.device)
            mean = parallel.summed_over_tensor_ranks(parameter.detach()[numbers < known].double().sum(0)) / known
            with torch.no_grad():
                parameter[(numbers >= known) & (numbers < self.model.vocab_size)] = mean.to(parameter.dtype)
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
        wanted = self._sharded_plain()
        for name, entry in wanted.items():
            if isinstance(entry, ShardedTensorFactory):
                taken[name] = entry.merge_fn([part(piece) for piece in entry.build()])
            elif isinstance(entry, ShardedTensor):
                taken[name] = part(entry)
        self._take_weights(taken, wanted)
