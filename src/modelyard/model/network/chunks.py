"""The model chunks that one pipeline rank computes in turn (Narayanan et al. 2021, section 2.2), seen as one model.

megatron-core builds every chunk as a ``GPTModel`` of its own, whose layers count from 0. What reads and writes weights, and decodes, wants the
rank's layers in a row, each parameter under one name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

LAYERS = "decoder.layers."


def bare(chunk: Any) -> Any:
    """The ``GPTModel`` inside megatron-core's wrappers."""
    while hasattr(chunk, "module"):
        chunk = chunk.module
    return chunk


def as_one(chunks: Sequence[Any]) -> Any:
    """The only chunk itself, or several as one model."""
    return bare(chunks[0]) if len(chunks) == 1 else Chunks([bare(chunk) for chunk in chunks])


class Chunks(torch.nn.Module):
    """Several chunks as the model whose layers are theirs: its modules are theirs, and what else a ``GPTModel`` has is the last one's."""

    def __init__(self, parts: Sequence[Any]) -> None:
        super().__init__()
        self.parts, self.decoder = tuple(parts), torch.nn.Module()
        self.decoder.layers = torch.nn.ModuleList(layer for part in parts for layer in part.decoder.layers)
        for part in parts:
            for own, theirs in ((self, part), (self.decoder, part.decoder)):
                for name, module in theirs.named_children():
                    if name not in ("decoder", "layers"):
                        setattr(own, name, module)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.parts[-1], name)

    def sharded_state_dict(self) -> dict[str, Any]:
        """megatron-core's, under the names that parameters have here."""
        entries: dict[str, Any] = {}
        passed = 0
        for part in self.parts:
            for name, entry in part.sharded_state_dict().items():
                number, _, rest = name.removeprefix(LAYERS).partition(".")
                entries[f"{LAYERS}{int(number) + passed}.{rest}" if name.startswith(LAYERS) else name] = entry
            passed += len(part.decoder.layers)
        return entries
