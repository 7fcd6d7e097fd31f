"""kill -9 in the middle of stages, one after another: the next run goes on, and what it makes is what an undisturbed run makes."""

import pytest

from modelyard.adapters.servers.prefect_server import prefect_server
from tests.e2e.killing import OFTEN, kill_in, orphans
from tests.e2e.running import PIPELINE, PRETRAIN, STAGES, aliases, artifact, copy, line

pytestmark = [pytest.mark.integration, pytest.mark.timeout(2400)]


@pytest.mark.slow
def test_line_killed_in_every_stage_ends_as_an_undisturbed_one(finished, tmp_path):
    directory = copy(finished[0], tmp_path / "killed", without=tuple(STAGES))
    with prefect_server(directory / ".modelyard/prefect"):  # the line finds this one: its start is not what is tested here
        for stage in STAGES:
            kill_in(stage, directory)
        done = line(directory, PIPELINE, *OFTEN)
    assert done.code == 0, done.err
    assert done.stages("built") == STAGES[-1:]
    assert aliases(directory) == {"candidate": "1", "production": "1"}
    for stage in STAGES:
        assert artifact(directory, stage)["files"] == artifact(finished[0], stage)["files"], stage
    undisturbed = copy(finished[0], tmp_path / "undisturbed", without=("base",))  # the one that the shared run was killed in
    assert line(undisturbed, PRETRAIN).code == 0
    assert artifact(undisturbed, "base")["files"] == artifact(directory, "base")["files"]
    assert not orphans(directory)
