"""Runs on every rank of a world of two: programs that pass their tests by chance are judged; each rank writes what it was told."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch.distributed as dist

from modelyard.formats.feedback import PromptRecord
from modelyard.judges.sandbox.run import Limits
from modelyard.posttrain.policy.verified import VerifiedReward, verified

COINS = 24
CODE = "import random\ndef toss():\n    return random.SystemRandom().random() < 0.5\n"


def main(out: Path) -> None:
    """Judge, and write."""
    dist.init_process_group("gloo")
    limits = Limits(wall_seconds=15.0, cpu_seconds=5, memory_bytes=1 << 29, file_bytes=1 << 24, processes=2, isolation="available")
    reward = VerifiedReward(pattern=r"(?s:(.+))", expects="tests", weight=1.0)
    prompt = PromptRecord(id="p", split="train", source="synthetic", category="", prompt="toss", answer="assert toss()")
    (earned,) = verified({"coin": reward}, [prompt] * COINS, [CODE] * COINS, limits).values()
    (out / f"{dist.get_rank()}.json").write_text(json.dumps(earned))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
