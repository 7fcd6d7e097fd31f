"""Tasks with checked answers: the same table gives the same questions, none is on both sides, and the held-out ones are a benchmark."""

import tomllib
from pathlib import Path

import pytest
import reasoning_gym

from modelyard.data.corpus.document import DataError
from modelyard.data.feedback import gather
from modelyard.data.feedback.config import FeedbackConfig
from modelyard.data.feedback.tasks import ONE_ANSWER, TaskSet
from modelyard.evals import catalog
from modelyard.formats.feedback import DEMONSTRATIONS, PROMPTS, Demonstration, PromptRecord, records
from modelyard.judges.sandbox.run import Limits
from modelyard.posttrain.policy.verified import VerifiedReward, right, verified
from modelyard.progress import silent

RECIPE = tomllib.loads((Path(__file__).parents[4] / "configs/recipes/verified-rewards.toml").read_text("utf-8"))
SANDBOX = Limits(wall_seconds=30.0, cpu_seconds=5, memory_bytes=1 << 29, file_bytes=1 << 24, processes=2, isolation="available")
SUMS = {
    "name": "sums",
    "task": "chain_sum",
    "version": "0.1.25",
    "options": {"min_terms": 2, "max_terms": 2, "max_digits": 2},
    "seed": 3,
    "size": 400,
    "prompt": "{expression} =",
    "demonstrated": 0.5,
}


def gathered(out: Path, **changes: object) -> tuple[dict[str, float], list[Demonstration], list[PromptRecord]]:
    splits = {"held_out": 0.25, "gold": 0.0, "held_out_raters": 0.0}
    pii = {"kinds": ["email"], "region": "US"}
    config = FeedbackConfig.model_validate(
        {"seed": 1, "tasks": [SUMS | changes], "splits": splits, "pii": pii, "prefix_characters": 16, "prompts_per_user": 3}
    )
    out.mkdir()
    metrics = gather.run(config, {}, out, silent, "")
    return metrics, list(records(out / DEMONSTRATIONS, Demonstration)), list(records(out / PROMPTS, PromptRecord))


def test_tasks_give_the_librarys_answers_on_one_side_each(tmp_path: Path) -> None:
    metrics, shown, prompts = gathered(tmp_path / "a")
    again = gathered(tmp_path / "b")
    assert again == (metrics, shown, prompts)
    score = reasoning_gym.get_score_answer_fn("chain_sum")
    assert all(score(one.answer, {"answer": str(eval(str(one.prompt).rstrip("=")))}) == 1.0 for one in prompts)
    sides = {side: {one.prompt for one in prompts if one.split == side} for side in ("train", "validation")}
    assert not sides["train"] & sides["validation"]
    assert len(sides["train"]) + len(sides["validation"]) == len(prompts) < SUMS["size"], "a sum that was drawn before is left out"
    assert 0.15 < len(sides["validation"]) / len(prompts) < 0.35
    assert 0.4 < len(shown) / len(prompts) < 0.6
    assert {(one.prompt, one.completion) for one in shown} <= {(one.prompt, one.answer) for one in prompts}
    assert {one.split for one in shown} == {"train", "validation"}


def test_held_out_questions_are_a_benchmark_and_their_answers_earn_the_reward(tmp_path: Path) -> None:
    _, _, prompts = gathered(tmp_path / "a")
    held_out = [one for one in prompts if one.split == "validation"]
    benchmark = catalog.build("answers", tmp_path / "a")
    assert [(item.fields["prompt"], item.target) for item in benchmark.items] == [(one.prompt, one.answer) for one in held_out]
    assert not benchmark.chat
    reward = VerifiedReward(pattern=r"\A\s*(-?\d+)\s*\Z", expects="text", weight=1.0, categories=("sums",))
    for one, item in zip(held_out, benchmark.items, strict=True):
        for said in (f" {one.answer}", f"{one.answer} or so", str(int(one.answer or 0) + 1)):
            assert right(reward, one, said) == (benchmark.score(benchmark.parse(said), item) == 1.0)
    assert catalog.build("answers", _chat(tmp_path)).chat


def _chat(tmp_path: Path) -> Path:
    gathered(tmp_path / "chat", chat=True)
    return tmp_path / "chat"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"version": "0.0.1"}, "version: reasoning-gym 0.0.1 is asked for, 0.1.25 is installed"),
        ({"task": "sums_of_all"}, "Dataset 'sums_of_all' not registered"),
        ({"options": {"max_figures": 2}}, "got an unexpected keyword argument 'max_figures'"),
        ({"options": {"min_terms": 9}}, "max_terms must be >= min_terms"),
        ({"task": "countdown", "options": {}}, "a right answer of countdown need not be the one that it states"),
        ({"prompt": "{formula} ="}, "prompt: chain_sum says no 'formula' of an item; it says "),
        ({"answer": "{solution}"}, "answer: chain_sum says no 'solution' of an item; it says answer, "),
    ],
)
def test_what_the_library_does_not_make_is_one_line(tmp_path: Path, changes: dict[str, object], said: str) -> None:
    with pytest.raises(DataError) as info:
        gathered(tmp_path / "out", **changes)
    assert str(info.value).startswith("feedback.tasks: sums: ")
    assert said in str(info.value)
    assert "\n" not in str(info.value)


@pytest.mark.parametrize("name", sorted(ONE_ANSWER))
def test_scorer_of_a_task_with_one_answer_needs_nothing_but_it_and_takes_no_other(name: str) -> None:
    score = reasoning_gym.get_score_answer_fn(name)
    answers = list(dict.fromkeys(item["answer"] for item in reasoning_gym.create_dataset(name, seed=1, size=6)))
    assert [[score(said, {"answer": stated}) == 1.0 for said in answers] for stated in answers] == [
        [said == stated for said in answers] for stated in answers
    ]


@pytest.mark.parametrize("rewarded", list(RECIPE["policy"]["rewards"]))
def test_demonstrations_of_the_recipe_earn_its_reward_and_near_misses_do_not(tmp_path: Path, rewarded: str) -> None:
    reward = VerifiedReward.model_validate(RECIPE["policy"]["rewards"][rewarded])
    task = next(one for one in RECIPE["feedback"]["tasks"] if one["name"] == reward.categories[0])
    _, shown, prompts = gathered(tmp_path / "out", **{**task, "size": 30})
    by_id = {one.id: one for one in prompts}
    pairs = [(by_id[one.id], one.completion) for one in shown]
    assert len(pairs) > 5

    def earned(texts: list[str]) -> list[float]:
        return verified({rewarded: reward}, [prompt for prompt, _ in pairs], texts, SANDBOX)[rewarded]

    assert earned([text for _, text in pairs]) == [reward.weight] * len(pairs)
    others = [*pairs[1:], pairs[0]]  # right of another question, in the right form
    same = [a.answer.split()[-1] == b.answer.split()[-1] for (a, _), (b, _) in zip(pairs, others, strict=True)]
    assert earned([text for _, text in others]) == [reward.weight * (reward.expects == "match" or equal) for equal in same]
    assert not all(same)
    misses = {"right": "about {}", "number": "{}, I think", "form": "so {}", "tests": "the program: {}"}
    assert not any(earned([misses[rewarded].format(text) for _, text in pairs]))


@pytest.mark.parametrize("prompt", ["no field", "{}", "{answer}", "{question"])
def test_template_without_a_named_field_or_with_the_answer_is_refused(prompt: str) -> None:
    with pytest.raises(ValueError, match="prompt"):
        TaskSet.model_validate(SUMS | {"prompt": prompt})


@pytest.mark.parametrize("key", ["answer", "completion"])
@pytest.mark.parametrize("template", ["always 7", "{}", "{answer"])
def test_answer_and_completion_that_hold_nothing_of_the_question_are_refused(key: str, template: str) -> None:
    with pytest.raises(ValueError, match=key):
        TaskSet.model_validate(SUMS | {key: template})
