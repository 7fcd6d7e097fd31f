"""A world small enough to train in seconds: tokenizer, base model, and a corpus in which "good" things are liked and "bad" ones are not."""

import itertools
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from modelyard.data.feedback import gather as human_feedback
from modelyard.data.feedback.config import FeedbackConfig
from modelyard.execution import ExecutionConfig
from modelyard.formats.token_rows import write_rows
from modelyard.model import model_directory
from modelyard.model.network.lora import LoRAConfig
from modelyard.model.network.model_config import ModelConfig
from modelyard.model.training.engine import Engine
from modelyard.model.training.optimizer import OptimizerConfig
from modelyard.model.training.trainer import History
from modelyard.progress import silent

SPECIAL = ["<|endoftext|>", "<|user|>", "<|assistant|>", "<|end|>", "<|pad|>"]
TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
MODEL = ModelConfig(
    style="llama",
    layers=2,
    hidden=32,
    heads=4,
    kv_heads=2,
    ffn_hidden=48,
    seq_len=32,
    vocab_size=320,
    tie_embeddings=True,
    rope_base=10000.0,
    norm_eps=1e-5,
    init_std=0.05,
)
FEEDBACK = FeedbackConfig.model_validate(
    {
        "seed": 0,
        "splits": {"held_out": 0.0, "gold": 0.0, "held_out_raters": 0.0},
        "pii": {"kinds": [], "region": "US"},
        "prefix_characters": 64,
        "prompts_per_user": 200,
        "votes": {
            "domains": ["movie"],
            "test_domains": ["movie"],
            "completions": 4,
            "reward": {"raters": "even", "passes": 20},
            "gold": {"raters": "odd", "passes": 20},
        },
    }
)
ALL = LoRAConfig(rank=4, alpha=6.0, targets=("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"))
SOME = LoRAConfig(rank=2, alpha=8.0, dropout=0.1, targets=("v_proj", "gate_proj"))
SENTENCES = [
    (f"the {noun} is {adjective} {ending}", sign)
    for noun, (adjective, sign), ending in itertools.product(
        ("film", "plot", "cast", "end"), (("good", 1), ("fine", 1), ("bad", -1), ("dull", -1)), ("today", "again", "at best")
    )
]


def optimizer(lr: float, **changes: object) -> OptimizerConfig:
    settings = {"min_lr_ratio": 1.0, "warmup_steps": 0, "weight_decay": 0.0, "beta1": 0.9, "beta2": 0.95, "eps": 1e-8, "clip_grad": 1.0}
    return OptimizerConfig(**{"lr": lr, "schedule": "constant", **settings, **changes})


@pytest.fixture
def execution() -> ExecutionConfig:
    return ExecutionConfig(checkpoint_every=1000, log_every=1, threads=1)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Directories ``tokens``, ``held_out``, ``feedback`` and ``base``."""
    root = tmp_path_factory.mktemp("world")
    paths = {name: root / name for name in ("tokens", "held_out", "feedback", "base")}
    for path in paths.values():
        path.mkdir()
    tokenizer = write_tokens(paths["tokens"])
    write_held_out(paths["held_out"])
    human_feedback.run(FEEDBACK, {"held_out": paths["held_out"]}, paths["feedback"], silent, "")
    engine = Engine(MODEL, ExecutionConfig(threads=1), seed=0, precision="fp32", head="lm")
    assert tokenizer.get_vocab_size() <= MODEL.vocab_size
    model_directory.write(engine, paths["tokens"], History(), paths["base"])
    return paths


def write_tokens(directory: Path) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    texts = [text for text, _ in SENTENCES]
    tokenizer.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=320, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False)
    )
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{SPECIAL[0]} $A", special_tokens=[(SPECIAL[0], 0)])
    tokenizer.save(str(directory / "tokenizer.json"))
    (directory / "tokenizer_config.json").write_text(json.dumps({"chat_template": TEMPLATE}))
    stream = [token for text in texts * 40 for token in tokenizer.encode(text).ids]
    rows = np.array(stream[: len(stream) // 33 * 33], dtype=np.uint16).reshape(-1, 33)
    write_rows(directory, {"train": rows[:-8], "validation": rows[-8:]}, vocabulary=320, separator=0)
    return tokenizer


def write_held_out(directory: Path) -> None:
    votes = np.random.default_rng(0)
    rated = [
        {"id": f"{split}-{i}", "domain": "movie", "split": split, "text": text, "votes": [int(v) for v in sign * votes.integers(1, 5, 8)]}
        for split in ("reward", "gold", "test")
        for i, (text, sign) in enumerate(SENTENCES)
    ]
    pq.write_table(pa.Table.from_pylist(rated), directory / "ratings.parquet")
    demonstrations = [
        {"id": f"r{i}-{split}", "kind": "review", "prompt": text[:4].strip(), "completion": text[len(text[:4].strip()) :], "split": split}
        for i, (text, _) in enumerate(SENTENCES)
        for split in ("train", "validation")
    ] + [
        {"id": f"d-{split}", "kind": "dialog", "prompt": "hello", "completion": "good today", "split": split}
        for split in ("train", "validation")
    ]
    (directory / "demonstrations.jsonl").write_text("".join(json.dumps(row) + "\n" for row in demonstrations))
    prompts = sorted({" ".join(text.split()[:2]) for text, _ in SENTENCES})
    (directory / "prompts.jsonl").write_text("".join(json.dumps({"id": p, "prompt": p}) + "\n" for p in prompts))


@pytest.fixture(scope="session")
def inputs(world: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The world with an SFT and a reward model."""
    from modelyard.posttrain import reward, sft
    from modelyard.posttrain.reward import RewardConfig

    from .test_sft_reward import REWARD, sft_config

    root = tmp_path_factory.mktemp("models")
    execution = ExecutionConfig(checkpoint_iterations=1000, log_every=100, threads=1)
    paths = {**world, "sft": root / "sft", "reward": root / "reward"}
    for name in ("sft", "reward"):
        paths[name].mkdir()
    sft.run(sft_config(epochs=8), world, paths["sft"], root / "a", execution, silent)
    body = {"body": paths["sft"], "feedback": world["feedback"]}
    reward.run(RewardConfig(**REWARD), body, paths["reward"], root / "b", execution, silent)
    return paths


@pytest.fixture(scope="session")
def adapted(world: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The world with an SFT model and a reward model on it, both trained by adapters; ``kept`` has the SFT's checkpoints."""
    from modelyard.posttrain import reward, sft
    from modelyard.posttrain.reward import RewardConfig

    from .test_sft_reward import REWARD, sft_config

    root = tmp_path_factory.mktemp("adapted")
    execution = ExecutionConfig(checkpoint_every=8, log_every=100, threads=1)
    paths = {**world, "sft": root / "sft" / "0001", "reward": root / "reward" / "0001", "kept": root / "a"}
    for name in ("sft", "reward"):
        paths[name].mkdir(parents=True)
    sft.run(sft_config(epochs=8, lora=ALL), world, paths["sft"], paths["kept"], execution, silent)
    body = {"body": paths["sft"], "feedback": world["feedback"]}
    reward.run(RewardConfig(**{**REWARD, "lora": SOME}), body, paths["reward"], root / "b", execution, silent)
    return paths
