"""What a rule verifies: near misses, refusals, and a policy that learns to do what is rewarded."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from modelyard.execution import ExecutionConfig
from modelyard.formats.feedback import PromptRecord
from modelyard.formats.rewards import read
from modelyard.judges.sandbox.run import Limits
from modelyard.model.encoder import Encoder
from modelyard.posttrain.policy import prompts
from modelyard.posttrain.policy.verified import VerifiedReward, require_spoken_about, verified
from tests.unit.posttrain.conftest import optimizer

from .policies import Inputs, grpo_config, run

pytestmark = pytest.mark.numerics

NUMBER = VerifiedReward(pattern=r"####\s*(\S+)\s*$", expects="number", weight=2.0)
TEXT = VerifiedReward(pattern=r"<answer>(.*?)</answer>", expects="text", weight=1.0)
FORM = VerifiedReward(pattern=r"\A<think>[^<]+</think>\s*<answer>[^<]+</answer>\s*\Z", expects="match", weight=1.0)


SANDBOX = Limits(wall_seconds=15.0, cpu_seconds=5, memory_bytes=1 << 29, file_bytes=1 << 24, processes=2, isolation="available")
CODE = VerifiedReward(pattern=r"```python\n(?s:(.*?))```", expects="tests", weight=3.0)


def asked(answer: str | None, category: str = "") -> PromptRecord:
    return PromptRecord(id="p", split="train", source="synthetic", category=category, prompt="how many", answer=answer)


@pytest.mark.parametrize(
    ("reward", "answer", "completion", "earned"),
    [
        (NUMBER, "5", "2 and 3 are 5\n#### 5", 2.0),
        (NUMBER, "5", "#### 25", 0.0),
        (NUMBER, "5", "#### 5\n#### 6", 0.0),
        (NUMBER, "6", "#### 5\n#### 6", 2.0),
        (NUMBER, "5", "the answer is 5", 0.0),
        (NUMBER, "5", "#### five", 0.0),
        (NUMBER, "1000", "#### 1,000.0", 2.0),
        (NUMBER, "1000", "#### 1e3", 2.0),
        (NUMBER, "1000", "#### 1e9999999999999999999", 0.0),
        (NUMBER, "1000", "#### 1_000", 0.0),
        (NUMBER, "1000", "#### 10,00", 0.0),
        (NUMBER, "1000", "#### 1000,", 0.0),
        (NUMBER, "1000000", "#### +1,000,000.", 2.0),
        (NUMBER, "1000000", "#### 1,000000", 0.0),
        (NUMBER, "1000000", "#### 1000,000", 0.0),
        (NUMBER, "12", "#### 1,2", 0.0),
        (NUMBER, "12", "#### ,,,1,,2,", 0.0),
        (NUMBER, "12", "#### \u0661\u0662", 0.0),
        (NUMBER, "12", "#### \uff11\uff12", 0.0),
        (NUMBER, "1,2", "#### 12", 0.0),
        (NUMBER, "0.1", "#### 0.10", 2.0),
        (NUMBER, "-3", "#### 3", 0.0),
        (NUMBER, "nan", "#### nan", 0.0),
        (NUMBER, "Natalia sold 48/2 = <<48/2=24>>24 clips.\n#### 1,024", "so\n#### 1024", 2.0),
        (NUMBER, "Natalia sold 48/2 = <<48/2=24>>24 clips.\n#### 1,024", "so\n#### 24", 0.0),
        (NUMBER, "5", "", 0.0),
        (TEXT, "Paris", "<answer> Paris </answer>", 1.0),
        (TEXT, "Paris", "<answer>Paris, Texas</answer>", 0.0),
        (TEXT, "Paris", "Paris", 0.0),
        (FORM, None, "<think>so</think> <answer>yes</answer>", 1.0),
        (FORM, None, "<think></think> <answer>yes</answer>", 0.0),
        (FORM, None, "well, <think>so</think> <answer>yes</answer>", 0.0),
    ],
)
def test_verified_reward_is_earned_as_the_pattern_says_and_not_otherwise(
    reward: VerifiedReward, answer: str | None, completion: str, earned: float
) -> None:
    assert verified({"r": reward}, [asked(answer)], [completion], SANDBOX) == {"r": [earned]}


@pytest.mark.parametrize(
    ("code", "earned"),
    [
        ("def add(a, b):\n    return a + b\n", 3.0),
        ("def helper(a):\n    return a\n\ndef add(a, b):\n    return helper(a) + b\n", 3.0),
        ("def add(a, b):\n    return a - b\n", 0.0),
        ("def plus(a, b):\n    return a + b\n", 0.0),
        ("def add(a, b:\n", 0.0),
        ("def add(a, b):\n    while True: pass\n", 0.0),
        ("import os\ndef add(a, b):\n    os._exit(0)\n", 0.0),
        ("class Five:\n    def __eq__(self, other): return True\ndef add(a, b):\n    return Five()\n", 0.0),
    ],
    ids=["right", "helper", "wrong", "other-name", "syntax", "endless", "exits", "equals-all"],
)
def test_program_earns_its_reward_by_passing_the_tests_in_the_sandbox(code: str, earned: float) -> None:
    tests = "assert add(1, 2) == 3\nassert add(-1, 1) == 0"
    completions = [f"So:\n```python\n{code}```\nThat is it.", code]  # the second one is not where the pattern looks
    limits = SANDBOX.model_copy(update={"cpu_seconds": 1, "wall_seconds": 4.0})
    assert verified({"code": CODE}, [asked(tests)] * 2, completions, limits) == {"code": [earned, 0.0]}


def test_prompts_of_other_categories_are_not_sampled_from(inputs: Inputs, tmp_path: Path) -> None:
    encoder = Encoder(inputs["sft"])
    every = prompts.asked(grpo_config(), inputs["feedback"], encoder, 64)
    kinds = {record.category for record in every.records}
    for kind in kinds:
        chosen = prompts.asked(grpo_config(prompt_categories=(kind,)), inputs["feedback"], encoder, 64)
        assert chosen.records == [record for record in every.records if record.category == kind]
    with pytest.raises(ValueError, match=r"policy.prompt_categories: there is no prompt of category 'sums'"):
        prompts.asked(grpo_config(prompt_categories=("sums",)), inputs["feedback"], encoder, 64)


def test_verified_reward_speaks_about_its_categories_and_prompts_with_an_answer() -> None:
    sums = NUMBER.model_copy(update={"categories": ("sums",)})
    records = [asked("5", "sums"), asked("5", "other"), asked(None, "sums")]
    assert verified({"sums": sums}, records, ["#### 5"] * 3, SANDBOX) == {"sums": [2.0, 0.0, 0.0]}
    with pytest.raises(ValueError, match=r"policy.rewards.sums: there is no prompt of category sums with an answer that is a number"):
        require_spoken_about({"sums": sums}, [*records[1:], asked("five", "sums")])
    require_spoken_about({"form": FORM}, records[2:])


@pytest.mark.parametrize(
    ("answer", "is_told"),
    [
        ("assert add(1, 2) == 3", True),
        ("for i in range(3):\n    assert add(i, 1) == i + 1", True),
        ("r = add(1, 2)\nassert r == 3", True),
        ("add(1, 2) == 3", False),
        ("assert True", False),
        ("assert add(1, 2 == 3", False),
        ("# assert add(1, 2) == 3", False),
        ("", False),
        (None, False),
    ],
)
def test_reward_by_tests_speaks_about_answers_with_an_assert_and_a_call(answer: str | None, is_told: bool) -> None:
    assert CODE.speaks_about(asked(answer)) == is_told
    if not is_told:
        with pytest.raises(
            ValueError, match=r"policy.rewards.code: there is no prompt whose answer is assert statements that call a function$"
        ):
            require_spoken_about({"code": CODE}, [asked(answer)])


def test_verified_reward_id_changes_with_its_fields() -> None:
    assert NUMBER.id == NUMBER.model_copy().id
    assert len({NUMBER.id, TEXT.id, FORM.id, NUMBER.model_copy(update={"weight": 1.0}).id}) == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pattern": "("}, "is no regular expression"),
        ({"pattern": "####"}, "has 0 groups; expects 'number' compares the only one"),
        ({"expects": "code"}, "Input should be 'match', 'text', 'number' or 'tests'"),
    ],
)
def test_verified_reward_impossible_values_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        VerifiedReward(**{**NUMBER.model_dump(), **changes})


def test_program_whose_end_is_chance_is_judged_once_for_all_ranks(tmp_path: Path) -> None:
    """Ranks that judged it each would learn from different rewards."""
    program = Path(__file__).with_name("verified_program.py")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", str(program), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    one, other = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    assert one == other
    assert 0 < sum(one) < len(one), "a coin that always falls on one side says nothing"


@pytest.mark.sampled
def test_grpo_learns_what_is_verified_without_the_reward_model(inputs: Inputs, tmp_path: Path, execution: ExecutionConfig) -> None:
    """One in four of the SFT model's sentences says "dull"; nothing but the rule asks for it."""
    free = {
        "iterations": 12,
        "episodes": 32,
        "group": 8,
        "micro_batch": 8,
        "ema_decay": 0.0,
        "kl_coef": 0.0,
        "ptx_rows": 0,
        "ptx_coef": 0.0,
    }
    dull = VerifiedReward(pattern=r"\bdull\b", expects="match", weight=1.0)
    config = grpo_config(**free, reward_weight=0.0, rewards={"dull": dull}, optimizer=optimizer(4e-3), final_episodes=32)
    metrics = run(config, inputs, tmp_path, execution)
    assert metrics["policy/reference/verified/dull"] < 0.5
    assert metrics["policy/reward/verified/dull"] == pytest.approx(metrics["policy/objective/reward"])
    assert metrics["policy/objective/reward"] > 0.9
    assert "policy/reward/model" not in metrics, "who counts for nothing is not asked"
    assert read(tmp_path / "out").ids == {"dull": dull.id}
    history = [json.loads(line) for line in (tmp_path / "out" / "history.jsonl").read_text().splitlines()]
    assert history[-1]["policy/group/reward_std"] < history[0]["policy/group/reward_std"]
