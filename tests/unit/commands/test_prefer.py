"""``modelyard prefer`` on a real small judge, in this process and behind a server that only chats."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from modelyard.commands.app import main
from modelyard.execution import ExecutionConfig
from modelyard.model.subject import Subject
from tests.unit import small_model
from tests.unit.completions_server import scripted, serving
from tests.unit.judges.scripted import listed

TEMPLATE = "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}\n{% endfor %}{% if add_generation_prompt %}[assistant]:{% endif %}"
ROWS = [
    {"input": f"Name the number {n}.", "output_1": f"It is {n}.", "output_2": "I like soup.", "label": 1 + n % 2, "subset": "ab"[n % 2]}
    for n in range(6)
]


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("judge")
    small_model.write(root, seq_len=512)
    chatting = root / "chat"
    shutil.copytree(root / "hf", chatting)
    settings = json.loads((chatting / "tokenizer_config.json").read_text())
    (chatting / "tokenizer_config.json").write_text(json.dumps({**settings, "chat_template": TEMPLATE}))
    return chatting


def test_command_prints_bias_contradictions_and_agreement_of_llmbar_pairs(judge: Path, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "dataset.json").write_text(json.dumps(ROWS, indent=1))
    command = ["prefer", str(tmp_path / "dataset.json"), "--judge", str(judge), "--threads", "1", "--json", str(tmp_path / "out.json")]

    assert main(command) == 0

    printed, kept = capsys.readouterr().out, json.loads((tmp_path / "out.json").read_text())
    for words, value in (
        ("contradicts itself when positions are swapped", kept["contradicted"]["value"]),
        ("takes what stands in front (0.5: no bias)", kept["front"]["value"]),
        ("agrees with people", kept["agreement"]["accuracy"]),
        ("kappa", kept["agreement"]["kappa"]),
    ):
        (line,) = [line for line in printed.splitlines() if line.startswith(words)]
        assert f"{value:.3f}" in line
    assert "the first model wins" not in printed
    assert set(kept["groups"]) == {"a", "b"}
    assert kept["contradicted"]["value"] == sum(one["contradicted"] for one in kept["pairs"]) / 6
    assert kept["front"]["value"] == pytest.approx(sum(one["front"] for one in kept["pairs"]) / 6)


def test_command_asks_a_server_that_only_chats_as_it_asks_the_directory(
    judge: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr("modelyard.model.endpoint.WORKERS", 1)
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    kept = []
    with serving(Subject.open("x", judge, ExecutionConfig(threads=1), 4), only="chat/completions") as base:
        for place, where in enumerate((f"{base}#tiny", str(judge))):
            out = tmp_path / f"{place}.json"
            assert main(["prefer", str(tmp_path / "pairs.jsonl"), "--judge", where, "--chat", "--json", str(out)]) == 0
            kept.append(json.loads(out.read_text()))
    assert "judge tiny " in capsys.readouterr().out
    assert [one["first"] for one in kept[0]["pairs"]] == pytest.approx([one["first"] for one in kept[1]["pairs"]], abs=2e-2)


def test_command_asks_a_server_without_log_probabilities_for_letters(tmp_path: Path, capsys: Any) -> None:
    """The server knows which response is better, and says of number 3 that neither is."""
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))

    def reply(said: str) -> tuple[str, str]:
        letter = next(mark for mark, option in listed(said).items() if option.startswith("It is"))
        return ("Both are fine." if "number 3." in said else f"**{letter}**", "stop")

    with scripted(reply) as base:
        command = ["prefer", str(tmp_path / "pairs.jsonl"), "--judge", f"{base}#hosted", "--chat", "--json", str(tmp_path / "out.json")]
        assert main(command) == 2
        refused = capsys.readouterr().err
        assert main([*command, "--choose-by", "letter"]) == 0
        assert main([*command, "--choose-by", "letter", "--calibrate", "nothing"]) == 2

    assert refused.count("\n") == 1
    assert 'gives no log-probabilities of a reply; read what hosted says: choose_by = "letter"' in refused
    printed, kept = capsys.readouterr(), json.loads((tmp_path / "out.json").read_text())
    assert "calibrate 'nothing' divides probabilities, and a letter of a reply has none" in printed.err
    assert (kept["no_letter"]["value"], kept["no_letter"]["n"]) == (pytest.approx(2 / 12), 12)
    assert "replies without a letter" in printed.out
    assert [one["first"] for one in kept["pairs"]] == [1, 1, 1, 0.5, 1, 1]
    assert (kept["contradicted"]["value"], kept["front"]["value"], kept["wins"]["value"]) == (0, 0.5, pytest.approx(5.5 / 6))
    assert kept["agreement"]["accuracy"] == 0.5, "of six labels three are wrong, and an undecided pair agrees with nobody"


def test_command_gives_the_win_rate_of_two_models_records(judge: Path, tmp_path: Path, capsys: Any) -> None:
    for name, said in (("ours", "It is so."), ("theirs", "I like soup.")):
        rows = [{"benchmark": "b", "item": str(n), "score": 0, "prompt": f"p{n}", "output": said} for n in range(3)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    ours, theirs = str(tmp_path / "ours.jsonl"), str(tmp_path / "theirs.jsonl")

    rates = []
    for place, files in enumerate(((ours, theirs), (theirs, ours))):
        assert main(["prefer", *files, "--judge", str(judge), "--json", str(tmp_path / f"{place}.json")]) == 0
        rates.append(json.loads((tmp_path / f"{place}.json").read_text())["wins"]["value"])
    assert sum(rates) == pytest.approx(1.0)
    assert "the first model wins" in capsys.readouterr().out
    (tmp_path / "other.jsonl").write_text(json.dumps({"benchmark": "c", "item": "9", "score": 0, "output": "x"}) + "\n")
    assert main(["prefer", ours, str(tmp_path / "other.jsonl"), "--judge", str(judge)]) == 2
    assert "has no item with an output" in capsys.readouterr().err
