"""Stages that ask models instead of training them: killed at any answer they ask for the rest, and write what they would have written."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from modelyard.execution import ExecutionConfig
from modelyard.model.inference import generate
from modelyard.model.model_directory import weights_at
from modelyard.model.subject import Subject
from modelyard.posttrain import feedme, selection
from modelyard.posttrain.feedme import FeedMEConfig
from modelyard.posttrain.judged import ai_feedback, rbrm
from modelyard.posttrain.preference import ranked, reference
from modelyard.posttrain.selection import SelectionConfig
from modelyard.progress import silent
from modelyard.store.file_hash import sha256_tree
from tests.unit import small_model

from .judged.test_ai_feedback import asked_for
from .judged.test_rbrm import config as rbrm_config
from .preference.preferences import dpo_config
from .test_own_samples import FEEDME, inputs

__all__ = ["inputs"]

Stage = Callable[[Path, Path], dict[str, float]]
"""(out, checkpoints) -> metrics."""


class KilledError(Exception):
    """The process is gone."""


@contextmanager
def counted(answers: list[str], last: int | None = None) -> Iterator[None]:
    """``answers`` gets the name of every batch that a model computes; with ``last``, the computation after so many never comes back."""
    with pytest.MonkeyPatch.context() as patch:

        def counting(owner: object, name: str) -> None:
            answer = getattr(owner, name)

            def counted_answer(*given: object, **named: object) -> object:
                if len(answers) == last:
                    raise KilledError
                answers.append(name)
                return answer(*given, **named)

            patch.setattr(owner, name, counted_answer)

        counting(generate, "_generate_batch")
        counting(Subject, "_likelihoods")
        counting(ranked, "_evaluated")
        yield


def require_goes_on(stage: Stage, root: Path) -> None:
    """After the first answer, in the middle and before the last."""
    every: list[str] = []
    (root / "whole").mkdir()
    with counted(every):
        metrics = stage(root / "whole", root / "whole-ck")
    assert len(every) > 1, "there is nothing to be killed between"
    for last in sorted({1, len(every) // 2, len(every) - 1}):
        before, after = list[str](), list[str]()
        out, checkpoints = root / f"{last}", root / f"{last}-ck"
        out.mkdir()
        with counted(before, last), pytest.raises(KilledError):
            stage(out, checkpoints)
        with counted(after):
            assert stage(out, checkpoints) == metrics
        assert [*before, *after] == every
        assert sha256_tree(out) == sha256_tree(root / "whole")


@pytest.mark.parametrize("name", ["feedme", "selection", "reference"])
def test_stage_that_asks_one_model_goes_on_where_it_was_killed(
    name: str, inputs: dict[str, Path], tmp_path: Path, execution: ExecutionConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranked, "EVALUATED_ROWS", 2)
    monkeypatch.setattr(
        generate, "groups", lambda lengths, *_: [list(range(len(lengths)))[start : start + 8] for start in range(0, len(lengths), 8)]
    )
    stages: dict[str, Stage] = {
        "feedme": lambda out, ck: feedme.run(FeedMEConfig(**FEEDME), inputs, out, ck, execution, silent),
        "selection": lambda out, ck: selection.run(
            SelectionConfig(seed=1, prompts=4, max_new_tokens=12, temperature=1.0), inputs, out, ck, execution, silent
        ),
        "reference": lambda out, ck: reference.run(dpo_config().reference, inputs, out, ck, execution, silent),
    }
    require_goes_on(stages[name], tmp_path)


def test_ai_feedback_asks_neither_policy_nor_judge_again(world: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, given, execution = asked_for(world, tmp_path, monkeypatch)
    require_goes_on(lambda out, ck: ai_feedback.run(made, given, out, ck, execution, silent), tmp_path)


def test_rules_are_fitted_without_asking_the_judge_again(
    inputs: dict[str, Path], tmp_path: Path, execution: ExecutionConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_model.write(tmp_path, seq_len=512)
    monkeypatch.setenv("MODELYARD_JUDGE", str(tmp_path / "hf"))
    judge = {"kind": "directory", "weights": weights_at(tmp_path / "hf"), "orders": 2, "calibrate": "nothing", "shots": 0, "chat": False}
    require_goes_on(lambda out, ck: rbrm.run(rbrm_config(judge=judge), inputs, out, ck, execution, silent), tmp_path)
