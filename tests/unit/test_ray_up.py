"""``infra/ray-up.yaml`` by Ray's own schema and launcher; the machines are programs in place of ssh and rsync that note what they are told."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FILE = ROOT / "infra/ray-up.yaml"
SECRETS = ("RAY_AUTH_TOKEN", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


def declared() -> dict:
    return yaml.safe_load(FILE.read_text())


def start_words(commands: list[str]) -> list[str]:
    """Words of the one ``ray start`` among the commands."""
    [command] = [one for one in commands if "ray start" in one]
    return shlex.split(command.partition("ray start ")[2])


def test_ray_up_file_is_what_ray_s_launcher_takes():
    from jsonschema import ValidationError
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(declared())
    validate_config(prepared)
    assert prepared["available_node_types"]["local.cluster.node"]["min_workers"] == len(declared()["provider"]["worker_ips"])
    with pytest.raises(ValidationError):
        validate_config(prepare_config(declared() | {"head_start_ray_command": []}))


def test_ray_up_starts_nodes_by_options_that_ray_has():
    from ray.scripts.scripts import start

    head, worker = start_words(declared()["head_start_ray_commands"]), start_words(declared()["worker_start_ray_commands"])
    given = start.make_context("start", head).params
    assert (given["head"], given["port"], given["dashboard_host"]) == (True, 6379, "127.0.0.1")
    assert start.make_context("start", worker).params["address"] == "$RAY_HEAD_IP:6379"
    assert not any(f"{name}=" in FILE.read_text() for name in SECRETS)


def test_ray_up_without_machines_tells_the_head_what_to_do(tmp_path):
    """The launcher as a person runs it."""
    (tmp_path / "modelyard.env").touch()
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/modelyard").touch()
    for program in ("ssh", "rsync"):
        (tmp_path / program).write_text(f'#!/bin/sh\necho {program} "$@" >> {tmp_path}/told\n')
        (tmp_path / program).chmod(0o755)
    environment = os.environ | {
        "HOME": str(tmp_path),
        "PATH": f"{tmp_path}:/usr/bin:/bin",
        "RAY_TMPDIR": str(tmp_path),
        "TMPDIR": str(tmp_path),
    }
    ray = str(Path(sys.executable).with_name("ray"))
    command = [ray, "up", "--yes", "--no-config-cache", "--disable-usage-stats", str(FILE)]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    told = (tmp_path / "told").read_text()
    assert "modelyard@192.0.2.10" in told
    copied = [line for line in told.splitlines() if line.startswith("rsync") and line.endswith("modelyard@192.0.2.10:~/modelyard.env")]
    assert copied
    assert not any("--exclude modelyard.env" in line for line in copied), "rsync excludes what it is asked for by name, too"
    assert "192.0.2.11" not in told, "workers are the head's business"
    steps = ["modelyard.env", "make --directory ~/modelyard setup LOCKED=1", "ray stop", "ray start --head --port=6379"]
    places = [told.index(step) for step in steps]
    assert places == sorted(places)
