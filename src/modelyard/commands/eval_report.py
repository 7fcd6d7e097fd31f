"""What ``modelyard eval`` writes and prints of one benchmark: records, metrics beside them, one line a metric."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from modelyard.commands.answered_before import identity, metrics_file
from modelyard.commands.eval import Options
from modelyard.evals.asking import CUT_PROMPT, CUT_REPLY, cut
from modelyard.evals.benchmark import Benchmark
from modelyard.evals.summary import by_group, summarise
from modelyard.formats.records import Record, write_records
from modelyard.judges.agreement import Agreement
from modelyard.model.asked import Model
from modelyard.model.endpoint import Endpoint
from modelyard.stats.estimate import Estimate

say = partial(print, flush=True)


def sample_of(options: Options) -> dict[str, Any]:
    """What a limited sample was drawn by; empty where nothing was limited."""
    return {} if options.limit is None else {"sample": {"limit": options.limit, "seed": options.sample_seed}}


def report(
    model: Model,
    benchmark: Benchmark,
    records: Sequence[Record],
    graders: Sequence[Agreement],
    seconds: float,
    out: Path,
    sample: Mapping[str, Any],
) -> dict[str, Estimate]:
    """Write records and metrics with ``sample``; print one line a metric."""
    found, groups = summarise(benchmark, records), by_group(records)
    refused = model.refused if isinstance(model, Endpoint) else []
    lost = {what: number for what in (CUT_PROMPT, CUT_REPLY) if (number := cut(records, what))}
    write_records(out, records)
    summary = {
        **identity(model, benchmark),
        "model": records[0].model,
        "seconds": round(seconds, 3),
        "metrics": {name: value.plain() for name, value in found.items()},
        "groups": {name: value.plain() for name, value in groups.items()},
        **({"graders": [one.model_dump() for one in graders]} if graders else {}),
        **({"cut": lost} if lost else {}),
        **({"left_out": benchmark.left_out} if benchmark.left_out else {}),
        **({"refused_parameters": refused} if refused else {}),
        **sample,
    }
    metrics_file(out).write_text(json.dumps(summary, indent=1, ensure_ascii=False), "utf-8")
    say(f"{benchmark.name} {records[0].benchmark_id}: {len(benchmark.items)} items in {seconds:.1f} s -> {out}")
    for name, value in found.items():
        say(f"  {name}: {value}")
    if refused:
        say(f"  {model.name} takes no {', '.join(refused)}: asked otherwise")
    for reason, number in benchmark.left_out.items():
        say(f"  left out: {number} items: {reason}")
    for what, number in lost.items():
        say(f"  {what}: {number} of {len(records)} records")
    for one in graders:
        say(f"  {one.judge} agrees with {one.accuracy:.0%} of {one.n} labels of {one.rubric}, kappa {kappa_of(one)}")
    return found


def kappa_of(one: Agreement) -> str:
    """With its interval."""
    return f"{one.kappa:.2f} [{one.kappa_low:.2f}, {one.kappa_high:.2f}]"
