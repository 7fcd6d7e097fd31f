"""An imported model as the base of a line, and trained further: its own tokens everywhere, resumed bit for bit, refused in one line."""

import json
import subprocess
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from modelyard.data.tokens import token_files
from modelyard.data.tokens.token_files import BaseTokensConfig
from modelyard.execution import ExecutionConfig
from modelyard.formats.token_rows import TokenRows
from modelyard.model import model_directory
from modelyard.model.encoder import Encoder
from modelyard.model.hf.weights import read_checkpoint
from modelyard.model.training.optimizer import OptimizerConfig
from modelyard.pretrain import continued, import_model
from modelyard.pretrain.continued import ContinueConfig
from modelyard.pretrain.import_model import ImportConfig
from modelyard.progress import silent
from modelyard.store.file_hash import sha256_file, sha256_tree
from tests.worlds import imported

ADAM = OptimizerConfig(
    lr=3e-3, min_lr_ratio=1.0, warmup_steps=0, weight_decay=0.0, beta1=0.9, beta2=0.95, eps=1e-8, clip_grad=1.0, schedule="constant"
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    imported.write(tmp_path)
    return tmp_path


@pytest.fixture
def made(root: Path) -> dict[str, Path]:
    """A corpus, the imported model and the corpus in its tokens."""
    made = {name: root / "made" / name for name in ("corpus", "imported", "tokens")}
    for path in made.values():
        path.mkdir(parents=True)
    texts = [f"paragraph {n} of the king of the castle, red, green or blue" for n in range(200)]
    rows = {name: [value] * 200 for name, value in (("source", "books"), ("kind", "text"), ("language", "en"))}
    rows |= {"id": [str(n) for n in range(200)], "text": texts, "split": ["validation" if n % 5 == 0 else "train" for n in range(200)]}
    (made["corpus"] / "documents").mkdir()
    pq.write_table(pa.table(rows), made["corpus"] / "documents" / "0.parquet")
    import_model.run(import_config(root), {}, made["imported"], root / "ck", ExecutionConfig(inputs=str(root), threads=1), silent)
    tokens = {"seed": 0, "seq_len": 48, "train_tokens": 2000, "mixture": {"text": {"weight": 1.0, "max_epochs": 1.0}}}
    counted = token_files.run(BaseTokensConfig.model_validate(tokens), made, made["tokens"], silent)
    assert 1900 < counted["tokens/train/tokens"] <= 2000 // 49 * 49 + 49
    return made


def import_config(root: Path, **changes: object) -> ImportConfig:
    weights = sha256_file(root / "hf" / "model.safetensors")
    return ImportConfig.model_validate({"path": "hf", "sha256": weights, "seq_len": 64, "licence": "CC0", **changes})


def test_weights_are_kept_in_the_precision_that_the_config_says(root: Path) -> None:
    stored = {}
    for name, precision in (("as stored", None), ("bf16", "bf16")):
        out = root / name
        import_model.run(
            import_config(root, precision=precision), {}, out, root / "ck", ExecutionConfig(inputs=str(root), threads=1), silent
        )
        stored[name] = read_checkpoint(out / "checkpoint")
        assert model_directory.read(out).precision == (precision or "fp32")
    assert all(torch.equal(stored["bf16"][name], tensor.to(torch.bfloat16)) for name, tensor in stored["as stored"].items())


def continue_config(root: Path) -> ContinueConfig:
    schedule = {"optimizer": ADAM, "precision": "fp32", "steps": 6, "batch": 4, "micro_batch": 2, "seed": 1}
    return ContinueConfig(**import_config(root).model_dump(exclude={"kind", "precision"}), **schedule)


def _split(ids, end):
    """The texts of a stream of tokens, each without the token that ends it."""
    found = [[]]
    for token in ids:
        if token == end:
            found.append([])
        else:
            found[-1].append(token)
    return found


def test_base_tokens_are_the_imported_models_own_and_end_documents_with_its_token(made):
    encoder = Encoder(made["tokens"])
    assert encoder.fingerprint == Encoder(made["imported"]).fingerprint
    rows = TokenRows(made["tokens"], "validation")[:].tokens
    texts = [encoder.decode(ids) for ids in _split(rows.reshape(-1).tolist(), encoder.document_end)[:-1]]
    assert all(text.startswith("paragraph ") and text.endswith(" green or blue") for text in texts)
    split = {text for row in rows.tolist() for text in encoder.decode(row).split("paragraph ") if text}
    assert all(int(text.split(" ", 1)[0]) % 5 == 0 for text in split if text.split(" ", 1)[0].isdigit() and "castle" in text)


def test_continued_model_starts_from_the_imported_weights_and_learns_the_corpus(root, made):
    out = root / "out"
    metrics = continued.run(continue_config(root), made, out, root / "ck", ExecutionConfig(threads=1, log_every=1), silent)
    assert metrics["base/train/first_loss"] == pytest.approx(metrics["base/validation/imported_loss"], rel=0.1)
    assert metrics["base/validation/loss"] < metrics["base/validation/imported_loss"]
    assert metrics["base/train/tokens"] == 6 * 4 * 48
    assert Encoder(out).fingerprint == Encoder(made["imported"]).fingerprint


def test_continued_run_that_was_cut_off_ends_bit_for_bit_as_an_undisturbed_one(root, made):
    execution = ExecutionConfig(threads=1, log_every=1, checkpoint_every=2)
    whole, again = root / "whole", root / "again"
    metrics = continued.run(continue_config(root), made, whole, root / "ck-whole", execution, silent)

    def until_the_fourth_step(done: int, total: int, metrics: dict = {}, unit: str = "step") -> None:
        if done >= 4 * 4 * 48:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        continued.run(continue_config(root), made, again, root / "ck-again", execution, until_the_fourth_step)
    assert list((root / "ck-again").iterdir()), "a checkpoint is there to resume from"
    assert continued.run(continue_config(root), made, again, root / "ck-again", execution, silent) == metrics
    assert sha256_tree(again / "checkpoint") == sha256_tree(whole / "checkpoint")


def test_continued_run_refuses_tokens_of_another_tokenizer(root, made):
    settings = json.loads((made["tokens"] / "tokenizer_config.json").read_text())
    (made["tokens"] / "tokenizer_config.json").write_text(json.dumps({**settings, "chat_template": "other"}))
    with pytest.raises(ValueError, match="tokens: made with another chat template"):
        continued.run(continue_config(root), made, root / "out", root / "ck", ExecutionConfig(threads=1), silent)


def test_import_of_weights_in_several_files_is_known_by_what_sha256sum_prints(root: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(root / "hf")
    (root / "hf" / "model.safetensors").unlink()
    model.save_pretrained(root / "hf", max_shard_size="20KB")
    printed = subprocess.run("sha256sum *.safetensors | sha256sum", shell=True, cwd=root / "hf", capture_output=True, text=True, check=True)
    config = ImportConfig(path="hf", sha256=printed.stdout.split()[0], seq_len=64, licence="CC0")
    execution = ExecutionConfig(inputs=str(root), threads=1)
    metrics = import_model.run(config, {}, tmp_path / "out", tmp_path / "ck", execution, silent)
    assert metrics["imported/model/parameters"] == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"path": "nowhere"}, r"base.path: .*nowhere: no such file \(a relative path starts at execution.inputs or MODELYARD_DATA\)"),
        ({"path": "tokens"}, r"tokens: no such file, and no \*.safetensors in it"),
        ({"sha256": "00"}, r"base.path: the weights of .*hf have changed: sha256 \w{64}, the config says 00"),
        ({"seq_len": 4096}, r"seq_len 4096 is more than the model's 256"),
    ],
)
def test_import_what_cannot_be_used_is_one_line(root: Path, tmp_path: Path, changes: dict, message: str) -> None:
    execution = ExecutionConfig(inputs=str(root), threads=1)
    with pytest.raises(ValueError, match=message) as caught:
        import_model.run(import_config(root, **changes), {}, tmp_path / "out", tmp_path / "ck", execution, silent)
    assert "\n" not in str(caught.value)
