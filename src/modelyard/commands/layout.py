"""``modelyard layout``: memory, layout, bubble and days of a training run on GPUs that this machine does not have."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from modelyard.commands.outputs import json_option, write
from modelyard.exit_codes import DONE, FAILED

CONFIG = typer.Argument(help="TOML: precision, tokens, batch and a table model; see configs/model.")


def layout(
    config: Annotated[Path, CONFIG],
    gpus: Annotated[int, typer.Option(help="How many.")],
    memory_gib: Annotated[float, typer.Option(help="Memory of one, in GiB.")],
    gpus_per_node: Annotated[int | None, typer.Option(help="GPUs that share a fast link (8).")] = None,
    reserve_gib: Annotated[float | None, typer.Option(help="Memory of one that no tensor gets, in GiB (4).")] = None,
    peak_tflops: Annotated[float | None, typer.Option(help="Peak of one, TFLOP/s (989.4, an H100's dense bf16).")] = None,
    mfu: Annotated[float | None, typer.Option(help="Share of the peak that is reached outside the bubble (0.4).")] = None,
    chunks: Annotated[int | None, typer.Option(help="Model chunks a pipeline stage holds in turn (1).")] = None,
    context: Annotated[int | None, typer.Option(help="Ranks that share out the positions of every row (1).")] = None,
    copy_gib_per_second: Annotated[float | None, typer.Option(help="Rate from a GPU to pinned host memory, GiB/s (10).")] = None,
    disk_gib_per_second: Annotated[float | None, typer.Option(help="Rate at which a node writes checkpoints, GiB/s (1).")] = None,
    json: Annotated[Path | None, json_option("Where the plan goes, as JSON.")] = None,
) -> int:
    """Plan a training run for a number of GPUs: memory, parallel layout, bubble, days. Exit code 1: nothing fits."""
    from modelyard.complaint import complaint
    from modelyard.config import load_config
    from modelyard.model.plan.layout_search import Machine, PlanConfig
    from modelyard.model.plan.planning import PlanError, plan, text

    given = {
        "gpus": gpus,
        "memory_gib": memory_gib,
        "gpus_per_node": gpus_per_node,
        "reserve_gib": reserve_gib,
        "peak_tflops": peak_tflops,
        "mfu": mfu,
        "chunks": chunks,
        "context": context,
        "copy_gib_per_second": copy_gib_per_second,
        "disk_gib_per_second": disk_gib_per_second,
    }
    machine = Machine.model_validate({name: value for name, value in given.items() if value is not None})
    wanted = load_config(PlanConfig, config)
    try:
        result = plan(wanted, machine)
    except PlanError as error:
        sys.stderr.write(f"modelyard layout: {complaint(error)}\n")
        return FAILED
    if json:
        write(json, result.model_dump_json(indent=1) + "\n")
    sys.stdout.write(text(wanted, machine, result))
    return DONE
