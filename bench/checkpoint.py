"""What a checkpoint costs training: written beside it, and written while it waits, in turn, on one rank or on several replicas.

``make bench-checkpoint``; ``--ranks`` replicas run on this machine (gloo). A round trains ``--steps`` steps and saves in the middle of
them; printed are medians over the rounds of how long the loop was held by the save and of the whole round, beside a round that does not save, and
by how much the rank with most grew above what it was resident with before the save, until its checkpoint was whole. Beside training the last
checkpoint of a round is waited for outside the round, as a run with more steps to go would not wait for it.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import torch
import torch.distributed as dist
import typer

from bench.lora_memory import peak
from bench.program import program
from bench.shapes import SMALL, SMOLLM2, TINY
from bench.train import OPTIMIZER
from modelyard.execution import ExecutionConfig
from modelyard.model.checkpoints import checkpoint
from modelyard.model.network import parallel, processor
from modelyard.model.training.batch import Batch
from modelyard.model.training.engine import Engine
from modelyard.model.training.token_data import language_model_loss

MODES = ("none", "waiting", "beside")
SHAPES = {"tiny": TINY, "small": SMALL, "smollm2": SMOLLM2}
MIB = 1 << 20


class Round(NamedTuple):
    """One rank's figures of a round."""

    held: float
    """Seconds the loop was held by its save."""
    seconds: float
    """Of the steps and the save."""
    grown: int
    """Bytes above what was resident before the save, at most, until it was whole."""
    own: int
    """Bytes of the files that this rank wrote."""


def round_of(engine: Engine, batch: Batch, mode: str, steps: int, root: Path) -> Round:
    """Train ``steps`` steps and save in the middle of them; no rank leaves before all have."""
    directory = checkpoint.step_directory(root, engine.step)
    dist.barrier()
    started, held, before = time.perf_counter(), 0.0, 0
    for step in range(steps):
        if step == steps // 2:
            before = _begin_peak()
            if mode != "none":
                asked = time.perf_counter()
                engine.save(directory, beside=mode == "beside")
                held = time.perf_counter() - asked
        engine.train_step(batch, batch.tokens.shape[0] // engine.layout.dp, language_model_loss)
    seconds = time.perf_counter() - started
    checkpoint.wait()
    grown = peak() - before
    own = sum(path.stat().st_size for path in directory.glob(f"__{engine.layout.rank}_*"))
    dist.barrier()
    if engine.layout.rank == 0:
        shutil.rmtree(directory, ignore_errors=True)
    dist.barrier()
    return Round(held, seconds, grown, own)


def _begin_peak() -> int:
    """Let the process's peak (VmHWM) begin at what is resident now, and say how much that is, in bytes."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak()


def measured(shape: str, ranks: int, rounds: int, steps: int, rows: int, threads: int, root: Path) -> dict[str, list[list[Round]]]:
    """This rank's rounds of every mode, and those of all other ranks."""
    model = SHAPES[shape]
    engine = Engine(
        model, ExecutionConfig(data_parallel=ranks, threads=threads), seed=0, precision="fp32", optim=OPTIMIZER, total_steps=1000
    )
    tokens = torch.randint(0, model.vocab_size, (rows, model.seq_len + 1), generator=torch.Generator().manual_seed(0))
    batch = Batch(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous(), {})
    for mode in MODES:
        round_of(engine, batch, mode, steps, root)
    found: dict[str, list[Round]] = {mode: [] for mode in MODES}
    for _ in range(rounds):
        for mode in MODES:
            found[mode].append(round_of(engine, batch, mode, steps, root))
    told: list[dict[str, list[Round]]] = [{}] * ranks
    dist.all_gather_object(told, found)
    return {mode: [rank[mode] for rank in told] for mode in MODES}


def main(
    shape: Literal["tiny", "small", "smollm2"] = "small",
    ranks: int = 2,
    rounds: int = 5,
    steps: int = 6,
    batch_rows: Annotated[int, typer.Option("--rows")] = 8,
    threads: int = 1,
) -> None:
    """The command; it starts itself once a rank."""
    if "BENCH_ROOT" in os.environ:
        root, rank = Path(os.environ["BENCH_ROOT"]), int(os.environ["BENCH_RANK"])
        dist.init_process_group("gloo", init_method=f"file://{root / 'rendezvous'}", rank=rank, world_size=ranks)
        found = measured(shape, ranks, rounds, steps, batch_rows, threads, root / "checkpoints")
        if rank == 0:
            print(json.dumps(found))
        parallel.leave()
        return
    print(processor.description(), flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        group = [
            subprocess.Popen(
                [sys.executable, "-m", "bench.checkpoint", *sys.argv[1:]],
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "BENCH_ROOT": scratch, "BENCH_RANK": str(rank)},
            )
            for rank in range(ranks)
        ]
        answers = [rank.communicate()[0] for rank in group]
    if any(rank.returncode for rank in group):
        raise RuntimeError("a rank failed; what it said stands above")
    print(
        f"{SHAPES[shape].parameters():,} parameters, fp32, {ranks} replica(s) of {threads} thread(s), {steps} steps of "
        f"{batch_rows} x {SHAPES[shape].seq_len}, median of {rounds} rounds"
    )
    for mode, said in json.loads(answers[0].splitlines()[-1]).items():
        of_ranks = [[Round(*one) for one in rank] for rank in said]
        held, seconds, grown, own = (
            max(statistics.median(values) for values in ([one[field] for one in rank] for rank in of_ranks)) for field in range(4)
        )
        print(
            f"{mode:8} held {held * 1000:7.1f} ms   round {seconds:6.3f} s   grown {grown / MIB:7.1f} MiB   own files {own / MIB:7.1f} MiB"
        )


if __name__ == "__main__":
    sys.exit(program(main))
