"""The wheel, installed outside of a clone, has what a pipeline run reads: flows, tasks, configs and the compiled filters."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from modelyard.exit_codes import BAD_INPUT

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """A directory into which the wheel is unpacked, as pip does it for one that is pure but for a library that ctypes loads."""
    pytest.importorskip("hatchling")
    place = tmp_path_factory.mktemp("wheel")
    project = place / "project"  # a copy: the build compiles into the tree
    for name in ("src", "flows", "tasks", "configs"):
        shutil.copytree(ROOT / name, project / name)
    for name in ("pyproject.toml", "README.md", "hatch_build.py"):
        shutil.copyfile(ROOT / name, project / name)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(place), str(project)]
    subprocess.run([*build, "--disable-pip-version-check"], check=True)
    (wheel,) = place.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place / "site")
    return place / "site"


def run(site: Path, directory: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(site)}
    return subprocess.run([sys.executable, *words], cwd=directory, env=environment, capture_output=True, text=True, check=False)


def test_installed_wheel_reads_a_shipped_config_and_one_that_extends_it(site, tmp_path):
    (tmp_path / "mine.toml").write_text('extends = "configs/pipeline/smallest.toml"\nname = "mine"\n')
    for config in ("configs/pipeline/smallest.toml", "mine.toml"):
        done = run(site, tmp_path, "-m", "modelyard", "run", config, "policy.no_such_key=1")
        assert (done.returncode, done.stdout, done.stderr) == (BAD_INPUT, "", f"{config}: policy.no_such_key: unknown key\n")


def test_installed_wheel_has_flows_tasks_and_suites_of_its_own(site, tmp_path):
    say = (
        "from modelyard.commands.project import part; from modelyard.formats.expectation import suite_file;"
        "print(part('flows.pipeline').__file__, part('tasks.stages').__file__, suite_file('corpus/documents'), sep='\\n')"
    )
    done = run(site, tmp_path, "-c", say)
    assert done.returncode == 0, done.stderr
    places = done.stdout.splitlines()
    assert [place.startswith(f"{site}/modelyard/") and Path(place).is_file() for place in places] == [True] * 3


def test_wheel_brings_no_name_but_its_own(site):
    assert [path.name for path in site.iterdir() if not path.name.endswith(".dist-info")] == ["modelyard"]
