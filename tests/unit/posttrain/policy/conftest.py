"""A teacher for distilled policies: an SFT model that was shown the liked sentences alone."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelyard.execution import ExecutionConfig
from modelyard.formats.feedback import DEMONSTRATIONS, Demonstration, records, write
from modelyard.posttrain import sft
from modelyard.progress import silent
from tests.unit.posttrain.test_sft_reward import sft_config


@pytest.fixture(scope="session")
def teacher(world: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Its directory, where the environment says that teachers are."""
    root = tmp_path_factory.mktemp("teacher")
    feedback, out = root / "feedback", root / "model"
    shutil.copytree(world["feedback"], feedback)
    out.mkdir()
    shown = records(world["feedback"] / DEMONSTRATIONS, Demonstration)
    write(feedback / DEMONSTRATIONS, [one for one in shown if not {"bad", "dull"} & set(one.completion.split())])
    execution = ExecutionConfig(checkpoint_iterations=1000, log_every=100, threads=1)
    sft.run(sft_config(epochs=12), {**world, "feedback": feedback}, out, root / "checkpoints", execution, silent)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODELYARD_TEACHER", str(out))
        yield out
