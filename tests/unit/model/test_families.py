"""Every family of Hugging Face that is imported: the same function as transformers' at every layout, exported back bit for bit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from modelyard.commands.app import main
from modelyard.execution import ExecutionConfig
from modelyard.model import model_directory
from modelyard.model.hf import layout_check
from modelyard.model.hf.conversion import export_hf, import_hf
from modelyard.model.hf.families import hf_config, model_config
from modelyard.model.network import rope
from modelyard.model.training.batch import Batch
from modelyard.model.training.trainer import History

from . import families_world as world
from . import greedy_program as program
from .test_hf import assert_answers, launched, random_prompts, tensors

ONE = ExecutionConfig(threads=1)
SPLIT = ("llama3", "llama-yarn", "mistral", "qwen2-window", "qwen3", "gemma", "gemma-2b", "qwen2-one-key", "smollm3")
"""Families that are also run on two ranks."""
INERT = {"smollm3-plain": {"no_rope_layer_interval"}}
"""Keys that say nothing once ``no_rope_layers`` is written out."""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every family as transformers writes it (``{name}/hf``) and imported (``{name}/ours``)."""
    root = tmp_path_factory.mktemp("families")
    for name in world.FAMILIES:
        world.write(root / name / "hf", name)
        import_hf(root / name / "hf", root / name / "ours", tp=2, pp=2)
    return root


def few_prompts() -> tuple[list[list[int]], torch.Tensor]:
    """Four prompts of different lengths, and rows to score."""
    prompts, rows = random_prompts(world.VOCABULARY)
    return prompts[:4], rows


@pytest.fixture(scope="module")
def split(written: Path) -> dict[Path, dict[str, Any]]:
    return launched(2, [written / name / "ours" for name in SPLIT], ["2x1", "1x2"], *few_prompts())


@pytest.mark.parametrize("name", world.FAMILIES)
def test_import_of_a_family_is_transformers_function(written: Path, name: str) -> None:
    answer = program.measure(written / name / "ours", ONE, *few_prompts())
    assert_answers(written / name / "hf", {"1x1": answer}, *few_prompts())


@pytest.mark.parametrize("name", SPLIT)
def test_import_of_a_family_on_two_ranks_is_transformers_function(written: Path, split: dict[Path, dict[str, Any]], name: str) -> None:
    assert split[written / name / "ours"].keys() == {"2x1", "1x2"}
    assert_answers(written / name / "hf", split[written / name / "ours"], *few_prompts())


@pytest.fixture(scope="module")
def split_again(written: Path) -> dict[Path, dict[str, Any]]:
    """Every family at two ranks and at four."""
    places = [written / name / "ours" for name in world.FAMILIES]
    two, four = launched(2, places, ["2x1", "1x2"], *few_prompts()), launched(4, places, ["2x2"], *few_prompts())
    return {place: two[place] | four[place] for place in places}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", world.FAMILIES)
def test_every_family_on_two_and_four_ranks_is_transformers_function(
    written: Path, split_again: dict[Path, dict[str, Any]], name: str
) -> None:
    assert split_again[written / name / "ours"].keys() == {"2x1", "1x2", "2x2"}
    assert_answers(written / name / "hf", split_again[written / name / "ours"], *few_prompts())


@pytest.mark.parametrize("name", world.FAMILIES)
def test_family_comes_back_bit_for_bit_as_the_class_it_was(written: Path, tmp_path: Path, name: str) -> None:
    assert len(list((written / name / "hf").glob("*.safetensors"))) > 1, "in several files"
    assert main(["export", str(written / name / "ours"), str(tmp_path / "back")]) == 0
    before, after = tensors(written / name / "hf"), tensors(tmp_path / "back")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    old, new = (json.loads((place / "config.json").read_text()) for place in (written / name / "hf", tmp_path / "back"))
    assert {key for key in old.keys() | new.keys() if old.get(key) != new.get(key)} <= INERT.get(name, set())


@pytest.mark.parametrize("name", ["llama-linear", "llama-dynamic", "llama-yarn"])
def test_scaling_in_the_older_spelling_is_transformers_function(tmp_path: Path, name: str) -> None:
    config = json.loads((world.write(tmp_path / "hf", name) / "config.json").read_text())
    scaling = config.pop("rope_parameters")
    older = {"type": scaling.pop("rope_type"), "theta": scaling.pop("rope_theta")}
    config |= {"rope_theta": older.pop("theta"), "rope_scaling": older | scaling}
    (tmp_path / "hf" / "config.json").write_text(json.dumps(config))
    import_hf(tmp_path / "hf", tmp_path / "ours")
    found = model_directory.read(tmp_path / "ours").model.rope_scaling
    assert found is not None
    assert found.kind == older["type"]
    assert_answers(tmp_path / "hf", {"1x1": program.measure(tmp_path / "ours", ONE, *few_prompts())}, *few_prompts())


def test_dynamic_model_that_was_shortened_is_exported_as_the_function_that_it_was(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    world.write(tmp_path / "hf", "llama-dynamic")
    assert import_hf(tmp_path / "hf", tmp_path / "ours", seq_len=32).seq_len == 32
    assert main(["export", str(tmp_path / "ours"), str(tmp_path / "back")]) == 0
    before, after = (AutoModelForCausalLM.from_pretrained(tmp_path / name) for name in ("hf", "back"))
    for length in (80, 128):  # beyond what was kept of it, and beyond the 96 it was made for
        rows = torch.arange(length)[None] % world.VOCABULARY
        with torch.no_grad():
            torch.testing.assert_close(after(rows).logits, before(rows).logits, rtol=0, atol=0)


def test_dynamic_model_longer_than_where_its_scaling_begins_is_refused(written: Path) -> None:
    model = model_directory.read(written / "llama-dynamic" / "ours").model
    with pytest.raises(ValueError, match="seq_len 97 is beyond the 96 up to which dynamic rope_scaling changes nothing"):
        type(model).model_validate({**model.model_dump(), "seq_len": 97})


@pytest.mark.parametrize(
    ("name", "seq_len", "tokens"), [("mistral", 96, 73), ("llama-yarn", 96, 88), ("llama-yarn", 80, 80), ("llama-dynamic", 96, 64)]
)
def test_layout_is_proved_beyond_windows_and_the_length_of_pretraining(written: Path, name: str, seq_len: int, tokens: int) -> None:
    model = model_directory.read(written / name / "ours").model.model_copy(update={"seq_len": seq_len})
    assert layout_check.length_of(model) == tokens


def mixed(directory: Path, said: str | None) -> Path:
    """A Qwen 3 in two files whose tensors are of all formats: norms in float32, a feed-forward block in float16, the rest in bfloat16."""
    world.write(directory, "qwen3", shard="50GB")
    file = directory / "model.safetensors"
    whole = {
        name: tensor if "norm" in name else tensor.half() if "layers.1.mlp" in name else tensor.bfloat16()
        for name, tensor in load_file(file).items()
    }
    file.unlink()
    places = {name: f"model-0000{1 + ('norm' in name)}-of-00002.safetensors" for name in whole}
    for place in set(places.values()):
        save_file({name: tensor for name, tensor in whole.items() if places[name] == place}, directory / place, {"format": "pt"})
    (directory / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps({key: value for key, value in {**config, "dtype": said}.items() if value}))
    return directory


@pytest.mark.parametrize("said", ["bfloat16", "float32", None])
def test_weights_of_several_formats_come_back_each_in_its_own(tmp_path: Path, said: str | None) -> None:
    theirs = mixed(tmp_path / "hf", said)
    import_hf(theirs, tmp_path / "ours", tp=2)
    assert model_directory.read(tmp_path / "ours").precision == "fp32"
    assert main(["export", str(tmp_path / "ours"), str(tmp_path / "back")]) == 0
    before, after = tensors(theirs), tensors(tmp_path / "back")
    assert {tensor.dtype for tensor in before.values()} == {torch.float32, torch.bfloat16, torch.float16}
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert after[name].dtype == tensor.dtype, name
        assert torch.equal(after[name], tensor), name
    # transformers opens both in one format: what the config said, or without a word what most tensors are
    assert json.loads((tmp_path / "back" / "config.json").read_text())["dtype"] == (said or "bfloat16")


def test_model_of_several_formats_that_was_trained_is_exported_in_the_one_it_was_trained_in(tmp_path: Path) -> None:
    mixed(tmp_path / "hf", "bfloat16")
    import_hf(tmp_path / "hf", tmp_path / "ours")
    engine = model_directory.load(tmp_path / "ours", ONE, precision="bf16")
    model_directory.write(engine, tmp_path / "ours", History(), tmp_path / "trained")
    assert main(["export", str(tmp_path / "trained"), str(tmp_path / "back")]) == 0
    assert {tensor.dtype for tensor in tensors(tmp_path / "back").values()} == {torch.bfloat16}


def test_export_of_weights_that_are_no_longer_of_the_noted_format_is_refused(tmp_path: Path) -> None:
    world.write(tmp_path / "hf", "qwen2", torch.float16)
    import_hf(tmp_path / "hf", tmp_path / "ours")
    engine = model_directory.load(tmp_path / "ours", ONE)
    with torch.no_grad():
        next(engine.gpt.parameters()).add_(1e-7)
    shutil.rmtree(tmp_path / "ours" / "checkpoint")
    engine.save_weights(tmp_path / "ours" / "checkpoint")
    with pytest.raises(
        ValueError, match=r"ours: model.embed_tokens.weight was imported in float16 and holds values that this format has not"
    ):
        export_hf(tmp_path / "ours", tmp_path / "back")


def test_vocabulary_of_llama_3_is_scored_to_its_last_token(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

    world.write(tmp_path / "hf", "llama3")
    for file in (tmp_path / "hf").glob("*.safetensors*"):
        file.unlink()
    LlamaForCausalLM(LlamaConfig(**{**world.SHAPE, "vocab_size": 128_256, "hidden_size": 8})).save_pretrained(tmp_path / "hf")
    import_hf(tmp_path / "hf", tmp_path / "ours")
    rows = torch.tensor([[128_255, 5, 70_000, 128_000, 128_255, 65_536]])
    with torch.no_grad():
        logits = AutoModelForCausalLM.from_pretrained(tmp_path / "hf")(rows[:, :-1]).logits
    expected = torch.log_softmax(logits, -1).gather(2, rows[:, 1:, None]).squeeze(2)
    found = model_directory.load(tmp_path / "ours", ONE).evaluate(Batch(rows[:, :-1], rows[:, 1:], {}), 1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", [name for name, (_, change) in world.FAMILIES.items() if "rope_parameters" in change])
def test_rotary_frequencies_are_transformers_at_full_size(name: str) -> None:
    from transformers import AutoConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    family, change = world.FAMILIES[name]
    parameters = {**change["rope_parameters"], "original_max_position_embeddings": 8192}
    shape = {**world.SHAPE, "hidden_size": 4096, "num_attention_heads": 32, "max_position_embeddings": 131_072}
    theirs = AutoConfig.for_model(family, **{**shape, "rope_parameters": parameters})
    inverse, factor = ROPE_INIT_FUNCTIONS[parameters["rope_type"]](theirs, torch.device("cpu"))
    ours = model_config(theirs)
    torch.testing.assert_close(rope.frequencies(ours.rope_base, ours.head_width, ours.rope_scaling), inverse, rtol=1e-6, atol=0)
    assert rope.amplitude(ours.rope_scaling) == pytest.approx(factor, rel=1e-12)


def test_family_that_does_not_have_a_models_parts_is_refused(written: Path) -> None:
    qwen = model_directory.read(written / "qwen2" / "ours").model
    assert hf_config(qwen.model_copy(update={"family": None}), torch.float32).model_type == "qwen2"
    with pytest.raises(ValueError, match=r"model.family 'llama' is not what model.variant says \(qkv_bias\)"):
        hf_config(qwen.model_copy(update={"family": "llama"}), torch.float32)
