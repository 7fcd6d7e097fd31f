"""Proves that a model directory loads at a layout: real ranks on this machine against transformers, on one fixed text.

The parent computes transformers' log-probabilities and starts one process a rank with torchrun; each loads its part and scores the same tokens.
In float32 the two must agree within 1e-4 nats; bfloat16 rounds each matrix product, so the mean over the text is held to 0.05. The text goes
beyond a window, and beyond the length at which a stretched model was pretrained, as far as :data:`MOST` tokens go. Left out: data parallelism, which
changes nothing about loading.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist

from modelyard.execution import ExecutionConfig
from modelyard.model import model_directory
from modelyard.model.network import parallel
from modelyard.model.network.model_config import ModelConfig, Precision
from modelyard.model.training.batch import Batch

LENGTH = 64
"""Tokens of the text, and of its part behind whatever changes with the position."""
MOST = 8192
"""Tokens that are still read in a reasonable time; what changes later is not reached."""
POSITIONS = 256
"""Positions whose log-probabilities exist at a time."""
LIMITS: dict[Precision, float] = {"fp32": 1e-4, "bf16": 5e-2}


class Proof(NamedTuple):
    """What was compared."""

    difference: float
    """Of log-probabilities in nats; fp32: the largest, bf16: the mean."""
    tokens: int


def length_of(model: ModelConfig) -> int:
    """Tokens of the text that a model is proved on."""
    stretched = getattr(model.rope_scaling, "original_max_position_embeddings", None)
    edges = [edge for edge in (model.variant.window, stretched) if edge and edge < model.seq_len and edge + LENGTH <= MOST]
    return min(max(edges, default=0) + LENGTH, model.seq_len)


def prove(hf_directory: Path, directory: Path, tp: int, pp: int) -> Proof:
    """Compare the log-probabilities of a fixed text. Raises ValueError when they differ too much or a rank fails."""
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    described = model_directory.read(directory)
    tokens = _tokens(described.model)
    dtype = torch.bfloat16 if described.precision == "bf16" else torch.float32
    loader: Any = AutoModelForImageTextToText if described.model.vision else AutoModelForCausalLM
    theirs = loader.from_pretrained(hf_directory, dtype=dtype, trust_remote_code=False)
    with torch.no_grad():
        logits = theirs(tokens[:, :-1]).logits[0]
    said = zip(logits.split(POSITIONS), tokens[0, 1:].split(POSITIONS), strict=True)
    expected = torch.cat([torch.log_softmax(some.float(), -1).gather(1, after[:, None])[:, 0] for some, after in said])
    difference = (torch.tensor(_scores(directory, tp, pp)) - expected).abs()
    found = float(difference.max() if described.precision == "fp32" else difference.mean())
    if not found <= LIMITS[described.precision]:
        raise ValueError(f"{directory}: at TP={tp} x PP={pp} log-probabilities differ from transformers' by {found:.1e} nats")
    return Proof(found, len(expected))


def _scores(directory: Path, tp: int, pp: int) -> list[float]:
    with tempfile.TemporaryDirectory() as scratch:
        answer = Path(scratch) / "scores.json"
        command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={tp * pp}", "--standalone", "-m", __name__]
        result = subprocess.run(
            [*command, str(directory), str(tp), str(pp), str(answer)],
            capture_output=True,
            text=True,
            env={"OMP_NUM_THREADS": "1", **os.environ},
            check=False,
        )
        if result.returncode != 0:
            errors = [line for line in result.stderr.splitlines() if "Error" in line]
            raise ValueError(f"{directory}: does not load at TP={tp} x PP={pp}: {(errors or ['a rank died'])[0].strip()}")
        return [float(score) for score in json.loads(answer.read_text())]


def _tokens(model: ModelConfig) -> torch.Tensor:
    return torch.randint(0, model.vocab_size, (1, length_of(model)), generator=torch.Generator().manual_seed(0))


def main(directory: Path, tp: int, pp: int, answer: Path) -> None:
    """One rank: load, score the fixed text; rank 0 writes the log-probabilities."""
    engine = model_directory.load(directory, ExecutionConfig(tensor_parallel=tp, pipeline_parallel=pp, threads=1))
    tokens = _tokens(engine.model)
    scores = engine.evaluate(Batch(tokens[:, :-1], tokens[:, 1:], {}), 1)
    if dist.get_rank() == 0:
        answer.write_text(json.dumps(scores[0].tolist()))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
    parallel.leave()
