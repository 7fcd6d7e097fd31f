"""The data stages on their real sources at the smallest size: the same bytes from a loop and from four Ray workers, and the same artifacts for the
command and for a pipeline."""

from pathlib import Path

import pytest
import ray

from flows.pipeline_config import load_pipeline
from modelyard.adapters.expectations import validate
from modelyard.adapters.ray.data import RayTransform
from modelyard.adapters.ray.partitions import ray_partitions
from modelyard.config import load_config
from modelyard.data.build import DataConfig, build_corpus, build_tokens, store_of
from modelyard.data.contamination import check as contamination
from modelyard.data.corpus import held_out
from modelyard.data.corpus.document import run_inline
from modelyard.data.corpus.partitions import in_process
from modelyard.data.feedback import gather as human_feedback
from modelyard.evals import gather
from modelyard.formats.token_rows import TokenRows
from modelyard.progress import silent
from tasks.build import Place
from tasks.line import Line, spec_of

SMALLEST = Path(__file__).parents[2] / "configs" / "pipeline" / "smallest.toml"
SIZES = {
    "movie": 0.08,
    "amazon": 0.02,
    "nyt": 0.03,
    "rated_tweets": 0.02,
    "tweets": 0.05,
    "dialogs": 0.03,
    "docstrings": 0.03,
    "code": 0.03,
}


def _overrides(root, scratch):
    return [
        *(f"corpus.sources.{name}.megabytes={size}" for name, size in SIZES.items()),
        f"execution.store=file://{root}",
        f"execution.scratch={scratch}",
    ]


def _built(config, transform, partitions):
    store = store_of(config)
    built = build_corpus(config, store, transform, partitions, validate, silent)
    directory = store.fetch(built.artifact)
    content = {path.relative_to(directory).as_posix(): path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    return built, directory, {name: data for name, data in content.items() if name != "artifact.json"}


@pytest.mark.integration
def test_data_stages_give_the_same_on_workers_and_in_a_pipeline(tmp_path):
    overrides = {name: _overrides(tmp_path / name, tmp_path / "scratch") for name in ("loop", "four")}
    config = {name: load_config(DataConfig, SMALLEST, given) for name, given in overrides.items()}
    built, corpus, loop = _built(config["loop"], run_inline, in_process)
    assert _built(config["four"], RayTransform(4), ray_partitions(4, fewest=1))[2] == loop
    ray.shutdown()
    refused = {name.removeprefix("corpus/refused/") for name in built.artifact.metrics}
    assert {"language/not_accepted", "normalise/undecodable", "duplicate/exact", "quality/too_short"} <= refused
    store = store_of(config["loop"])
    tokens = build_tokens(config["loop"], store, built.artifact, silent)
    assert tokens.artifact.metrics["tokens/train/tokens"] > 50_000
    assert len(TokenRows(store.fetch(tokens.artifact), "validation")) > 20

    pipeline = load_pipeline(str(SMALLEST), overrides["loop"])
    line = Line(pipeline)
    place = Place(pipeline.name, pipeline.execution)
    assert spec_of(line.planned("corpus"), place).version == built.artifact.version, "a pipeline finds what the command built"
    line.built["corpus"] = built
    assert spec_of(line.planned("tokens"), place).version == tokens.artifact.version

    inputs = {"corpus": corpus}
    for name in ("held_out", "feedback", "benchmarks", "contamination"):
        inputs[name] = tmp_path / name
        inputs[name].mkdir()
    held_out.run(pipeline.held_out, inputs, inputs["held_out"], silent, validate, tmp_path / "scratch" / "sources")
    human_feedback.run(pipeline.feedback, inputs, inputs["feedback"], silent, "")
    gather.run(pipeline.of("benchmarks"), {"held_out": inputs["held_out"]}, inputs["benchmarks"], silent, [""])
    metrics = contamination.run(pipeline.contamination, inputs, inputs["contamination"], silent)
    assert metrics["contamination/openings/share"] < 0.05
