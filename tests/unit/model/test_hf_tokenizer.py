"""A Hugging Face directory's tokenizer and chat template mean the same where the model lies, once imported, and to transformers."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from modelyard.execution import ExecutionConfig
from modelyard.formats.feedback import Message
from modelyard.model.asked import Decoding
from modelyard.model.encoder import Encoder
from modelyard.model.hf.conversion import import_hf
from modelyard.model.hf.tokenizer import HubEncoder
from modelyard.model.subject import Subject

ROWS = 448
LLAMA2 = (
    "{% for m in messages %}{% if m['role'] == 'user' %}{{ bos_token + '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'] + ' ' + eos_token }}{% endif %}{% endfor %}"
)
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
THOUGHTFUL = (  # as Qwen 3: what was thought stands in the last answer only
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% if m['role'] == 'assistant' and loop.last %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{{ m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
DATED = "\n{% if strftime_now is defined %}{{ 'Today is ' + strftime_now('%d %b %Y') + '\n' }}{% endif %}" + CHATML
TALK = [Message(role=("user", "assistant")[i % 2], content=said) for i, said in enumerate(["Hello", "I am fine.", "How so?", "I am\n  so"])]
TEXTS = ["Hello, I am fine.", "", " two  spaces", "a\nb"]


def sentencepiece(prefix: str) -> Tokenizer:
    """A tokenizer as sentencepiece makes them: a space is put before a text by a normalizer (Llama 2) or a pre-tokenizer (Mistral)."""
    merges = [("▁", "I"), ("a", "m"), ("▁", "am"), ("▁", "H"), ("▁", "▁")]
    pieces = [
        "<unk>",
        "<s>",
        "</s>",
        *(f"<0x{byte:02X}>" for byte in range(256)),
        "▁",
        *sorted(set(string.printable) - set(string.whitespace)),
    ]
    vocabulary = {piece: i for i, piece in enumerate([*pieces, *map("".join, merges)])}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True))
    if prefix == "normalizer":
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(content=" ", left=1)]
    )
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in ("<unk>", "<s>", "</s>")])
    return tokenizer


def byte_level() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, []))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in ("<s>", "</s>", "<|im_start|>", "<|im_end|>")])
    return tokenizer


KINDS: dict[str, tuple[Any, str, bool]] = {
    "llama2": (lambda: sentencepiece("normalizer"), LLAMA2, True),
    "mistral": (lambda: sentencepiece("pre-tokenizer"), LLAMA2, True),
    "chatml": (byte_level, CHATML, True),
    "without-bos": (byte_level, CHATML, False),
}


def hub(directory: Path, kind: str, rows: int = ROWS, **settings: Any) -> Path:
    """A directory of a small Llama with that tokenizer; a setting of None is left out."""
    from transformers import LlamaConfig, LlamaForCausalLM

    make, template, bos = KINDS[kind]
    tokenizer = make()
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))])
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "initializer_range": 0.3}
    LlamaForCausalLM(LlamaConfig(vocab_size=rows, max_position_embeddings=128, **shape)).save_pretrained(directory)
    tokenizer.save(str(directory / "tokenizer.json"))
    given = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>", "chat_template": template, **settings}
    given = {key: value for key, value in given.items() if value is not None}
    (directory / "tokenizer_config.json").write_text(json.dumps(given))
    return directory


@pytest.mark.parametrize("kind", KINDS)
def test_texts_and_turns_are_the_same_here_imported_and_in_transformers(tmp_path: Path, kind: str) -> None:
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(hub(tmp_path / "hf", kind))
    import_hf(tmp_path / "hf", tmp_path / "ours")
    here, imported = HubEncoder(tmp_path / "hf"), Encoder(tmp_path / "ours")
    assert here.fingerprint == imported.fingerprint
    assert [here.start, here.ends, here.padding] == [imported.start, imported.ends, imported.padding]
    assert here.start == theirs.bos_token_id
    assert here.openings(TEXTS) == imported.openings(TEXTS) == theirs(TEXTS)["input_ids"]
    spelled = [message.model_dump() for message in TALK]
    for upto in (2, 4):
        turns = imported.turns(TALK[:upto])
        assert turns == here.turns(TALK[:upto])
        whole = theirs.apply_chat_template(spelled[:upto], return_dict=False)
        assert whole[: len(turns.ids)] == turns.ids
        assert [turns.ids[stop - 1] for _, stop in turns.spoken] == [imported.turn_end] * (upto // 2)
        assert [imported.decode(turns.ids[start:stop]).strip() for start, stop in turns.spoken] == [m.content for m in TALK[1:upto:2]]
    assert imported.prompt(tuple(TALK[:3])) == theirs.apply_chat_template(spelled[:3], add_generation_prompt=True, return_dict=False)


@pytest.mark.parametrize("kind", KINDS)
def test_text_that_goes_on_has_no_space_put_before_it(tmp_path: Path, kind: str) -> None:
    encoder = HubEncoder(hub(tmp_path / "hf", kind))
    for front, behind in (("Hello", ", I am"), ("a\n", "I am"), ("x", " y")):
        assert encoder.decode([*encoder.ids(front), *encoder.continued(behind)]) == front + behind


@pytest.mark.parametrize("kind", KINDS)
def test_imported_model_answers_as_the_directory_does(tmp_path: Path, kind: str) -> None:
    import_hf(hub(tmp_path / "hf", kind), tmp_path / "ours")
    one = ExecutionConfig(threads=1)
    here, imported = (Subject.open(name, tmp_path / name, one, 4) for name in ("hf", "ours"))
    questions = [[("Hello, I", " am"), ("Hello, I", " was")], [("", "fine"), ("", "so")]]
    assert here.likelihoods(questions) == imported.likelihoods(questions)
    assert here.nats_per_byte(TEXTS) == imported.nats_per_byte(TEXTS)
    decoding = Decoding(max_new_tokens=8, temperature=0.0, samples=1, seed=0)
    for ask in ("complete", "reply"):
        assert getattr(here, ask)(TEXTS, decoding) == getattr(imported, ask)(TEXTS, decoding)


def test_special_tokens_of_the_map_and_the_default_of_several_templates_are_taken(tmp_path: Path) -> None:
    templates = [{"name": "tool_use", "template": "{{ tools }}"}, {"name": "default", "template": CHATML}]
    directory = hub(tmp_path / "hf", "chatml", bos_token=None, eos_token=None, chat_template=templates)
    (directory / "special_tokens_map.json").write_text(json.dumps({"bos_token": "<s>", "eos_token": "</s>"}))
    import_hf(directory, tmp_path / "ours")
    encoder = Encoder(tmp_path / "ours")
    assert [encoder._tokenizer.id_to_token(i) for i in (encoder.start, encoder.document_end, encoder.turn_end)] == [
        "<s>",
        "</s>",
        "<|im_end|>",
    ]
    assert encoder.padding == encoder.document_end, "no token of its own"
    assert encoder.template == CHATML


@pytest.mark.parametrize(
    ("kind", "rows", "settings", "message"),
    [
        ("chatml", 259, {}, r"hf: the tokenizer has id 259 \(<\|im_end\|>\), the embedding 259 rows"),
        ("chatml", ROWS, {"eos_token": None}, r"hf: the tokenizer has no <\|endoftext\|> and its config names no eos_token"),
        (
            "chatml",
            ROWS,
            {"chat_template": [{"name": "rag", "template": "x"}]},
            "tokenizer_config.json: chat_template: none of rag is called",
        ),
    ],
)
def test_import_of_what_could_not_be_used_is_refused(tmp_path: Path, kind: str, rows: int, settings: dict[str, Any], message: str) -> None:
    hub(tmp_path / "hf", kind, rows, **settings)
    with pytest.raises(ValueError, match=message) as caught:
        import_hf(tmp_path / "hf", tmp_path / "ours")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ours").exists()


def test_template_that_asks_for_the_day_gets_one_day(tmp_path: Path) -> None:
    encoder = HubEncoder(hub(tmp_path / "hf", "chatml", chat_template=DATED))
    assert encoder.render(TALK[:1]).startswith("\nToday is 26 Jul 2024\n<|im_start|>user")


def test_template_that_forgets_thoughts_trains_on_the_last_answer_as_it_is_asked_for(tmp_path: Path) -> None:
    encoder = HubEncoder(hub(tmp_path / "hf", "chatml", chat_template=THOUGHTFUL))
    turns = encoder.turns(TALK)
    assert encoder._tokenizer.decode(turns.ids, skip_special_tokens=False) == encoder.render(TALK).removesuffix("\n")
    [(start, stop)] = turns.spoken
    assert turns.ids[:start] == encoder.prompt(tuple(TALK[:3]))
    assert encoder.decode(turns.ids[start:stop]) == "<think>\n\n</think>\n\nI am\n  so"
