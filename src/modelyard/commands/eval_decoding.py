"""How ``modelyard eval`` draws text, where its options say it."""

from __future__ import annotations

from modelyard.commands.eval import Options
from modelyard.evals.benchmark import Benchmark
from modelyard.model.asked import Decoding

DECODING = ("max_new_tokens", "samples", "temperature", "seed")
"""Options that change how text is generated."""


def decoded(benchmark: Benchmark, options: Options, strict: bool = True) -> Benchmark:
    """The benchmark with the decoding that the command asks for. Raises ValueError where that has no meaning (unless not ``strict``)."""
    changed = {key: getattr(options, key) for key in DECODING if getattr(options, key) is not None}
    if benchmark.decoding.max_new_tokens == 0:
        if changed and strict:
            raise ValueError(f"{benchmark.name} generates nothing, so --{next(iter(changed)).replace('_', '-')} has no meaning")
        return benchmark
    decoding = Decoding.model_validate({**benchmark.decoding.model_dump(), **changed})
    if decoding.samples > 1 and decoding.temperature == 0:
        raise ValueError("several samples at temperature 0 are all the same; give --temperature")
    return benchmark.model_copy(update={"decoding": decoding})
