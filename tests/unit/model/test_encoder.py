"""One chat template per model: what a turn is, where the assistant speaks, and refusal of another template."""

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from modelyard.formats.feedback import Message
from modelyard.model.encoder import Encoder

CHATML = (
    "{% for m in messages %}{% if loop.first and m['role'] != 'system' %}{{ '<|im_start|>system\nBe kind<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
OURS = (
    "{{ bos_token }}{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] | trim + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
TALK = [Message(role=("user", "assistant")[i % 2], content=said) for i, said in enumerate(["Hi", "Hello. ", "How?", "So\nso"])]


def encoder(directory: Path, template: str, special: list[str], **settings: object) -> Encoder:
    directory.mkdir(exist_ok=True)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer.add_special_tokens(special)
    tokenizer.save(str(directory / "tokenizer.json"))
    (directory / "tokenizer_config.json").write_text(json.dumps({"chat_template": template, **settings}))
    return Encoder(directory)


@pytest.fixture
def chatml(tmp_path: Path) -> Encoder:
    return encoder(tmp_path / "chatml", CHATML, ["<|im_start|>", "<|im_end|>"], eos_token={"content": "<|im_end|>"}, pad_token="<|im_end|>")


@pytest.fixture
def ours(tmp_path: Path) -> Encoder:
    special = ["<|endoftext|>", "<|user|>", "<|assistant|>", "<|end|>", "<|pad|>"]
    return encoder(tmp_path / "ours", OURS, special, bos_token="<|endoftext|>", eos_token="<|endoftext|>")


def spelled(made: Encoder, ids: list[int]) -> str:
    return "".join(made._tokenizer.id_to_token(i) for i in ids).replace("Ġ", " ").replace("Ċ", "\n")


@pytest.mark.parametrize("name", ["chatml", "ours"])
def test_turns_are_the_template_and_mark_what_the_assistant_says_with_its_end(name: str, request: pytest.FixtureRequest) -> None:
    made: Encoder = request.getfixturevalue(name)
    end = {"chatml": "<|im_end|>", "ours": "<|end|>"}[name]
    turns = made.turns(TALK)
    assert spelled(made, [made.turn_end]) == end
    assert made.render(TALK).rstrip("\n") == spelled(made, turns.ids)
    first = "Hello. " if name == "chatml" else "Hello."
    assert [spelled(made, turns.ids[a:b]) for a, b in turns.spoken] == [first + end, f"So\nso{end}"]
    opened = made.turns(TALK[:3])
    assert spelled(made, opened.ids) == made.render(TALK[:3], open_turn=True)
    assert turns.ids[: turns.spoken[1][0]] == opened.ids == made.prompt(tuple(TALK[:3]))
    assert opened.spoken == turns.spoken[:1]


def test_special_tokens_come_from_the_config_where_the_names_are_others(chatml: Encoder, ours: Encoder) -> None:
    assert spelled(chatml, [chatml.document_end, chatml.padding]) == "<|im_end|><|im_end|>"
    assert spelled(ours, [ours.document_end, ours.padding]) == "<|endoftext|><|pad|>"
    assert len(chatml.ends) == 1
    assert len(ours.ends) == 2


def test_transformers_renders_the_same(ours: Encoder, chatml: Encoder, tmp_path: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    for made, name, special in ((ours, "ours", {"bos_token": "<|endoftext|>"}), (chatml, "chatml", {})):
        theirs = PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / name / "tokenizer.json"), chat_template=made.template, **special)
        messages = [message.model_dump() for message in TALK[:3]]
        assert theirs.apply_chat_template(messages, add_generation_prompt=True)["input_ids"] == made.turns(TALK[:3]).ids


def test_another_template_or_tokenizer_is_refused_by_its_hash(ours: Encoder, tmp_path: Path) -> None:
    special = ["<|endoftext|>", "<|user|>", "<|assistant|>", "<|end|>", "<|pad|>"]
    other = encoder(tmp_path / "b", OURS.replace("<|end|>", "<|endoftext|>"), special)
    with pytest.raises(
        ValueError, match=rf"reward: made with another chat template \({other.template_hash}\) than the rest \({ours.template_hash}\)"
    ):
        ours.require_same("reward", tmp_path / "b")
    encoder(tmp_path / "c", OURS, [*special, "<|more|>"])
    with pytest.raises(ValueError, match="tokens: made with another tokenizer than the rest"):
        ours.require_same("tokens", tmp_path / "c")
    ours.require_same("same", tmp_path / "ours")


def test_template_changed_after_training_is_refused(ours: Encoder, tmp_path: Path) -> None:
    (tmp_path / "ours" / "model.json").write_text(json.dumps({"chat_template": ours.template_hash}))
    assert Encoder(tmp_path / "ours").template == ours.template
    settings = json.loads((tmp_path / "ours" / "tokenizer_config.json").read_text())
    (tmp_path / "ours" / "tokenizer_config.json").write_text(json.dumps({**settings, "chat_template": CHATML}))
    with pytest.raises(ValueError, match=rf"its chat template \(\w{{16}}\) is not the one it was trained with \({ours.template_hash}\)"):
        Encoder(tmp_path / "ours")


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("", "no chat template"),
        ("{% for m in messages %}{{ m['content'] }}{% endfor %}", "puts nothing behind an assistant's turn"),
        (
            "{% if messages|length > 2 %}{{ raise_exception('two turns only') }}{% endif %}{{ messages[-1]['content'] }}<|end|>",
            "chat template: ",
        ),
        ("{{ messages|length }}{% for m in messages %}{{ m['content'] }}<|end|>{% endfor %}", "beginning differently"),
    ],
)
def test_template_that_cannot_be_used_is_named(tmp_path: Path, template: str, message: str) -> None:
    made = encoder(tmp_path / "x", template, ["<|endoftext|>", "<|end|>", "<|pad|>"])
    with pytest.raises(ValueError, match=message):
        made.turns(TALK)
