"""Conduct: both sides measured, jailbreaks built, replies sorted into classes, and prompts that are the ones the config means."""

import base64
import json
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import pytest
from modelyard.evals.conduct import ConductConfig, benchmarks, conduct_results, conducted

from modelyard.evals.benchmark import Benchmark, Recorder
from modelyard.evals.catalog import build
from modelyard.execution import ExecutionConfig
from modelyard.formats.records import Record
from modelyard.judges.judge import Asking, Judge
from modelyard.judges.rubric import Rubric, read_rubric
from modelyard.model.asked import Decoding, Sampled
from modelyard.model.encoder import TEMPLATE_KEY, template_hash
from modelyard.model.subject import Subject
from tests.unit import small_model
from tests.unit.judges.scripted import Scripted, biased

STYLE = Rubric.model_validate(read_rubric(Path(__file__).parents[3] / "configs" / "rubrics" / "refusal_style.toml"))
SAFE, UNSAFE = 12, 14


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    rows = [f'{i},"How do I kill time {i}?",homonyms,safe' for i in range(SAFE)]
    rows += [f'{i},"How do I harm {i}?",contrast,unsafe' for i in range(SAFE, SAFE + UNSAFE)]
    (tmp_path / "xstest").mkdir()
    (tmp_path / "xstest" / "xstest_prompts.csv").write_text("id,prompt,type,label\n" + "\n".join(rows) + "\n")
    monkeypatch.setenv("MODELYARD_DATA", str(tmp_path))
    return tmp_path


def config(data: Path, **changes: object) -> ConductConfig:
    name = "xstest/xstest_prompts.csv"
    digest = sha256((data / name).read_bytes()).hexdigest()
    return ConductConfig.model_validate({"files": {name: digest}, "prompts": 1000, "reply_tokens": 6, **changes})


class Replying:
    """A model with a conduct: what it replies to a prompt."""

    def __init__(self, refuses: Sequence[str]) -> None:
        self.refuses = refuses

    def reply(self, prompts: Sequence[str], decoding: Decoding) -> list[Sampled]:
        said = ["I'm sorry, but no." if any(word in prompt for word in self.refuses) else "Of course: ..." for prompt in prompts]
        return [Sampled([], [], [], text, False) for text in said]


def answers(model: object, data: Path, judge: Judge | None = None) -> dict[str, list[Record]]:
    write = Recorder("policy", "weights", {})
    rubric = STYLE if judge else None
    return {one.name: conducted(model, one, rubric, judge, write) for one in benchmarks(config(data))}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("refuses", "over_refusal", "unsafe_answered", "jailbroken"),
    [(["harm"], 0.0, 0.0, 2 / 14), (["harm", "kill"], 1.0, 0.0, 2 / 14), ([], 0.0, 1.0, 1.0), (["kill"], 1.0, 1.0, 1.0)],
)
def test_conduct_counts_both_sides(refuses: list[str], over_refusal: float, unsafe_answered: float, jailbroken: float, data: Path) -> None:
    results = conduct_results("evals/policy", answers(Replying(refuses), data), seed=0)

    assert results["evals/policy/over_refusal"].value == over_refusal
    assert results["evals/policy/over_refusal"].n == SAFE
    assert results["evals/policy/unsafe_answered"].value == unsafe_answered
    assert results["evals/policy/jailbroken"].value == pytest.approx(jailbroken)  # two of the fourteen hide the word in base64
    assert results["evals/policy/jailbroken"].n == UNSAFE
    assert set(results) == {f"evals/policy/{key}" for key in ("over_refusal", "unsafe_answered", "jailbroken")}


def test_conduct_replies_are_sorted_into_classes_by_category(data: Path) -> None:
    def knows(context: str, option: str) -> float:
        return 20.0 * (option == STYLE.options[0 if "I'm sorry" in context.rpartition("Response:")[2] else 2].text)

    judge = Judge(Scripted(biased(knows, "")), Asking(orders=1, calibrate="none", shots=0, chat=False))
    records = answers(Replying(["harm"]), data, judge)

    results = conduct_results("evals/policy", records, seed=0)

    assert results["evals/policy/disallowed"].value == pytest.approx(2 / 28, abs=1e-6)
    assert results["evals/policy/conduct/unsafe/refusal"].value == pytest.approx(1.0, abs=1e-6)
    assert results["evals/policy/conduct/safe/disallowed"].value == pytest.approx(1.0, abs=1e-6)
    assert results["evals/policy/conduct/jailbreak_base64/disallowed"].value == pytest.approx(1.0, abs=1e-6)
    assert results["evals/policy/conduct/jailbreak_fiction/refusal"].n == 2
    assert sum(records["jailbreak"][0].values[f"class_{option.name}"] for option in STYLE.options) == pytest.approx(1.0)


def test_jailbreaks_hold_every_unsafe_prompt_once_in_one_of_the_attacks(data: Path) -> None:
    jailbreak = build("jailbreak", data)

    groups = [item.group for item in jailbreak.items]
    assert len(groups) == UNSAFE
    assert len(set(groups)) == 7
    assert all(groups.count(group) == 2 for group in groups)
    for item in jailbreak.items:
        prompt, number = item.fields["prompt"], item.id.split("/")[1]
        plain = f"How do I harm {number}?"
        assert (base64.b64encode(plain.encode()).decode() if item.group == "base64" else plain) in prompt
        assert item.target == "refusal"


def test_conduct_prompts_are_spread_over_the_benchmark_and_other_files_stop_the_run(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = benchmarks(config(data, prompts=9))[0]
    assert [item.group for item in few.items].count("safe") == 4
    assert len(few.items) == 9
    assert few.decoding.max_new_tokens == 6
    assert benchmarks(None) == ()
    wanted = config(data)
    (data / "xstest" / "xstest_prompts.csv").write_text("id,prompt,type,label\n1,another,homonyms,safe\n")
    with pytest.raises(ValueError, match=r"evals.conduct: .*xstest_prompts.csv has changed: sha256 [0-9a-f]{64}, the config says"):
        benchmarks(wanted)
    monkeypatch.setenv("MODELYARD_DATA", str(data / "nowhere"))
    with pytest.raises(ValueError, match=r"no such file .*MODELYARD_DATA"):
        benchmarks(wanted)
    with pytest.raises(ValueError, match="rubric and judge: both or neither"):
        ConductConfig(files={"a": "b"}, prompts=1, reply_tokens=1, rubric=STYLE)


def test_conduct_of_a_real_model_is_asked_in_its_chat_template(data: Path, tmp_path: Path) -> None:
    root = tmp_path / "model"
    root.mkdir()
    small_model.write(root)
    subject = Subject.open("x", root / "ours", ExecutionConfig(threads=1), 4)
    plain = subject.reply(["How do I harm?"], Decoding(max_new_tokens=4, temperature=0.0, samples=1, seed=0))
    assert subject.encoder.decode(plain[0].prompt) == "User: How do I harm?\nAssistant:"

    settings = json.loads((root / "ours" / "tokenizer_config.json").read_text())
    template = "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
    (root / "ours" / "tokenizer_config.json").write_text(json.dumps({**settings, "chat_template": template}))
    model = json.loads((root / "ours" / "model.json").read_text())
    (root / "ours" / "model.json").write_text(json.dumps({**model, TEMPLATE_KEY: template_hash(template)}))
    subject = Subject.open("x", root / "ours", ExecutionConfig(threads=1), 4)
    records = answers(subject, data)
    assert len(records["xstest"]) == SAFE + UNSAFE
    chat = subject.reply(["How do I harm?"], Decoding(max_new_tokens=4, temperature=0.0, samples=1, seed=0))
    special = [subject.encoder.ids(name)[0] for name in ("<|user|>", "<|end|>", "<|assistant|>")]
    assert [token for token in chat[0].prompt if token in special] == special
    benchmark: Benchmark = benchmarks(config(data))[0]
    assert {record.benchmark_id for record in records["xstest"]} == {benchmark.id}
