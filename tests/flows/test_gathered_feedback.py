"""What only the gathered feedback tells of a line's tables is said before anything is trained."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest

from flows.pipeline_config import load_pipeline
from modelyard.formats.feedback import COMPARISONS, PROMPTS, THUMBS, Comparison, PromptRecord, write
from modelyard.store.manifest import Spec
from tasks.gathered_feedback import require_fitting_feedback
from tasks.line import Line

ROOT = Path(__file__).parents[2]
TABLE, RULES, GRPO, DPO = (
    str(ROOT / f"configs/pipeline/{name}.toml") for name in ("smollm2-table-dpo", "smollm2", "tiny-grpo", "tiny-dpo")
)
SMALL = [f"{table}.{key}={size}" for table, size in (("reward", 2), ("gold", 1)) for key in ("batch", "micro_batch")]
STYLE = f'{{rubric="{ROOT}/configs/rubrics/refusal_style.toml",stance="refuse",categories=["red_tea"]}}'


def ranked(number: int, split: str, completions: int) -> Comparison:
    texts = tuple(f"answer {i}" for i in range(completions))
    return Comparison(id=str(number), split=split, source="own", prompt="why?", completions=texts, ranks=tuple(range(1, completions + 1)))


def gathered(out: Path, work: Path) -> dict[str, float]:
    """Prompts of three categories; a pair, a ranking of five, and a pair of the gold reward model's."""
    kinds = ("instruction", "red_team", "closed_domain")
    write(out / PROMPTS, [PromptRecord(id=kind, split="train", source="synthetic", category=kind, prompt="why?") for kind in kinds])
    write(out / COMPARISONS, [ranked(0, "reward", 2), ranked(1, "reward", 5), ranked(2, "gold", 2)])
    write(out / THUMBS, [])
    return {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([TABLE, *SMALL, "policy.micro_batch=5", "policy.batch=5"], ""),
        ([TABLE, "policy.micro_batch=4"], r"^policy\.micro_batch 4 is less than the 5 completions of a comparison of feedback"),
        ([TABLE, "policy.micro_batch=5", "policy.batch=6"], r"^policy\.batch 6 is more than the 5 comparisons that there can be for it"),
        ([RULES, "reward.batch=8", "gold.batch=6", "gold.micro_batch=2"], ""),
        ([RULES, f"rbrm.rules=[{STYLE}]"], r"^rbrm\.rules\.0\.categories: no prompt is of category 'red_tea'; .* mean 'red_team'\?"),
        ([GRPO, *SMALL], ""),
        ([GRPO], r"^reward\.batch 16 is more than the 2 comparisons that there can be for it"),
        ([GRPO, *SMALL, "gold.batch=2"], r"^gold\.batch 2 is more than the 1 comparisons"),
        ([DPO, *SMALL], r"^policy\.batch 16 is more than the 2 comparisons that there can be for it"),
    ],
)
def test_tables_that_the_gathered_feedback_does_not_fit_are_refused(tmp_path: Path, arguments: list[str], message: str) -> None:
    places = [f"execution.store=file://{tmp_path}/store", f"execution.scratch={tmp_path}/scratch"]
    line = Line(load_pipeline(arguments[0], [*arguments[1:], *places]))
    line.built["feedback"] = line.place.store.build(Spec("feedback", line.config.of("feedback"), {}, "code"), gathered)
    with pytest.raises(ValueError, match=message) if message else nullcontext():
        require_fitting_feedback(line)
