"""One full run of the smallest line, shared by every end-to-end test in every process of the suite."""

import json

import pytest
from filelock import FileLock

from tests.e2e.killing import OFTEN, kill_in
from tests.e2e.running import PIPELINE, Done, line


@pytest.fixture(scope="session")
def finished(shared, seed_prefect):
    """Directory and output of a run that started from nothing but a database of Prefect's, was killed in pretraining and gone on with."""
    directory = shared / "finished"
    with FileLock(shared / "finished.lock"):
        record = directory / "done.json"
        if not record.exists():
            seed_prefect(directory / ".modelyard/prefect")
            printed = kill_in("base", directory)
            done = line(directory, PIPELINE, *OFTEN)
            record.write_text(json.dumps(done._replace(out=printed + done.out)))
        done = Done(*json.loads(record.read_text()))
    assert done.code == 0, done.out + done.err
    return directory, done
