"""Texts that are too long: what every stage leaves out, reads without its end or trains on without one is counted."""

import shutil
from pathlib import Path

import torch

from modelyard.execution import ExecutionConfig
from modelyard.formats.feedback import DEMONSTRATIONS, Comparison, Demonstration, Message, records, write
from modelyard.model.encoder import Encoder
from modelyard.posttrain import reward, sft
from modelyard.posttrain.policy.rollout import Rollout
from modelyard.posttrain.policy.update import unended
from modelyard.posttrain.rows.completions import alone
from modelyard.posttrain.rows.encoding import demonstration, never_stopping
from modelyard.posttrain.rows.masking import Example, pad_examples
from modelyard.progress import silent

from .test_sft_reward import sft_config


def test_rows_that_no_end_closes_are_counted_turn_by_turn(world: dict[str, Path]) -> None:
    encoder = Encoder(world["base"])
    turns = (Message(role="user", content="hello"), Message(role="assistant", content="good"), Message(role="user", content="again"))
    chat = demonstration(encoder, Demonstration(id="c", split="train", source="s", prompt=turns, completion="fine"))
    text = demonstration(encoder, Demonstration(id="t", split="train", source="s", prompt="the film", completion=" is good"))
    assert never_stopping(encoder, [chat, text]) == 0
    start, stop = chat.earlier[0]
    without = [
        text._replace(completion=text.completion[:-1]),
        chat._replace(completion=chat.completion[:-1]),
        chat._replace(earlier=((start, stop - 1),)),
    ]
    assert never_stopping(encoder, [chat, *without, text]) == 3


def test_comparisons_read_without_their_end_are_counted_apart_from_those_left_out(world: dict[str, Path]) -> None:
    encoder = Encoder(world["base"])

    def ranked(name: str, prompt: str, *completions: str) -> Comparison:
        return Comparison(
            id=name, split="reward", source="s", prompt=prompt, completions=completions, ranks=tuple(range(1, len(completions) + 1))
        )

    long = "the film is good today " * 9
    read = reward.encoded(
        [ranked("bare", "", long, "bad", long + "!"), ranked("prompted", "the film", long, "bad"), ranked("short", "the film", "a", "b")],
        encoder,
        16,
    )
    assert [one.comparison.id for one in read.fitting] == ["bare", "short"]
    assert [len(text) for text in read.fitting[0].texts] == [16, len(encoder.document("bad")), 16]
    assert read.counts("reward/train") == {"reward/train/too_long": 1.0, "reward/train/cut": 2.0}


def test_cut_completions_teach_never_to_stop_where_they_become_likelier() -> None:
    completions = [[5, 6], [5, 0], [7, 8], [7, 8, 9]]  # 0 ends
    rows = pad_examples([Example([3], new) for new in completions], 0)
    ended = torch.tensor([False, True, False, False])
    nothing = torch.zeros_like(rows.mask)
    rollout = Rollout(alone(rows), completions, ended, nothing, nothing, None, {"model": torch.zeros(4)}, 0.0, {})
    advantages = rows.mask * torch.tensor([[1.0], [2.0], [-1.0], [0.5]])
    advantages[0, 1] = -3.0  # on the whole this one becomes less likely
    assert unended(rollout, advantages) == {"data/cut": 3.0, "data/never_stop": 1.0}


def test_sft_demonstrations_that_do_not_fit_are_counted_by_split(
    world: dict[str, Path], tmp_path: Path, execution: ExecutionConfig
) -> None:
    feedback, out = tmp_path / "feedback", tmp_path / "out"
    shutil.copytree(world["feedback"], feedback)
    out.mkdir()
    shown = list(records(feedback / DEMONSTRATIONS, Demonstration))
    long = [
        shown[0].model_copy(update={"id": f"long-{split}", "split": split, "completion": "good " * 60}) for split in ("train", "validation")
    ]
    write(feedback / DEMONSTRATIONS, [*shown, long[0], *long])
    config = sft_config(epochs=0.1, pretraining_share=0.0)
    metrics = sft.run(config, {"base": world["base"], "feedback": feedback}, out, tmp_path / "ck", execution, silent)
    assert metrics["sft/data/examples"] == sum(one.split == "train" for one in shown)
    assert [metrics[f"sft/{key}"] for key in ("data/too_long", "validation/too_long", "data/never_stop")] == [2.0, 1.0, 0.0]
