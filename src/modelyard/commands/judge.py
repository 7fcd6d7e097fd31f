"""``python -m modelyard.commands.judge RUBRIC.toml... --judge JUDGE``: how far a judge agrees with the rubrics' labels, before anything rests on it.

JUDGE: a directory of ours or of Hugging Face, or ``http://host:port/v1#name`` of an OpenAI-compatible server. Prints one line a rubric and its
table of confusion; ``--json`` keeps them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from modelyard.config import first_error
from modelyard.execution import ExecutionConfig
from modelyard.judges.agreement import Agreement, measure
from modelyard.judges.judge import Asking, Judge
from modelyard.judges.rubric import Rubric, read_rubric
from modelyard.model.endpoint import Endpoint
from modelyard.model.subject import Subject

MICRO_BATCH = 8


def main(arguments: Sequence[str]) -> int:
    """Run the command; 0, or 2 after one line that says what is wrong."""
    options = parser().parse_args(arguments)
    try:
        rubrics = [opened(path) for path in options.rubrics]
        asking = Asking(orders=options.orders, calibrate=options.calibrate, shots=options.shots, chat=options.chat)
        judge = Judge(model(options.judge, options.threads), asking)
        found = []
        for rubric in rubrics:
            found.append(measure(judge, rubric, options.seed))
            print(table(rubric, found[-1]), flush=True)  # noqa: T201
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    if options.json:
        options.json.write_text(json.dumps([one.model_dump() for one in found], indent=1), "utf-8")
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m modelyard.commands.judge", description="How far a judge agrees with people.")
    made.add_argument("rubrics", nargs="+", type=Path, help="files such as configs/rubrics/refusal_style.toml")
    made.add_argument("--judge", required=True, help="directory, or http://host:port/v1#name")
    made.add_argument("--orders", type=int, default=4, help="cyclic orders of the options that are averaged (default 4)")
    made.add_argument("--calibrate", choices=("none", "nothing", "examples"), default="nothing", help="how bias is measured")
    made.add_argument("--shots", type=int, default=0, help="prompts of each stance that are shown with their classes (default 0)")
    made.add_argument("--chat", action="store_true", help="ask in the judge's chat template")
    made.add_argument("--threads", type=int, default=2, help="CPU threads")
    made.add_argument("--seed", type=int, default=0, help="of the bootstrap")
    made.add_argument("--json", type=Path, help="where the agreement goes")
    return made


def opened(path: Path) -> Rubric:
    """The rubric of a file. Raises ValueError naming file and key."""
    try:
        return Rubric.model_validate(read_rubric(path))
    except ValidationError as error:
        raise ValueError(f"{path}: {first_error(error)}") from None


def model(spec: str, threads: int) -> Subject | Endpoint:
    """The judging model that ``spec`` names."""
    if spec.startswith(("http://", "https://")):
        return Endpoint(spec)
    return Subject.open(Path(spec).name, Path(spec), ExecutionConfig(threads=threads), MICRO_BATCH)


def table(rubric: Rubric, found: Agreement) -> str:
    """Agreement in one line, and labels (rows) against likeliest classes (columns)."""
    names = [option.name for option in rubric.options]
    width = max(len(name) for name in names)
    line = (
        f"{found.rubric}: accuracy {found.accuracy:.3f} [{found.accuracy_low:.3f}, {found.accuracy_high:.3f}], "
        f"kappa {found.kappa:.3f} [{found.kappa_low:.3f}, {found.kappa_high:.3f}], n={found.n}, judge {found.judge}"
    )
    rows = [
        f"  {name.ljust(width)} {' '.join(f'{count:4d}' for count in counts)}" for name, counts in zip(names, found.confusion, strict=True)
    ]
    return "\n".join([line, *rows])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
