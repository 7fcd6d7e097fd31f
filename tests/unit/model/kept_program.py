"""A rank of two that ask together and let the first ask alone, with a journal: python kept_program.py DIRECTORY. Writes what it heard and asked."""

import json
import os
import sys
from pathlib import Path

import torch.distributed as dist

from modelyard.judges.judge import asked_once
from modelyard.model.endpoint import Endpoint
from modelyard.model.kept import Kept
from modelyard.model.network.first_rank import on_first_rank


def main(directory: Path) -> None:
    dist.init_process_group("gloo")
    rank, asked = dist.get_rank(), list[str]()
    kept = Kept(directory / "answers.jsonl")

    def ask(question: str) -> list[float]:
        asked.append(question)
        return [len(question) + rank, float("inf")]

    together = kept.once("what all compute", lambda: ask("together"), list[float])
    alone = on_first_rank(lambda: kept.once("what the first asks", lambda: ask("alone"), list[float]))
    served = asked_once(Endpoint("http://localhost:1/v1#judge"), lambda: ask("served"))
    after = kept.once("what comes after it", lambda: ask("after"), list[float])
    (directory / f"{rank}-{os.environ['TURN']}.json").write_text(json.dumps({"heard": [together, alone, served, after], "asked": asked}))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
