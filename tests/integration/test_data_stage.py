"""The data stage on its real sources at the smallest size, and the same bytes from a loop and from four Ray workers."""

import json
from pathlib import Path

import pytest
import ray

from modelyard.adapters.expectations import validate
from modelyard.adapters.ray.data import RayTransform
from modelyard.config import read_tree
from modelyard.data.contamination import check as contamination
from modelyard.data.contamination import overlap
from modelyard.data.corpus import line_corpus as corpus
from modelyard.data.corpus.document import run_inline
from modelyard.data.feedback import gather as human_feedback
from modelyard.data.tokens import line_tokens as tokens
from modelyard.evals import gather
from modelyard.evals.gather import GatherConfig
from modelyard.progress import silent

SOME = {"human_ratings": 0.15, "shakespeare": 0, "tweets": 0.05, "dialogs": 0.03, "docstrings": 0.03, "code": 0.03}
SMALLEST = read_tree(Path(__file__).parents[2] / "configs" / "pipeline" / "smallest.toml")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def _build(out, cache, transform):
    out.mkdir()
    config = SMALLEST["corpus"]
    config = {**config, "sources": {**config["sources"], "megabytes": SOME}}
    corpus.run(corpus.CorpusConfig.model_validate(config), {}, out, silent, transform, cache, validate)
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}


@pytest.mark.integration
def test_data_stage_loop_and_ray_workers_give_the_same_bytes(tmp_path, cache):
    loop = _build(tmp_path / "loop", cache, run_inline)
    assert _build(tmp_path / "four", cache, RayTransform(4)) == loop
    ray.shutdown()
    statistics = json.loads(loop["statistics.json"])
    assert {"language/not_accepted", "normalise/undecodable", "duplicate/exact", "quality/too_short"} <= set(statistics["refused"])
    (tmp_path / "tokens").mkdir()
    metrics = tokens.run(tokens.TokensConfig.model_validate(SMALLEST["tokens"]), {"corpus": tmp_path / "loop"}, tmp_path / "tokens", silent)
    assert metrics["tokens/train/tokens"] > 50_000
    (tmp_path / "feedback").mkdir()
    feedback = human_feedback.FeedbackConfig.model_validate(SMALLEST["feedback"])
    human_feedback.run(feedback, {"corpus": tmp_path / "loop"}, tmp_path / "feedback", silent, "")
    (tmp_path / "contamination").mkdir()
    config = overlap.ContaminationConfig.model_validate(SMALLEST["contamination"])
    (tmp_path / "benchmarks").mkdir()
    sets = GatherConfig.model_validate({"seed": 0, "benchmarks": list(SMALLEST["evals"]["benchmarks"]), "context": 512})
    gather.run(sets, {"corpus": tmp_path / "loop"}, tmp_path / "benchmarks", silent, [""])
    inputs = {"corpus": tmp_path / "loop", "feedback": tmp_path / "feedback", "benchmarks": tmp_path / "benchmarks"}
    metrics = contamination.run(config, inputs, tmp_path / "contamination", silent)
    assert metrics["contamination/openings/share"] < 0.05
