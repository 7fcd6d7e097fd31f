"""Hugging Face directories to model directories and back, for the families of :mod:`modelyard.model.hf.families`.

A model directory's checkpoint holds every tensor whole and is loaded at any layout. Weights come back bit for bit, each in its own format; float16,
and a mixture of formats, is widened to float32 meanwhile, which holds every value of them (:mod:`~modelyard.model.hf.stored_formats`). Tokenizer,
chat template and generation config travel along. No code of a directory is run. Left out: ``pytorch_model.bin`` (pickles).
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import torch

from modelyard.complaint import complaint
from modelyard.execution import ExecutionConfig
from modelyard.formats import json_file, tokenizer_files
from modelyard.model import chat_template
from modelyard.model.checkpoints import checkpoint
from modelyard.model.encoder import Encoder
from modelyard.model.hf import llava, stored_formats
from modelyard.model.hf.families import family_of, hf_config, model_config
from modelyard.model.hf.stored_formats import StoredFormats
from modelyard.model.hf.tokenizer import GENERATION, HubEncoder, check
from modelyard.model.hf.weights import Weights, from_hf, read_checkpoint, to_hf
from modelyard.model.model_directory import read
from modelyard.model.network import parallel
from modelyard.model.network.model_config import ModelConfig, Precision
from modelyard.model.training import adapter_file
from modelyard.model.training.engine import Engine

KEPT: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}
SPECIAL = ("bos_token_id", "eos_token_id", "pad_token_id")


def export_hf(
    directory: Path, out: Path, *, start_id: int | None = None, end_id: int | list[int] | None = None, pad_id: int | None = None
) -> None:
    """Write the model directory as a Hugging Face directory: config, safetensors, generation config, tokenizer and chat template.

    ``end_id`` (what ends a text or an answer), ``start_id`` (what begins a text; the first ``end_id`` where absent) and ``pad_id`` are for a
    model that was trained here; one that was only imported has its ids in its own ``generation_config.json``.

    Raises:
        ValueError: no family has a place for the model, or nothing says which ids begin and end a text.
    """
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, GenerationConfig

    model = read(directory).model
    family_of(model)
    _require_tokenizer(directory)
    weights, stored = _stored(directory, model), stored_formats.read(directory)
    if stored is not None:
        try:
            weights = stored_formats.narrowed(weights, stored)
        except ValueError as error:
            raise ValueError(f"{directory}: {error}") from None
    if end_id is not None:
        first = end_id if isinstance(end_id, int) else end_id[0]
        start_id = first if start_id is None else start_id
        generation = GenerationConfig(bos_token_id=start_id, eos_token_id=end_id, pad_token_id=pad_id, do_sample=False)
    elif (directory / GENERATION).is_file():
        json_file.table(directory / GENERATION)
        generation = GenerationConfig.from_pretrained(directory)
    else:
        raise ValueError(f"{directory}: no {GENERATION} and no end_id, so nothing says which id ends a text")
    special = {key: getattr(generation, key) for key in SPECIAL}
    of_language = "model." if model.vision is None else llava.LANGUAGE
    config = hf_config(model, weights[f"{of_language}norm.weight"].dtype, **special)
    if model.vision is not None:
        encoder = Encoder(directory)
        config = llava.hf_config(model, config, llava.placeholder_of(encoder, directory))
        llava.write_processor(_made(out), model.vision, encoder.template)
    with torch.device("meta"):
        theirs = (AutoModelForCausalLM if model.vision is None else AutoModelForImageTextToText).from_config(config)
    if model.tie_embeddings:
        weights["lm_head.weight"] = weights[f"{of_language}embed_tokens.weight"]
    theirs.load_state_dict(weights, assign=True)
    theirs.tie_weights()
    theirs.generation_config = generation
    theirs.save_pretrained(out)
    if stored is not None:
        stored_formats.write_dtype(out, stored.dtype)
    for name in tokenizer_files.FILES:
        shutil.copyfile(directory / name, out / name)


def import_hf(
    directory: Path,
    out: Path,
    *,
    tp: int = 1,
    pp: int = 1,
    seq_len: int | None = None,
    adapter: Path | None = None,
    precision: Precision | None = None,
) -> ModelConfig:
    """Write a Hugging Face directory as a model directory, loadable at any layout; it can be split over ``tp`` x ``pp`` ranks.

    ``seq_len``: longest sequence from here on, where that is to be less than what the model was made for; ``adapter``: directory of a PEFT LoRA
    adapter that is merged into the weights; ``precision``: what they are kept in, where that is not what they are stored in.

    Raises:
        ValueError: a model with parts that ours has not, or not so divisible; one line naming the file and the key or tensor.
    """
    if not directory.is_dir():
        raise ValueError(f"{directory}: no such directory")
    _require_tokenizer(directory)
    if (directory / GENERATION).is_file():
        json_file.table(directory / GENERATION)
    model, weights, own, stored = _read(directory, tp, pp, adapter)
    if precision is not None and precision != own:
        weights, stored = {name: tensor.to(KEPT[precision]) for name, tensor in weights.items()}, None
    special = _special(directory)
    encoder = HubEncoder(directory)
    encoder.require_rows(model.vocab_size)
    if model.vision is not None:
        llava.placeholder_of(encoder, directory)
        llava.check_processor(directory, model.vision)
    if seq_len is not None:
        if seq_len > model.seq_len:
            raise ValueError(f"{directory}: seq_len {seq_len} is more than the model's {model.seq_len}")
        model = model.model_copy(update={"seq_len": seq_len})
    out.mkdir(parents=True, exist_ok=True)
    encoder.save(out)
    _carry_generation(directory, special, out)
    _write(weights, model, precision or own, stored, out)
    return model


def _made(out: Path) -> Path:
    out.mkdir(parents=True, exist_ok=True)
    return out


def _require_tokenizer(directory: Path) -> None:
    """Raises ValueError naming the tokenizer's file that is missing or cannot be read."""
    for name in tokenizer_files.FILES:
        if not (directory / name).is_file():
            raise ValueError(f"{directory}: no {name}; a model without its tokenizer cannot be used")
    check(directory)


def _stored(directory: Path, model: ModelConfig) -> Weights:
    """A model directory's weights under Hugging Face's names. Raises ValueError where they are damaged or not those of ``model.json``."""
    if broken := checkpoint.damage(directory / "checkpoint"):
        raise ValueError(f"{directory / 'checkpoint'}: {broken}")
    try:
        return to_hf(read_checkpoint(directory / "checkpoint"), model)
    except (KeyError, IndexError, RuntimeError) as error:
        raise ValueError(f"{directory}: the weights are not those that model.json describes ({type(error).__name__}: {error})") from None


def load(directory: Path, execution: ExecutionConfig, *, precision: Precision | None = None) -> Engine:
    """An engine with the weights of a Hugging Face directory, at this run's layout, nothing written; fp32 unless told or stored as bf16.

    Raises:
        ValueError: as :func:`import_hf`, but for the tokenizer.
    """
    model, weights, own, _ = _read(directory, execution.tensor_parallel, execution.pipeline_parallel)
    engine = Engine(model, execution, seed=0, precision=precision or own)
    engine.take_whole(weights)
    return engine


class _Read(NamedTuple):
    """A Hugging Face directory's shape, its tensors under our global names, what the model computes in, and what they were where that differs."""

    model: ModelConfig
    weights: Weights
    precision: Precision
    stored: StoredFormats | None


def _read(directory: Path, tp: int, pp: int, adapter: Path | None = None) -> _Read:
    """What is in a Hugging Face directory that can be split so. Raises ValueError."""
    try:
        config = _config(directory)
        model = model_config(config)
        model.check_layout(tp, pp)
    except (ValueError, OSError, ArithmeticError) as error:
        raise ValueError(f"{directory / 'config.json'}: {complaint(error)}") from None
    theirs = read_safetensors(directory)
    if not theirs:
        raise ValueError(f"{directory}: the weights' files hold no tensor")
    if adapter is not None:
        adapter_file.merge(adapter_file.read(adapter), theirs)
    if odd := next((name for name, tensor in theirs.items() if tensor.dtype not in stored_formats.FORMATS.values()), None):
        raise ValueError(f"{directory}: {odd} is {theirs[odd].dtype}; weights must be float32, bfloat16 or float16")
    if odd := next((name for name, tensor in theirs.items() if not bool(tensor.isfinite().all())), None):
        raise ValueError(f"{directory}: {odd} holds values that are not finite")
    bf16 = all(tensor.dtype == torch.bfloat16 for tensor in theirs.values())
    stored = stored_formats.of(theirs, torch.bfloat16 if bf16 else torch.float32, config.dtype)
    if not bf16:
        theirs = {name: tensor.float() for name, tensor in theirs.items()}
    try:
        return _Read(model, from_hf(theirs, model), "bf16" if bf16 else "fp32", stored)
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"{directory}: {complaint(error)}") from None


def _config(directory: Path) -> Any:
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig, logging

    shown = logging.get_verbosity()
    logging.set_verbosity_error()  # what it warns of is refused below, by a line of our own
    try:
        return AutoConfig.from_pretrained(directory, trust_remote_code=False)
    except StrictDataclassError as error:  # sizes that transformers itself refuses
        raise ValueError(str(error)) from None
    finally:
        logging.set_verbosity(shown)


def read_safetensors(directory: Path) -> Weights:
    """Every tensor of ``model.safetensors``, or of all the files that ``model.safetensors.index.json`` names.

    Raises:
        ValueError: neither is there, or a file or tensor that the index names is missing.
    """
    index, single = directory / "model.safetensors.index.json", directory / "model.safetensors"
    if not index.is_file():
        if not single.is_file():
            raise ValueError(f"{directory}: no model.safetensors and no {index.name}; weights in other formats are not read")
        return _tensors(single)
    places = json_file.table(index, "weight_map")["weight_map"]
    if not isinstance(places, dict) or not all(isinstance(name, str) and Path(name).name == name for name in places.values()):
        raise ValueError(f"{index}: weight_map: expected the names of files beside it")
    weights: Weights = {}
    for name in sorted(set(places.values())):
        if not (directory / name).is_file():
            raise ValueError(f"{index}: {name} is missing")
        weights |= _tensors(directory / name)
    if lost := next((name for name in places if name not in weights), None):
        raise ValueError(f"{index}: {lost} is not in {places[lost]}")
    return weights


def _tensors(path: Path) -> Weights:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except SafetensorError as error:
        raise ValueError(f"{path}: no safetensors file: {complaint(error)}") from None


def _write(weights: Weights, model: ModelConfig, precision: Precision, stored: StoredFormats | None, out: Path) -> None:
    from megatron.core.dist_checkpointing.mapping import ShardedTensor

    parallel.initialize(ExecutionConfig())
    state = {name: ShardedTensor.from_rank_offsets(name, tensor) for name, tensor in weights.items()}
    checkpoint.save({"model": state}, out / "checkpoint", {"step": 0})
    description = {
        "model": model.model_dump(),
        "head": "lm",
        "precision": precision,
        chat_template.KEY: chat_template.hash_of(chat_template.text_of(out)),
        **({} if stored is None else {stored_formats.KEY: stored.model_dump()}),
    }
    (out / "model.json").write_text(json.dumps(description, indent=1))


def _special(directory: Path) -> dict[str, Any]:
    """Special tokens of ``config.json``; of a model that is shown images those of its language model, where it has none itself."""
    config = _config(directory)
    said = [{key: getattr(place, key, None) for key in SPECIAL} for place in (config, getattr(config, "text_config", None))]
    return {key: said[1][key] if said[0][key] is None else said[0][key] for key in SPECIAL}


def _carry_generation(directory: Path, special: dict[str, Any], out: Path) -> None:
    """Generation config, or one with these special tokens."""
    if (directory / GENERATION).is_file():
        shutil.copyfile(directory / GENERATION, out / GENERATION)
    else:
        from transformers import GenerationConfig

        GenerationConfig(**special).save_pretrained(out)
