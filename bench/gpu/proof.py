"""Every proof that a GPU is used rightly, in one command: ``make gpu-proof``, or ``python -m bench.gpu.proof
--out proof.json``.

Each part is a process of its own with its own limit, and the results file is written anew after each, so what
was measured survives whatever happens later. ``--tiny`` goes through the same code on whatever device there
is; ``--parts`` picks parts by the beginning of their names. Not proven by it, since it takes one GPU: worlds
of several ranks, and Ray.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from bench.program import program


class Part(NamedTuple):
    """One measurement: its function, given ``tiny`` and the parts' common directory, and the seconds it may
    take.
    """

    run: Callable[[bool, Path], dict[str, Any]]
    limit: int
    on_cpu: bool = False
    """Whether the process is shown no GPU."""


def parts() -> dict[str, Part]:
    """All of them by name, in the order in which they run: what is worth most first."""
    from bench.gpu import machine, parity, sampling, te, training

    found = {
        "environment": Part(_alone(machine.environment), 120),
        "parity-cpu": Part(parity.reference, 180, on_cpu=True),
        "parity-gpu": Part(parity.against_reference, 180),
        "collectives": Part(_alone(machine.collectives), 120),
    }
    for shape in training.SHAPES:
        for side, form in product(("modelyard", "transformers"), ("compiled", "eager")):
            found[f"train-{shape}-{side}-{form}"] = Part(_alone(partial(training.utilisation, shape, side, form)), 300)
        found[f"profile-{shape}"] = Part(_alone(partial(training.profile, shape)), 240)
    for form in ("compiled", "eager"):
        found[f"train-experts-modelyard-{form}"] = Part(_alone(partial(training.utilisation, "experts", "modelyard", form)), 300)
    found["precisions"] = Part(_alone(training.precisions), 180)
    found["checkpoints"] = Part(_alone(training.checkpoints), 180)
    found["resuming"] = Part(_alone(training.resuming), 180)
    found["repeats"] = Part(_alone(parity.repeated), 180)
    for shape in ("smollm2", "350M"):
        found[f"ppo-{shape}"] = Part(_alone(partial(sampling.ppo_iterations, shape)), 240)
    for shape, batch in (("smollm2", 16), ("smollm2", 128), ("350M", 64), ("qwen3", 16)):
        found[f"generate-{shape}-{batch}"] = Part(_alone(partial(sampling.generation, shape, batch)), 240)
    for kind in sampling.QUESTIONS:
        found[f"scoring-{kind}"] = Part(_alone(partial(sampling.scoring, "350M", kind)), 240)
    for form in te.FORMS:
        found[f"te-learning-{form}"] = Part(_alone(partial(te.learning, form)), 240)
        found[f"te-train-350M-{form}"] = Part(_alone(partial(te.utilisation, "350M", form)), 240)
    return found


def _alone(measure: Callable[[bool], dict[str, Any]]) -> Callable[[bool, Path], dict[str, Any]]:
    """A measurement that leaves nothing for other parts."""
    return lambda tiny, _: measure(tiny)


def run_part(name: str, tiny: bool, shared: Path, out: Path) -> None:
    """In a process of its own: the part's result, or its failure in one line, to ``out``."""
    started = time.perf_counter()
    try:
        result = parts()[name].run(tiny, shared)
    except Exception as error:
        line = " ".join(str(error).split())[:500]
        out.write_text(json.dumps({"error": f"{type(error).__name__}: {line}"}))
        raise
    out.write_text(json.dumps({**result, "wall_s": time.perf_counter() - started}))


def collect(names: list[str], tiny: bool, results: Path) -> dict[str, Any]:
    """Run the parts one after another; ``results`` is whole after each."""
    found = known(results)
    with tempfile.TemporaryDirectory() as shared:
        for name in names:
            part, out = parts()[name], Path(shared) / "result.json"
            out.unlink(missing_ok=True)
            command = [sys.executable, "-m", "bench.gpu.proof", "--part", name, "--shared", shared, "--out", str(out)]
            environment = os.environ | ({"CUDA_VISIBLE_DEVICES": ""} if part.on_cpu else {})
            found[name] = _finished(command + (["--tiny"] if tiny else []), environment, part.limit, out) | ({"tiny": True} if tiny else {})
            unfinished = results.with_suffix(".partial")
            unfinished.write_text(json.dumps(found, indent=1))
            unfinished.replace(results)
            print(f"{name:34} {line_of(found[name])}", flush=True)
    return found


def known(results: Path) -> dict[str, Any]:
    """What earlier runs left in the results file, before anything is measured. Raises ValueError where it cannot be added to."""
    if not results.parent.is_dir():
        raise ValueError(f"--out {results}: {results.parent} is no directory")
    try:
        found = json.loads(results.read_text()) if results.exists() else {}
    except ValueError as error:
        raise ValueError(f"--out {results}: no results of this program: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"--out {results}: no results of this program: they are an object of parts")
    return found


def _finished(command: list[str], environment: dict[str, str], limit: int, out: Path) -> dict[str, Any]:
    try:
        done = subprocess.run(command, env=environment, timeout=limit, capture_output=True)
    except subprocess.TimeoutExpired as late:
        return {"error": f"not done after {limit} s, and ended", "stderr": _end(late.stderr or b"", 1500)}
    if not out.exists():
        return {"error": f"ended with {done.returncode}: {' '.join(_end(done.stderr, 500).split())}"}
    result = dict(json.loads(out.read_text()))
    if "error" in result:
        result["stderr"] = _end(done.stderr, 1500)
    return result


def _end(said: bytes, characters: int) -> str:
    return said.decode(errors="replace")[-characters:]


def line_of(result: dict[str, Any]) -> str:
    """A result in one line."""
    if "error" in result:
        return f"FAILED {result['error']}"
    shown = {key: value for key, value in result.items() if key not in ("curves", "milliseconds", "shape", "side", "form")}
    return "  ".join(f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in shown.items())


def main(
    out: Annotated[Path, typer.Option(help="Results, added to where the file exists.")] = Path("gpu-proof.json"),
    tiny: Annotated[bool, typer.Option("--tiny", help="The same code on tiny shapes, on any device.")] = False,
    chosen: Annotated[list[str], typer.Option("--parts", help="Beginnings of the names of the parts to run.")] = [""],
    part: Annotated[str | None, typer.Option(hidden=True)] = None,
    shared: Annotated[Path | None, typer.Option(hidden=True)] = None,
) -> int:
    """The command; 1 when a part failed."""
    if part and shared:
        run_part(part, tiny, shared, out)
        return 0
    if unknown := [one for one in chosen if not any(name.startswith(one) for name in parts())]:
        raise ValueError(f"--parts {unknown[0]}: no part's name begins so; there are {', '.join(parts())}")
    names = [name for name in parts() if name.startswith(tuple(chosen))]
    found = collect(names, tiny, out)
    return int(any("error" in found[name] for name in names))


if __name__ == "__main__":
    sys.exit(program(main))
