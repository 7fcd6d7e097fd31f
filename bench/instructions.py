"""What a stronger model's demonstrations add to people's: SFT on people's alone, on both and on the teacher's alone, over seeds.

``MODELYARD_TEACHER=... python -m bench.instructions STORE OUT --config configs/pipeline/tiny-taught.toml``. STORE is the store of a finished line,
whose newest base model, tokens, feedback and benchmarks are taken; the config says what is taught and how SFT trains. OUT keeps what the teacher
made, so a second call asks for nothing. The loss is of people's held-out demonstrations of the config's categories; more demonstrations are more
steps, so people's alone are also trained on for as many. Left out: preference between the models' answers, which needs a judge that knows the task.
"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from bench.program import program
from flows.pipeline_config import PipelineConfig, load_pipeline
from modelyard.data.instructions import make
from modelyard.data.instructions.config import TaughtConfig
from modelyard.execution import ExecutionConfig
from modelyard.formats import instructions
from modelyard.formats.feedback import DEMONSTRATIONS, Demonstration, records, write
from modelyard.model.network import processor
from modelyard.posttrain import sft
from modelyard.posttrain.sft import SFTConfig
from modelyard.progress import silent
from modelyard.store.manifest import MANIFEST

READS = ("tokens", "feedback", "benchmarks")


def newest(store: Path, *names: str) -> Path:
    """The newest finished artifact of the first of these names that the store has. Raises ValueError where it has none."""
    for name in names:
        found = [path.parent for path in (store / name).glob(f"*/{MANIFEST}")]
        if found:
            return max(found, key=lambda path: json.loads((path / MANIFEST).read_text("utf-8")).get("finished") or 0.0)
    raise ValueError(f"{store}: no artifact {' or '.join(names)}")


def taught(config: TaughtConfig, inputs: Mapping[str, Path], out: Path, execution: ExecutionConfig) -> Path:
    """The directory of what the teacher makes: found, or made."""
    made = out / "instructions"
    if not (made / instructions.RECORD).is_file():
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir(parents=True)
        make.run(config, inputs, made, out / "asked", execution, silent)
    return made


def demonstrations(made: Path, config: TaughtConfig) -> dict[str, list[Demonstration]]:
    """``people``, ``teacher``, and ``held_out`` of people's, of the categories that the teacher was shown."""
    shown = list(records(made / DEMONSTRATIONS, Demonstration))
    own = [one for one in shown if one.source == config.teacher.name]
    people = [one for one in shown if one.source != config.teacher.name and (not config.categories or one.category in config.categories)]
    sides = {"people": "train", "held_out": "validation"}
    return {"teacher": own, **{name: [one for one in people if one.split == split] for name, split in sides.items()}}


def losses(
    config: SFTConfig, shown: Sequence[Demonstration], inputs: Mapping[str, Path], execution: ExecutionConfig, seeds: Sequence[int]
) -> list[dict[str, float]]:
    """Metrics of SFT on these demonstrations, once a seed."""
    found = []
    for seed in seeds:
        with tempfile.TemporaryDirectory() as work:
            places = {name: Path(work) / name for name in ("feedback", "out", "checkpoints")}
            for place in places.values():
                place.mkdir()
            write(places["feedback"] / DEMONSTRATIONS, shown)
            given = {**inputs, "feedback": places["feedback"]}
            one = config.model_copy(update={"seed": seed})
            found.append(sft.run(one, given, places["out"], places["checkpoints"], execution, silent))
    return found


def sides(line: PipelineConfig, shown: Mapping[str, list[Demonstration]]) -> dict[str, tuple[SFTConfig, list[Demonstration]]]:
    """Side -> how SFT trains and on what; the teacher's alone where they fill a batch."""
    people, teacher = shown["people"], shown["teacher"]
    longer = line.sft.model_copy(update={"epochs": line.sft.epochs * (len(people) + len(teacher)) / len(people)})
    found = {
        "people": (line.sft, people),
        "people, as many steps as both": (longer, people),
        "people and teacher": (line.sft, [*people, *teacher]),
    }
    return found | ({"teacher": (line.sft, teacher)} if len(teacher) >= line.sft.demonstrations_per_batch else {})


def main(
    store: Annotated[Path, typer.Argument(help="Store of a finished line.")],
    out: Annotated[Path, typer.Argument(help="Where the teacher's demonstrations are kept.")],
    config: str = "configs/pipeline/tiny-taught.toml",
    changes: Annotated[list[str], typer.Option("--set", help="KEY=VALUE of the config.")] = [],
    seeds: int = 3,
    threads: int = 2,
) -> None:
    """Let the teacher write, train every side, and print a line each."""
    line = load_pipeline(config, changes)
    if line.taught is None:
        raise ValueError(f"{config}: has no table instructions")
    execution = ExecutionConfig(threads=threads, log_every=1000, checkpoint_every=100_000, scratch=str(out / "scratch"))
    inputs = {"base": newest(store, "base", "imported"), **{name: newest(store, name) for name in READS}}
    made = taught(line.taught, inputs, out, execution)
    record, shown = instructions.read_record(made), demonstrations(made, line.taught)
    print(processor.description())
    print(f"{record.teacher.name}: {record.proposed} instructions in reply to {record.requests} requests, {record.kept} kept; ", end="")
    print(", ".join(f"{count} {reason}" for reason, count in record.left_out.items()), flush=True)
    print(
        f"{len(shown['people'])} of people, {len(shown['teacher'])} of the teacher; loss of {len(shown['held_out'])} held-out ones of people"
    )
    for name, (trained, some) in sides(line, shown).items():
        found = losses(trained, [*some, *shown["held_out"]], inputs, execution, range(seeds))
        values = [one["sft/validation/loss"] for one in found]
        first = found[0]
        interval = f"[{first['sft/validation/loss_low']:.3f}, {first['sft/validation/loss_high']:.3f}]"
        print(
            f"  {name:30s} {statistics.mean(values):.3f} nats a token, seeds {min(values):.3f} to {max(values):.3f}; "
            f"over the texts of seed 0 {interval}; base {first['sft/validation/base_loss']:.3f}",
            flush=True,
        )


if __name__ == "__main__":
    sys.exit(program(main))
