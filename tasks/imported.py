"""Tasks of a line with an imported base: the import, and the text of the pretraining mix in its tokens."""

from __future__ import annotations

from modelyard.data import text_tokens
from modelyard.pretrain import import_model
from modelyard.store.artifacts import Artifact, Built, Spec
from modelyard.store.code_identity import code_version
from tasks.build import Place, build, stage_task
from tasks.training import TIMEOUT_SECONDS, train


@stage_task(name="import", task_run_name="import", timeout_seconds=TIMEOUT_SECONDS)
def import_task(config: import_model.ImportConfig, place: Place) -> Built:
    """Turn the imported model into a model directory; one rank does it for any layout."""
    layout = {"tensor_parallel": 1, "pipeline_parallel": 1, "data_parallel": 1, "expert_parallel": 1}
    return train("base", import_model.run, config, {}, place, place.execution.model_copy(update=layout))


@stage_task(name="tokens", task_run_name="tokens", timeout_seconds=3600)
def text_tokens_task(config: text_tokens.TextTokensConfig, place: Place, base: Artifact) -> Built:
    """Pack the text of the pretraining mix with the imported model's tokenizer."""
    spec = Spec("tokens", config, {"base": base}, code_version("modelyard.data.text_tokens"))
    root = place.execution.inputs
    return build(spec, lambda inputs, out, _, report: text_tokens.run(config, inputs, out, report, root), place)
