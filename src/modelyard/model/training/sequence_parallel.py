"""Where a model built with sequence parallelism says so, for an engine that turns it off to score and to generate."""

from __future__ import annotations

from typing import Any


def switches(module: Any) -> list[tuple[Any, str]]:
    """Every attribute that says "sequence parallel" in a model built with it (megatron-core's own list of them keeps each model alive for ever)."""
    names = ("sequence_parallel", "scatter_to_sequence_parallel", "reduce_scatter_embeddings")
    configs = {id(part.config): part.config for part in module.modules() if hasattr(part, "config")}
    places = [*configs.values(), *module.modules()]
    return [(place, name) for place in places for name in names if getattr(place, name, False) is True and module.config.sequence_parallel]
