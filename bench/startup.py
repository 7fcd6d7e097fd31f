"""Time from ``fit()`` to the first optimizer step of a stage, by parts: of a first one, of the next on the workers
that were kept, and of one with workers of its own.

``python -m bench.startup --ranks 1``. Each part is the wall clock between two events; all clocks are this machine's.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from bench.program import program
from modelyard.config import Config
from modelyard.execution import ExecutionConfig
from modelyard.model.network import processor
from modelyard.progress import Report


class StageConfig(Config):
    """Nothing to configure."""


def stage(
    config: StageConfig, inputs: Mapping[str, Path], out: Path, checkpoints: Path, execution: ExecutionConfig, report: Report
) -> dict[str, float]:
    """The moments (seconds since the epoch) at which a rank begins, has imported, has its groups, has a model, has made a step."""
    moments = {"begin": time.time()}
    import torch

    from bench.shapes import SMALL
    from bench.train import OPTIMIZER
    from modelyard.model.network import parallel
    from modelyard.model.training.batch import Batch
    from modelyard.model.training.engine import Engine
    from modelyard.model.training.token_data import language_model_loss

    moments["import"] = time.time()
    parallel.initialize(execution)
    moments["groups"] = time.time()
    engine = Engine(SMALL, execution, seed=0, precision="fp32", optim=OPTIMIZER, total_steps=2)
    moments["model"] = time.time()
    tokens = torch.zeros(execution.data_parallel, SMALL.seq_len, dtype=torch.long)
    engine.train_step(Batch(tokens, tokens, {}), 1, language_model_loss)
    moments["step"] = time.time()
    return moments


PARTS = {
    "begin": "worker group, until the stage's first line",
    "import": "imports of the engine",
    "groups": "process groups (megatron-core's imports)",
    "model": "model and optimizer",
    "step": "first step",
}


def main(
    ranks: int = 1,
) -> None:
    """Measure and print."""
    from bench.startup import stage as importable  # ranks find it by its module's name
    from modelyard.adapters.ray import cluster as ray_cluster
    from modelyard.adapters.ray import train as ray_train

    print(processor.description(), flush=True)
    root = str(Path(__file__).parents[1])
    os.environ["PYTHONPATH"] = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    execution = ExecutionConfig(data_parallel=ranks, threads=1)
    with tempfile.TemporaryDirectory() as directory:
        execution = execution.model_copy(update={"scratch": directory})
        start = time.time()
        ray_cluster.connect()
        print(f"ray.init{time.time() - start:47.1f} s")
        for name, kept in (("first stage", True), ("next stage on kept workers", True), ("stage with workers of its own", False)):
            execution = execution.model_copy(update={"keep_workers": kept})
            start = before = time.time()
            path = Path(directory)
            moments = ray_train.launch(
                "startup", importable, StageConfig(), {}, path, path / "checkpoints", execution, lambda *a, **k: None
            )
            print(f"{name}: {moments['step'] - start:.1f} s from fit() to the end of the first step")
            print(f"  {'whole launch':50s} {time.time() - start:5.1f} s")
            for part, text in PARTS.items():
                print(f"  {text:50s} {moments[part] - before:5.1f} s")
                before = moments[part]
        ray_train.release()
        ray_cluster.disconnect()


if __name__ == "__main__":
    sys.exit(program(main))
