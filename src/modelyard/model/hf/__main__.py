"""The commands of :mod:`modelyard.model.hf.conversion`.

``python -m modelyard.model.hf import HF_DIR OUT [--tp N] [--pp N]`` writes a model directory. ``--tp`` and ``--pp`` name a layout to prove: the
model must be divisible so (refused before anything is written), and then that many processes load it, one a rank, and must give transformers'
log-probabilities of a fixed text. ``python -m modelyard.model.hf export MODEL_DIR HF_DIR`` writes it back.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from modelyard.arguments import at_least
from modelyard.config import complaint
from modelyard.model.hf import layout_check
from modelyard.model.hf.conversion import GENERATION, export_hf, import_hf
from modelyard.model.model_directory import read


def main(arguments: Sequence[str]) -> int:
    """The two commands; 0 when done, 1 with one line when refused."""
    parser = argparse.ArgumentParser(prog="python -m modelyard.model.hf", description="Hugging Face Llama directories and ours")
    commands = parser.add_subparsers(dest="command", required=True)
    importer = commands.add_parser("import", help="Hugging Face directory to model directory")
    importer.add_argument("hf_dir", type=Path)
    importer.add_argument("out", type=Path)
    for name, what in (("--tp", "tensor"), ("--pp", "pipeline")):
        importer.add_argument(name, type=at_least(1, int), default=1, help=f"{what}-parallel ranks of a layout to prove (1)")
    exporter = commands.add_parser("export", help="model directory to Hugging Face directory")
    exporter.add_argument("model_dir", type=Path)
    exporter.add_argument("hf_dir", type=Path)
    chosen = parser.parse_args(arguments)
    try:
        print(_import(chosen) if chosen.command == "import" else _export(chosen))  # noqa: T201
    except (ValueError, OSError) as error:
        print(complaint(error), file=sys.stderr)  # noqa: T201
        return 1
    return 0


def _import(chosen: argparse.Namespace) -> str:
    _require_new(chosen.out)
    model = import_hf(chosen.hf_dir, chosen.out, tp=chosen.tp, pp=chosen.pp)
    line = f"{chosen.out}: {model.parameters():,} parameters, loadable at any layout that divides it"
    if chosen.tp * chosen.pp > 1:
        difference = layout_check.prove(chosen.hf_dir, chosen.out, chosen.tp, chosen.pp)
        line += f"; at TP={chosen.tp} x PP={chosen.pp} log-probabilities within {difference:.1e} of transformers'"
    return line


def _require_new(out: Path) -> None:
    """Raises ValueError where something lies that would be overwritten."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out}: is there already and not an empty directory")


def _export(chosen: argparse.Namespace) -> str:
    from transformers import AutoTokenizer

    _require_new(chosen.hf_dir)
    read(chosen.model_dir)  # says in one line what is missing, which the tokenizer's reader does not
    if (chosen.model_dir / GENERATION).is_file():
        export_hf(chosen.model_dir, chosen.hf_dir)
    else:
        tokenizer = AutoTokenizer.from_pretrained(chosen.model_dir)
        export_hf(chosen.model_dir, chosen.hf_dir, end_id=tokenizer.eos_token_id, pad_id=tokenizer.pad_token_id)
    return f"{chosen.hf_dir}: written"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
