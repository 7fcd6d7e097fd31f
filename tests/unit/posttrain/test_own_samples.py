"""Choosing among epochs by reward, and fine-tuning on the best of one's own answers."""

import itertools
from pathlib import Path

import pytest
from pydantic import ValidationError

from modelyard.execution import ExecutionConfig
from modelyard.formats.feedback import COMPARISONS, DEMONSTRATIONS, PROMPTS, THUMBS, Demonstration, PromptRecord, read, records, write
from modelyard.model import model_directory
from modelyard.model.encoder import Encoder
from modelyard.model.hf.weights import read_checkpoint
from modelyard.model.training import adapter_file
from modelyard.model.training.engine import Engine
from modelyard.posttrain import feedme, reward, selection, sft
from modelyard.posttrain.feedme import FeedMEConfig
from modelyard.posttrain.kept_epochs import EPOCHS
from modelyard.posttrain.reward import RewardConfig
from modelyard.posttrain.rows.encoding import whole
from modelyard.posttrain.scores import score
from modelyard.posttrain.selection import SelectionConfig
from modelyard.progress import silent

from .conftest import ALL, MODEL, optimizer
from .test_sft_reward import REWARD, sft_config

FEEDME = {
    "seed": 3,
    "prompts": 8,
    "samples": 6,
    "max_new_tokens": 14,
    "temperature": 1.0,
    "least": -100.0,
    "ranked_first": False,
    "keep_demonstrations": False,
}


@pytest.fixture(scope="module")
def inputs(world: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An SFT model with its epochs, a reward model, and feedback with validation prompts."""
    root = tmp_path_factory.mktemp("own")
    execution = ExecutionConfig(checkpoint_every=1000, log_every=100, threads=1)
    paths = {"sft": root / "sft", "reward": root / "reward", "feedback": root / "feedback"}
    for path in paths.values():
        path.mkdir()
    prompts = list(records(world["feedback"] / PROMPTS, PromptRecord))
    write(paths["feedback"] / PROMPTS, [one.model_copy(update={"split": split}) for split in ("train", "validation") for one in prompts])
    for name in (DEMONSTRATIONS, COMPARISONS, THUMBS):
        (paths["feedback"] / name).write_bytes((world["feedback"] / name).read_bytes())
    sft.run(sft_config(epochs=4, keep_epochs=True, optimizer=optimizer(2e-2)), world, paths["sft"], root / "a", execution, silent)
    body = {"body": paths["sft"], "feedback": paths["feedback"]}
    reward.run(RewardConfig(**REWARD), body, paths["reward"], root / "b", execution, silent)
    return paths


def test_selection_takes_the_epoch_that_the_reward_model_scores_highest(
    inputs: dict[str, Path], tmp_path: Path, execution: ExecutionConfig
) -> None:
    config = SelectionConfig(seed=1, prompts=4, max_new_tokens=12, temperature=1.0)

    def scores(metrics: dict[str, float]) -> dict[int, float]:
        epochs = {key.split("/")[1]: value for key, value in metrics.items() if key.endswith("/reward") and "epoch_" in key}
        return {int(name.removeprefix("epoch_")): value for name, value in epochs.items()}

    before = scores(selection.run(config, inputs, tmp_path, tmp_path / "ck", execution, silent))
    assert sorted(before) == [1, 2, 3, 4]
    worst = min(before, key=lambda epoch: before[epoch])
    (inputs["sft"] / EPOCHS / f"{worst:03d}").rename(inputs["sft"] / EPOCHS / "099")  # so that the last is not the best
    metrics = selection.run(config, inputs, tmp_path, tmp_path / "ck", execution, silent)
    chosen = int(metrics["selection/epoch"])
    assert scores(metrics) == {**{epoch: score for epoch, score in before.items() if epoch != worst}, 99: before[worst]}
    assert metrics["selection/reward"] == max(before.values()) == before[chosen]
    kept = Engine(MODEL, execution, seed=0, precision="fp32")
    kept.load_weights(inputs["sft"] / EPOCHS / f"{chosen:03d}")
    written = model_directory.load(tmp_path, execution)
    for one, other in zip(kept.gpt.parameters(), written.gpt.parameters(), strict=True):
        assert one.equal(other)
    with pytest.raises(ValueError, match="keep_epochs = true"):
        selection.run(config, {**inputs, "sft": inputs["reward"]}, tmp_path, tmp_path / "ck", execution, silent)


def test_selection_of_a_model_trained_by_adapters_has_those_of_the_chosen_epoch(
    inputs: dict[str, Path], world: dict[str, Path], tmp_path: Path, execution: ExecutionConfig
) -> None:
    trained, chosen = tmp_path / "sft", tmp_path / "chosen"
    trained.mkdir()
    chosen.mkdir()
    sft.run(sft_config(epochs=2, keep_epochs=True, lora=ALL, optimizer=optimizer(2e-2)), world, trained, tmp_path / "a", execution, silent)
    found = selection.run(
        SelectionConfig(seed=1, prompts=4, max_new_tokens=12, temperature=1.0),
        {**inputs, "sft": trained},
        chosen,
        tmp_path / "ck",
        execution,
        silent,
    )
    epochs = {epoch.name: epoch for epoch in (trained / EPOCHS).iterdir()}
    for name, epoch in epochs.items():
        engine = model_directory.load(world["base"], execution, precision="fp32", lora=ALL)
        adapter_file.take(engine, adapter_file.read(epoch))
        engine.save_weights(tmp_path / name)
        ours, kept = read_checkpoint(tmp_path / name), read_checkpoint(epoch)
        assert all(ours[key].equal(kept[key]) for key in kept)
    best = epochs[f"{int(found['selection/epoch']):03d}"]
    files = [[(place / file).read_bytes() for file in adapter_file.FILES] for place in (chosen / model_directory.ADAPTER, best)]
    assert files[0] == files[1]


def test_feedme_best_ended_answers_become_demonstrations_that_sft_reads(
    inputs: dict[str, Path], world: dict[str, Path], tmp_path: Path, execution: ExecutionConfig
) -> None:
    metrics = feedme.run(FeedMEConfig(**FEEDME), inputs, tmp_path, tmp_path / "ck", execution, silent)
    made = read(tmp_path / DEMONSTRATIONS, Demonstration, "train")
    assert 1 <= len(made) == metrics["feedme/sampled"] <= metrics["feedme/asked"]
    assert {one.source for one in made} == {"feedme"}
    assert metrics["feedme/too_long"] == 0.0 <= metrics["feedme/cut"] <= metrics["feedme/asked"] * FEEDME["samples"] - len(made)
    encoder, engine = Encoder(inputs["reward"]), model_directory.load(inputs["reward"], execution, head="scalar")
    best = score(engine, [whole(encoder, one.prompt, one.completion) for one in made], encoder.padding)
    one_each = tmp_path / "one"
    one_each.mkdir()
    feedme.run(FeedMEConfig(**{**FEEDME, "samples": 1}), inputs, one_each, tmp_path / "ck", execution, silent)
    plain = read(one_each / DEMONSTRATIONS, Demonstration, "train")
    any_answer = score(engine, [whole(encoder, one.prompt, one.completion) for one in plain], encoder.padding)
    assert sum(best) / len(best) > sum(any_answer) / len(any_answer)
    again = sft_config(epochs=1, batch=len(made), micro_batch=1, pretraining_share=0.0, optimizer=optimizer(1e-3))
    out = tmp_path / "sft"
    out.mkdir()
    assert sft.run(again, {"base": inputs["sft"], "feedback": tmp_path}, out, tmp_path / "c", execution, silent)[
        "sft/data/examples"
    ] == len(made)


@pytest.mark.parametrize("said", ["", " \n"])
def test_feedme_answers_that_say_nothing_are_no_demonstrations(
    said: str, inputs: dict[str, Path], tmp_path: Path, execution: ExecutionConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode, every_other = Encoder.decode, itertools.cycle([True, False])
    monkeypatch.setattr(Encoder, "decode", lambda self, tokens: said if next(every_other) else decode(self, tokens))
    feedme.run(FeedMEConfig(**FEEDME), inputs, tmp_path, tmp_path / "ck", execution, silent)
    made = read(tmp_path / DEMONSTRATIONS, Demonstration, "train")
    assert made
    assert all(one.completion.strip() for one in made)
    monkeypatch.setattr(Encoder, "decode", lambda self, tokens: said)
    with pytest.raises(ValueError, match="none of 4 prompts has an answer that ended, says something"):
        feedme.run(FeedMEConfig(**FEEDME), inputs, tmp_path, tmp_path / "ck", execution, silent)


def test_feedme_ranked_first_takes_lone_winners_of_training_comparisons(
    inputs: dict[str, Path], tmp_path: Path, execution: ExecutionConfig
) -> None:
    config = FeedMEConfig(**{**FEEDME, "prompts": 0, "ranked_first": True, "keep_demonstrations": True})
    metrics = feedme.run(config, inputs, tmp_path, tmp_path / "ck", execution, silent)
    made = [one for one in read(tmp_path / DEMONSTRATIONS, Demonstration, "train") if one.source == "feedme"]
    assert len(made) == metrics["feedme/ranked_first"] > 0
    liked = sum("good" in one.completion or "fine" in one.completion for one in made)
    assert liked > 0.75 * len(made)
    with pytest.raises(ValueError, match="has an answer that ended, says something and scores at least 1e"):
        feedme.run(FeedMEConfig(**{**FEEDME, "least": 1e9}), inputs, tmp_path, tmp_path / "ck", execution, silent)
    with pytest.raises(ValidationError, match="at least one must give demonstrations"):
        FeedMEConfig(**{**FEEDME, "prompts": 0})
