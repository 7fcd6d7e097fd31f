"""The whole line: raw text, or somebody's model, to a promoted model. Read it from top to bottom.

A stage whose table the config lacks is passed over. Run it with ``modelyard run CONFIG [KEY=VALUE ...]``; the exit code is 0 only when the model was
promoted.
"""

from __future__ import annotations

from collections.abc import Sequence

from prefect import flow

from flows.data import prepare_data
from flows.evals import measure_production
from flows.pipeline_config import Given, load_pipeline, resolve
from flows.pretrain import train_base
from flows.release import release
from flows.tracked import tracked
from tasks.asked_models import require_asked, require_teachers_vocabulary
from tasks.gathered_feedback import require_fitting_feedback
from tasks.line import Line
from tasks.missing import require_isolation
from tasks.release import early_gates_task, stopped
from tasks.session import run_from_terminal
from tasks.summary import summary_task


@flow(name="pipeline", flow_run_name="{config.name}")
@tracked
def pipeline_flow(config: Given) -> None:
    """Build, align, measure and release a model; every stage that the store already has is skipped.

    Args:
        config: the line, or its file with overrides.
    """
    config = resolve(config)
    require_isolation(config)
    require_asked(config)
    line = Line(config)

    prepare_data(line)
    early_gates_task(config.release, line.place, line.artifact("corpus"), line.artifact("contamination"))
    require_fitting_feedback(line)
    require_teachers_vocabulary(line)
    train_base(line)

    line.build("projector", "no_vision_projector")
    line.build("sft", "no_vision")
    line.build("harm_features")
    line.build("content_classifier")
    line.build("ai_feedback")
    line.build("reward", "gold")
    line.build("selection")
    line.build("feedme")
    line.build("sft_start")
    line.build("start_selection")
    line.build("rbrm")
    line.build("reference")
    line.build("before")
    line.build("policy")

    line.build("results")
    production = measure_production(config, line)
    released = release(config, line, production)

    summary_task(line.place, line.lines(), line.artifact("results"), released)
    if released.verdict.verdict != "PROMOTE":
        raise stopped(released.verdict)


def run(file: str, overrides: Sequence[str]) -> int:
    """Run the line in ``file``, with a Prefect server for as long as it needs one; the exit code."""
    return run_from_terminal(file, overrides, load_pipeline, pipeline_flow)
