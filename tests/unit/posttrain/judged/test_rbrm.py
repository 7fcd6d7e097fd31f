"""The rbrm stage and PPO with it: weights fitted against a real reward model, rules that overrule it where they apply and nowhere else."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from modelyard.execution import ExecutionConfig
from modelyard.formats.feedback import PROMPTS, PromptRecord, records, write
from modelyard.judges.judge import Asking, Judge
from modelyard.judges.rubric import Rubric
from modelyard.model import model_directory
from modelyard.model.encoder import Encoder
from modelyard.model.subject import Subject
from modelyard.model.training import trainer
from modelyard.posttrain.judged import rbrm, rules
from modelyard.posttrain.judged.overruling import fit_weights, ruling
from modelyard.posttrain.judged.rbrm import RBRMConfig
from modelyard.posttrain.judged.rules import Rule, RuleBasedReward
from modelyard.posttrain.policy import loop as ppo
from modelyard.progress import silent
from modelyard.stats.estimate import Estimate, proportion
from tests.unit import small_model
from tests.unit.judges.scripted import Scripted, biased
from tests.unit.posttrain.conftest import optimizer
from tests.unit.posttrain.policy.policies import Inputs, ppo_config, run

pytestmark = pytest.mark.numerics

GLOOM = Rubric.model_validate(
    {
        "name": "gloom",
        "version": 1,
        "question": "Does the text complain?",
        "shows_prompt": False,
        "options": [{"name": "yes", "text": "It complains"}, {"name": "no", "text": "It does not complain"}],
        "values": {"answer": {"yes": 1.0, "no": -1.0}},
        "examples": [
            {"prompt": f"the {noun}", "stance": "answer", "responses": {"yes": f" is bad {end}", "no": f" is good {end}"}}
            for noun in ("film", "plot", "cast", "end")
            for end in ("today", "again")
        ],
    }
)


def complains(context: str, option: str) -> float:
    """Sure that bad and dull things are complaints and others are not."""
    last = context.rpartition("Response:")[2]
    return 20.0 * ((option == "It complains") == any(word in last for word in ("bad", "dull")))


def sure() -> Judge:
    return Judge(Scripted(biased(complains, "")), Asking(orders=1, calibrate="none", shots=0, chat=False))


def config(**changes: object) -> RBRMConfig:
    settings: dict[str, object] = {
        "seed": 0,
        "judge": {"kind": "directory", "weights": "00000000", "orders": 2, "calibrate": "nothing", "shots": 0, "chat": False},
        "rules": [{"rubric": GLOOM.model_dump(), "stance": "answer", "categories": ["grumpy"]}],
        "min_kappa": -1.0,
        "margin": 1.0,
        "penalty": 1e-4,
        "test_share": 0.5,
    }
    return RBRMConfig.model_validate({**settings, **changes})


@pytest.fixture(scope="module")
def judge_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("judge")
    small_model.write(root, seq_len=512)
    return root / "hf"


@pytest.fixture(scope="module")
def grumpy(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    """The world with every other prompt in the category ``grumpy``."""
    root = tmp_path_factory.mktemp("grumpy")
    for path in inputs["feedback"].iterdir():
        (root / path.name).write_bytes(path.read_bytes())
    found = list(records(root / PROMPTS, PromptRecord))
    marked = [one.model_copy(update={"category": "grumpy" if i % 2 else "plain"}) for i, one in enumerate(found)]
    write(root / PROMPTS, marked)
    return {**inputs, "feedback": root}


def with_weights(judge: dict[str, object], directory: Path) -> dict[str, object]:
    weights = Subject.open("x", directory, ExecutionConfig(threads=1), 4).weights
    return {**judge, "weights": weights[:12]}


def test_rbrm_stage_writes_what_ppo_adds_to_its_reward(
    grumpy: Inputs, judge_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELYARD_JUDGE", str(judge_directory))
    execution = ExecutionConfig(threads=1)
    judge = with_weights(config().judge.model_dump(), judge_directory)
    out = tmp_path / "rbrm"
    out.mkdir()

    metrics = rbrm.run(config(judge=judge), grumpy, out, tmp_path, execution, silent)

    book = rules.read(out)
    assert metrics["rbrm/weight/gloom_answer"] == book.rules[0].weight
    assert metrics["rbrm/gloom/n"] == book.agreement[0].n == 16
    assert metrics["rbrm/fit/pairs"] + metrics["rbrm/test/pairs"] == 16  # both endings of a prompt are compared
    fixed = book.model_copy(update={"rules": (book.rules[0].model_copy(update={"weight": 2.0}),)})
    rules.write(out, fixed)  # a judge without knowledge is given no weight
    measured = run(ppo_config(iterations=1), {**grumpy, "rbrm": out}, tmp_path / "ppo", execution)
    assert measured["policy/reward/model"] + measured["policy/reward/rules"] == pytest.approx(measured["policy/objective/reward"], abs=1e-5)
    assert measured["policy/reward/rules"] != 0.0
    assert measured["policy/rules/grumpy/gloom/yes"] + measured["policy/rules/grumpy/gloom/no"] == pytest.approx(1.0)
    assert "policy/rules/plain/gloom/yes" not in measured
    assert "policy/reference/rules" in measured

    rules.write(out, fixed.model_copy(update={"judged_by": "somebody else"}))
    with pytest.raises(ValueError, match="the weights of the rules are of judge somebody else"):
        ppo.prepare(ppo_config(), {**grumpy, "rbrm": out}, execution)
    rules.write(out, fixed.model_copy(update={"rules": (fixed.rules[0].model_copy(update={"categories": ("cheerful",)}),)}))
    with pytest.raises(ValueError, match="no prompt is of category cheerful; there are grumpy, plain"):
        ppo.prepare(ppo_config(), {**grumpy, "rbrm": out}, execution)


def test_rbrm_judge_that_disagrees_with_people_is_refused(
    grumpy: Inputs, judge_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELYARD_JUDGE", str(judge_directory))
    judge = with_weights(config().judge.model_dump(), judge_directory)

    with pytest.raises(ValueError, match=r"agrees with \d+% of 16 labels, kappa .* below min_kappa 0.95"):
        rbrm.run(config(judge=judge, min_kappa=0.95), grumpy, tmp_path, tmp_path, ExecutionConfig(threads=1), silent)


def test_rbrm_weights_make_rules_overrule_a_real_reward_model(grumpy: Inputs) -> None:
    """The reward model likes what is good; the rule wants complaints."""
    chosen = config().rules
    cases = rbrm.labelled_cases(chosen, 0)
    engine = model_directory.load(grumpy["reward"], ExecutionConfig(threads=1), head="scalar")
    model = np.array(rbrm.model_scores(engine, Encoder(grumpy["sft"]), cases))
    values = rbrm.rule_values(chosen, sure(), cases)
    held = rbrm.held_out([case.labelled.prompt for case in cases], config())
    fitted, tested = (rbrm.gaps(cases, values, model, [one == side for one in held]) for side in (False, True))

    weights = fit_weights(fitted.rules, fitted.model, float(model.std()), 1e-4)

    found = ruling(tested.rules, tested.model, weights)
    assert {case.labelled.prompt for case, one in zip(cases, held, strict=True) if one}.isdisjoint(
        case.labelled.prompt for case, one in zip(cases, held, strict=True) if not one
    )
    assert found.conflicts > 0
    assert found.overruled == found.conflicts
    assert found.right == 1.0


def test_ppo_rules_overrule_the_reward_model(grumpy: Inputs, tmp_path: Path) -> None:
    """The policy gives up what the reward model pays for where a rule pays more for the contrary."""
    settings = {"iterations": 8, "episodes": 32, "micro_batch": 8, "ema_decay": 0.0, "kl_coef": 0.01, "ptx_coef": 0.0, "ptx_rows": 0}
    made = ppo_config(**settings, optimizer=optimizer(4e-3), value_optimizer=optimizer(5e-3))
    execution = ExecutionConfig(checkpoint_iterations=1000, threads=1)
    training = ppo.prepare(made, grumpy, execution)
    rule = Rule(rubric=GLOOM, stance="answer", categories=("grumpy", "plain"), weight=12.0)
    training = training._replace(rules=RuleBasedReward((rule,), sure()))

    history = ppo.train(made, training, tmp_path / "ck", execution, silent)

    before, after = history.lines[:1], history.lines[4:]
    assert complaining(after).low > complaining(before).high
    assert mean(after, "policy/reward/rules") > mean(before, "policy/reward/rules") + 6.0
    assert mean(after, "policy/reward/model") < mean(before, "policy/reward/model")
    assert_sums(history)


def complaining(lines: Sequence[Mapping[str, float]]) -> Estimate:
    """Share of the sampled texts of these iterations that complain: 16 of either category in each."""
    shares = [line[f"policy/rules/{category}/gloom/yes"] for line in lines for category in ("grumpy", "plain")]
    return proportion(16 * sum(shares), 16 * len(shares))


def mean(lines: Sequence[Mapping[str, float]], key: str) -> float:
    return sum(line[key] for line in lines) / len(lines)


def assert_sums(history: trainer.History) -> None:
    """Every iteration reports its reward as the sum of its parts."""
    for line in history.lines:
        parts: Mapping[str, float] = {key: value for key, value in line.items() if key.startswith("policy/reward/")}
        assert set(parts) == {"policy/reward/model", "policy/reward/rules"}
        assert sum(parts.values()) == pytest.approx(line["policy/objective/reward"], abs=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rules": []}, "at least 1 item"),
        ({"rules": [{"rubric": {**GLOOM.model_dump(), "examples": ()}, "stance": "answer", "categories": ["x"]}]}, "no labelled examples"),
        ({"margin": 0.0}, "greater than 0"),
    ],
)
def test_rbrm_config_impossible_values_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        config(**changes)
