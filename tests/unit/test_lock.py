"""What is installed by hash is what was tested: ``requirements.lock`` beside ``pyproject.toml`` and ``constraints.txt``."""

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]


def locked() -> dict[str, tuple[str, int]]:
    """Package -> its version and how many hashes it has."""
    found = {}
    for entry in (ROOT / "requirements.lock").read_text().replace("\\\n", " ").splitlines():
        pinned = re.match(r"([A-Za-z0-9_.-]+)(?:\[[^]]*\])?==([^ ;]+)", entry)
        assert pinned, f"no pin: {entry[:80]}"
        found[canonicalize_name(pinned[1])] = (pinned[2], len(re.findall(r"--hash=sha256:[0-9a-f]{64}\b", entry)))
    return found


def test_lock_has_a_hash_of_everything_and_the_versions_of_the_constraints() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    tested = {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines if "==" in line)}
    lock = locked()
    assert {name: count for name, (_, count) in lock.items() if not count} == {}
    assert {name: version for name, (version, _) in lock.items() if tested.get(name, version) != version} == {}


def test_lock_has_all_that_the_project_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    lock = locked()
    for text in [*project["dependencies"], *extras["services"], *extras["signing"], *extras["build"]]:
        wanted = Requirement(text)
        assert wanted.specifier.contains(lock[canonicalize_name(wanted.name)][0], prereleases=True), text


def test_image_is_built_of_what_the_lock_holds_and_nothing_else() -> None:
    steps = (ROOT / "infra" / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    installs = [part for step in steps for part in step.split("&&") if "pip install" in part]
    assert len(installs) == 2
    assert all(option in installs[0] for option in ("--require-hashes", "--only-binary :all:", "--requirement requirements.lock"))
    assert all(option in installs[1] for option in ("--no-deps", "--no-build-isolation"))
