"""What the evaluation command is tried on: questions, passages, long text, a small model, and the same with a chat template."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.unit import small_model

QUESTIONS = [
    ("Which one is a bird?", ["sparrow", "granite rock", "oak", "trout"], 0),
    ("What melts in the sun?", ["a stone", "ice", "iron", "salt"], 1),
    ("Where do fish live?", ["in trees", "in the sky", "in water"], 2),
    ("Who bakes bread?", ["the baker", "the smith", "the sailor", "the king", "a dog"], 0),
]
PASSAGES = [("the king of the", "castle"), ("she went to the market to buy", "bread"), ("a fine film about a", "dog")]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    rows = [{"question": q, "choices": c, "answer": a} for q, c, a in QUESTIONS]
    four = [{**row, "choices": (row["choices"] * 2)[:4], "subject": s} for s in ("birds", "old_ships") for row in rows]
    passages = [{"input": [{"content": context}], "ideal": word} for context, word in PASSAGES]
    for name, content in {
        "arc/samples_easy.jsonl": rows,
        "arc/fewshot_easy.jsonl": rows[:2],
        "mmlu/test.jsonl": four,
        "mmlu/fewshot.jsonl": four[:3] + four[4:7],
        "lambada/samples.jsonl": passages,
    }.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text("".join(json.dumps(row) + "\n" for row in content))
    (root / "text").mkdir()
    (root / "text" / "long.txt").write_text("the king of the castle went to the market\n" * 40)
    return root


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("model")
    small_model.write(root, [q + " " + " ".join(c) for q, c, _ in QUESTIONS])
    return root


@pytest.fixture(scope="module")
def chatting(directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model with a chat template."""
    root = tmp_path_factory.mktemp("chat") / "hf"
    shutil.copytree(directory / "hf", root)
    settings = json.loads((root / "tokenizer_config.json").read_text())
    template = (
        "{% for m in messages %}[{{ m['role'] }}]{{ ':' if m['role'] == 'assistant' else ' ' }}{{ m['content'] }}"
        "{{ eos_token if m['role'] == 'assistant' }}\n{% endfor %}"
        "{% if add_generation_prompt %}[assistant]:{% endif %}"
    )
    (root / "tokenizer_config.json").write_text(json.dumps({**settings, "chat_template": template}))
    return root
