"""The list of stages agrees with itself, with the stages' own code and with the config that a line has."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from flows.pipeline_config import PipelineConfig, load_pipeline
from modelyard.adapters.mlflow.past_builds import PastBuild
from modelyard.adapters.terminal import STAGE
from modelyard.config import ConfigError, read_tree
from modelyard.execution import ExecutionConfig
from modelyard.posttrain.feedme import FeedMEConfig
from modelyard.posttrain.policy.config import OnPolicyConfig
from modelyard.posttrain.projector import ProjectorConfig
from modelyard.posttrain.sft import SFTConfig
from tasks import build
from tasks.line import Planned, _task, stages_of
from tasks.stage import Name, On, Stage, reads
from tasks.stages import RELEASED, SECOND, STAGES, check

PIPELINES = Path(__file__).parents[2] / "configs" / "pipeline"


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: f"{stage.name}-{stage.config.__name__}")
def test_stage_runs_what_takes_its_config(stage: Stage) -> None:
    parameters = list(inspect.signature(stage.run).parameters)
    taken = get_type_hints(stage.run)[parameters[0]]
    assert issubclass(stage.config, taken)
    wanted = (
        ["config", "inputs", "out", "report"]
        if stage.on is On.DRIVER
        else ["config", "inputs", "out", "checkpoints", "execution", "report"]
    )
    assert parameters[: len(wanted)] == wanted


def test_no_stage_is_ended_for_the_time_that_its_data_takes_or_another_run_needs() -> None:
    """Prefect starts a task that it ends from the beginning, so one that takes longer than its limit could never be built."""
    for stage in STAGES:
        task = _task(Planned(stage, stage.config.model_construct(), {}))
        assert (task.name, task.timeout_seconds) == (stage.name, None)


UNLABELLED = ("harm_labels", "harm_features", "content_classifier")
"""Stages of a line that has labels of harm."""
SEEING = ("projector", "no_vision_projector", "no_vision")
"""Stages of a line whose models are shown images."""
PLAIN = ("imported", *UNLABELLED, "ai_feedback", "selection", "feedme", "sft_start", "start_selection", "rbrm")
"""Stages that the tiny lines do without."""


@pytest.mark.parametrize(
    ("name", "absent"),
    [
        ("tiny", {*PLAIN, "instructions", "reference"}),
        ("tiny-grpo", {*PLAIN, "instructions", "reference"}),
        ("tiny-opd", {*PLAIN, "instructions", "reference"}),
        ("tiny-lora", {*PLAIN, "instructions", "reference"}),
        ("tiny-rewards", {*PLAIN, "instructions", "reference"}),
        ("tiny-masks", {*PLAIN, "instructions", "reference"}),
        ("tiny-feedme", {*PLAIN, "instructions", "reference", "policy"} - {"feedme", "sft_start"}),
        ("tiny-dpo", {*PLAIN, "instructions"}),
        ("tiny-kto", {*PLAIN, "instructions"}),
        ("tiny-judged", {*PLAIN, "instructions", "reference"} - {"ai_feedback"}),
        ("tiny-taught", {*PLAIN, "reference"}),
        ("smollm2", {"instructions", "continuations", "forecast", "base", "feedme", "start_selection", "reference"}),
        ("smollm2-gpu", {"instructions", "continuations", "forecast", "base", "feedme", "start_selection", "reference"}),
        ("smollm2-gpu-feedme", {"instructions", "continuations", "forecast", "base", "rbrm", "reference", "policy"}),
    ],
)
def test_line_has_the_stages_that_its_config_asks_for(name: str, absent: set[str]) -> None:
    config = load_pipeline(str(PIPELINES / f"{name}.toml"), [])
    had = {stage.name for stage in STAGES if stage.name != "decision" and isinstance(config.of(stage.name), stage.config)}
    missing = absent | {"decision", "no_contam_tokens", "no_contam", *SEEING}
    assert {stage.name for stage in STAGES} - had == missing, "the decision's config is made when production is known"
    if not {"base"} & absent:
        twin = load_pipeline(str(PIPELINES / f"{name}.toml"), ["no_contam=true"])
        assert (twin.of("no_contam"), twin.of("no_contam_tokens").seed) == (twin.base, twin.tokens.seed)
        assert twin.of("no_contam_tokens").document_masks == twin.tokens.document_masks == (name == "tiny-masks")


def test_list_with_a_stage_that_reads_what_comes_later_is_refused() -> None:
    late = [stage._replace(reads=reads("policy")) if stage.name == "sft" else stage for stage in STAGES]
    with pytest.raises(ValueError, match="stage sft: policy: policy does not stand above it in the list of stages"):
        check(late)
    with pytest.raises(ValueError, match="stage export: has no row in the list of stages"):
        check([stage for stage in STAGES if stage.name != "export"])


def test_stage_says_where_in_the_line_it_stands_and_what_the_rest_took_before(monkeypatch) -> None:
    place = build.Place("line", ExecutionConfig())
    monkeypatch.setattr(build, "past_builds", lambda uri, line: {"sft": PastBuild(60.0, {}), "policy": PastBuild(75.0, {})})
    build._past.cache_clear()
    order = ("corpus", "sft", "policy")
    assert build.ahead("sft", place, order) == "stage 2 of 3; from here on 2:15 before"
    assert build.ahead("corpus", place, order) == "stage 1 of 3"
    assert build.ahead("baseline", place, order) == ""
    build._past.cache_clear()


def test_line_with_a_teacher_hands_what_it_taught_to_those_who_learn_from_demonstrations_and_prompts() -> None:
    config = load_pipeline(str(PIPELINES / "tiny-taught.toml"), [])
    table = config.of("instructions")
    assert (table.contamination, table.pii) == (config.contamination, config.feedback.pii)
    plain = load_pipeline(str(PIPELINES / "tiny.toml"), [])
    assert plain.of("instructions") is None
    readers = {(stage.name, stage.config): stage.reads["feedback"] for stage in STAGES if "feedback" in stage.reads}
    taught = {stage for stage, players in readers.items() if "instructions" in players}
    seeing = {("projector", ProjectorConfig), ("no_vision_projector", ProjectorConfig), ("no_vision", SFTConfig)}
    assert taught == {("sft", SFTConfig), ("feedme", FeedMEConfig), ("sft_start", SFTConfig), ("policy", OnPolicyConfig), *seeing}
    assert all(players[-1] == "feedback" for players in readers.values()), "a line without a teacher hands on people's"


def test_instructions_as_prompts_of_a_policy_that_samples_from_none_are_refused(tmp_path: Path) -> None:
    files = [str(PIPELINES / "tiny-taught.toml"), str(PIPELINES / "tiny-dpo.toml")]
    (tmp_path / "dpo.toml").write_text(f"extends = {files}\n")
    assert load_pipeline(str(tmp_path / "dpo.toml"), []).of("instructions") is not None
    with pytest.raises(ConfigError, match=r"instructions.also_prompts: policy.algorithm 'kwise_dpo' samples from no prompts"):
        load_pipeline(str(tmp_path / "dpo.toml"), ["instructions.also_prompts=true"])


def test_line_that_sees_trains_its_blank_twin_alike_and_is_measured_on_images() -> None:
    config = load_pipeline(str(PIPELINES / "tiny-images.toml"), [])
    assert set(SEEING) < set(stages_of(config))
    assert config.of("no_vision_projector") == config.projector.model_copy(update={"blank": True})
    assert config.of("no_vision") == config.sft.model_copy(update={"blank": True})
    twin = {stage.name: stage for stage in STAGES if stage.name in ("no_vision", "no_vision_projector")}
    assert twin["no_vision"].may_read["projector"] == ("no_vision_projector",), "and never from what has seen"
    tree = read_tree(PIPELINES / "tiny-images.toml")
    tree["evals"]["benchmarks"] = {
        name: table for name, table in tree["evals"]["benchmarks"].items() if not name.startswith(("easy", "emoji"))
    }
    with pytest.raises(ValueError, match=r"evals\.benchmarks: none has images, and the release is held to what it sees"):
        PipelineConfig.model_validate(tree)
    with pytest.raises(ConfigError, match=r"sft.blank: the line trains its blank twin itself; remove the key"):
        load_pipeline(str(PIPELINES / "tiny-images.toml"), ["sft.blank=true"])
    with pytest.raises(ConfigError, match=r"evals.benchmarks.easy_vqa: asks about images, and the line has no projector"):
        load_pipeline(str(PIPELINES / "smallest.toml"), ["evals.benchmarks.easy_vqa={}"])


def test_line_without_a_policy_releases_its_sft_model_and_says_why() -> None:
    tree = read_tree(PIPELINES / "smallest.toml")
    for name in ("reward", "gold", "policy"):
        del tree[name]
    with pytest.raises(ValueError, match=r"release.set_aside.preference: missing; the line has no policy, so give the reason"):
        PipelineConfig.model_validate(tree)
    tree["release"]["set_aside"]["preference"] = "ends with SFT"
    config = PipelineConfig.model_validate(tree)
    assert not {"reward", "gold", "policy"} & set(stages_of(config))
    with pytest.raises(ValueError, match="selection: the line has no policy, so nothing would use it; remove the table"):
        PipelineConfig.model_validate({**tree, "selection": {"seed": 0, "prompts": 8, "max_new_tokens": 4, "temperature": 0.0}})
    whole = read_tree(PIPELINES / "smallest.toml")
    whole["release"]["set_aside"]["preference"] = "ends with SFT"
    with pytest.raises(ValueError, match=r"release.set_aside.preference: applies to a line with a policy"):
        PipelineConfig.model_validate(whole)


def test_line_that_ends_with_feedme_releases_its_second_sft_model_and_is_judged_like_a_policy() -> None:
    tree = read_tree(PIPELINES / "tiny-feedme.toml")
    assert RELEASED[1:3] == SECOND
    for absent in ("reward", "gold"):
        with pytest.raises(ValueError, match=f"{absent}: missing; the line has FeedME"):
            PipelineConfig.model_validate({key: table for key, table in tree.items() if key != absent})
    with pytest.raises(ValueError, match=r"sft_start: the line has no policy, so nothing would use it"):
        PipelineConfig.model_validate({key: table for key, table in tree.items() if key not in ("feedme", "reward", "gold")})
    tree["release"]["set_aside"]["preference"] = "ends with FeedME"
    with pytest.raises(ValueError, match=r"release.set_aside.preference: applies to a line with a policy or FeedME"):
        PipelineConfig.model_validate(tree)


def test_name_of_a_stage_leaves_room_for_what_became_of_it() -> None:
    assert max(map(len, get_args(Name))) < STAGE
