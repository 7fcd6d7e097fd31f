"""Our model and transformers' Llama with the same weights are the same function."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import BPE

from modelyard.config import ExecutionConfig
from modelyard.model import hf, model_directory
from modelyard.model.engine import Batch, Engine
from modelyard.model.generate import generate
from modelyard.model.trainer import History

from .layout_program import model


@pytest.fixture(params=[True, False], ids=["tied", "untied"])
def directory(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    tokenizer = tmp_path / "tokenizer"
    tokenizer.mkdir()
    Tokenizer(BPE()).save(str(tokenizer / "tokenizer.json"))
    (tokenizer / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    engine = Engine(model("llama", request.param), ExecutionConfig(threads=1), seed=7, precision="fp32")
    model_directory.write(engine, tokenizer, History(), tmp_path / "model")
    return tmp_path / "model"


def test_export_in_transformers_gives_the_same_logprobs_and_tokens(directory: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    hf.export_hf(directory, tmp_path / "hf", end_id=0, pad_id=4)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "hf")
    ours = model_directory.load(directory, ExecutionConfig(threads=1))
    tokens = torch.randint(5, 128, (3, 20), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = torch.log_softmax(theirs(tokens[:, :-1]).logits, -1).gather(2, tokens[:, 1:, None]).squeeze(2)
    torch.testing.assert_close(ours.evaluate(Batch(tokens[:, :-1], tokens[:, 1:], {}), 3), expected, rtol=1e-4, atol=1e-4)
    prompt = tokens[:1, :5]
    greedy = theirs.generate(prompt, max_new_tokens=20, do_sample=False, eos_token_id=None)[0, 5:].tolist()
    assert generate(ours, prompt.tolist(), max_new_tokens=20, temperature=0.0, seed=0).tokens[0] == greedy


def test_import_of_an_export_is_bit_identical(directory: Path, tmp_path: Path) -> None:
    hf.export_hf(directory, tmp_path / "hf", end_id=0, pad_id=4)
    hf.import_hf(tmp_path / "hf", tmp_path / "back")
    before, after = hf.read_checkpoint(directory / "checkpoint"), hf.read_checkpoint(tmp_path / "back" / "checkpoint")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert model_directory.load(tmp_path / "back", ExecutionConfig(threads=1)).model == model_directory.read(directory).model
