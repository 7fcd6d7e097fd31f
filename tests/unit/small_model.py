"""A small real model with a tokenizer of its own, as our directory and as Hugging Face's."""

import json
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from modelyard.execution import ExecutionConfig
from modelyard.model import model_directory
from modelyard.model.hf.conversion import export_hf
from modelyard.model.network.model_config import ModelConfig
from modelyard.model.training.engine import Engine
from modelyard.model.training.trainer import History

SPECIAL = ["<|endoftext|>", "<|user|>", "<|assistant|>", "<|end|>", "<|pad|>"]
TEXTS = ("It is red, green or blue.", "Which of these describes the response? Answer: A B C", "User's message: the king of the castle")


def write(root: Path, texts: Sequence[str] = TEXTS, *, seed: int = 5, seq_len: int = 256, **changes: object) -> None:
    """``root/ours`` and ``root/hf``: two layers of width 32 with weights large enough to have opinions; ``changes``: of the shape."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([*texts] * 2, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{SPECIAL[0]} $A", special_tokens=[(SPECIAL[0], 0)])
    (root / "tokens").mkdir()
    tokenizer.save(str(root / "tokens" / "tokenizer.json"))
    names = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>", "pad_token": "<|pad|>"}
    (root / "tokens" / "tokenizer_config.json").write_text(json.dumps(names))
    usual = {
        "style": "llama", "layers": 2, "hidden": 32, "heads": 4, "kv_heads": 2, "ffn_hidden": 64, "seq_len": seq_len, "vocab_size": 320,
        "tie_embeddings": True, "rope_base": 1e4, "norm_eps": 1e-5, "init_std": 0.3,
    }  # fmt: skip
    shape = ModelConfig(**{**usual, **changes})
    engine = Engine(shape, ExecutionConfig(threads=1), seed=seed, precision="fp32")
    model_directory.write(engine, root / "tokens", History(), root / "ours")
    export_hf(root / "ours", root / "hf", end_id=0, pad_id=4)
