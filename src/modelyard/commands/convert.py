"""``modelyard import`` and ``modelyard export``: Hugging Face directories (or a GGUF file) and model directories of ours, either way.

The work is :mod:`modelyard.model.hf.conversion`'s, the proof of a layout :mod:`modelyard.model.hf.layout_check`'s.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from modelyard.commands.command import say
from modelyard.commands.numbers import at_least


def import_model(
    hf_model: Annotated[
        Path,
        typer.Argument(help="Hugging Face directory of a Llama, Mistral, Qwen 2 or 3, Gemma or SmolLM3 model, or a Llama's GGUF file."),
    ],
    out: Annotated[Path, typer.Argument(help="Model directory to write; must not exist, or be empty.")],
    tp: Annotated[int, typer.Option(help="Tensor-parallel ranks of a layout to prove.", callback=at_least(1))] = 1,
    pp: Annotated[int, typer.Option(help="Pipeline-parallel ranks of a layout to prove.", callback=at_least(1))] = 1,
    adapter: Annotated[Path | None, typer.Option(help="Directory of a PEFT LoRA adapter to merge into the weights.")] = None,
) -> None:
    """Convert a Hugging Face directory, or a GGUF file, to a model directory, loadable at any layout that divides it.

    A layout to prove is refused before anything is written where it does not divide the model. Then that many
    processes load the model, one a rank, and must give transformers' log-probabilities of a fixed text.
    """
    from modelyard.model.hf import gguf, layout_check
    from modelyard.model.hf.conversion import import_hf

    if adapter is not None and tp * pp > 1:
        raise ValueError("--adapter: a layout is proved against the directory as it is; prove it without the adapter")
    require_new(out)
    with gguf.as_directory(hf_model, out.absolute().parent) as hf_dir:
        model = import_hf(hf_dir, out, tp=tp, pp=pp, adapter=adapter)
        line = f"{out}: {model.parameters():,} parameters, loadable at any layout that divides it"
        if tp * pp > 1:
            difference, tokens = layout_check.prove(hf_dir, out, tp, pp)
            line += f"; at TP={tp} x PP={pp} log-probabilities of {tokens:,} tokens within {difference:.1e} of transformers'"
    say(line)


def export_model(
    model_dir: Annotated[Path, typer.Argument(help="Model directory.")],
    hf_dir: Annotated[Path, typer.Argument(help="Hugging Face directory to write; must not exist, or be empty.")],
) -> None:
    """Convert a model directory back to a Hugging Face directory, bit for bit."""
    from modelyard.model.hf.conversion import export_hf
    from modelyard.model.hf.tokenizer import GENERATION
    from modelyard.model.model_directory import read

    require_new(hf_dir)
    read(model_dir)  # says in one line what is missing, which the tokenizer's reader does not
    if (model_dir / GENERATION).is_file():
        export_hf(model_dir, hf_dir)
    else:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(model_dir, trust_remote_code=False)
        export_hf(model_dir, hf_dir, end_id=tokenizer.eos_token_id, pad_id=tokenizer.pad_token_id)
    say(f"{hf_dir}: written")


def require_new(out: Path) -> None:
    """Raises ValueError where something lies that would be overwritten."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out}: is there already and not an empty directory")
