"""Two users of one machine, each with a home and a umask of their own, on one store at once: on a shared disk and on S3."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from modelyard.store.artifacts import Store
from modelyard.store.claims import FOLDER
from modelyard.store.manifest import Spec
from modelyard.store.storage import Storage
from tests.integration.user_program import GROUP, Word

pytestmark = pytest.mark.integration

FIRST, SECOND = "41001", "41002"
WORDS = ["a", "b", "c", "d", "e"]
IS_ROOT = os.geteuid() == 0
as_root = pytest.mark.skipif(not IS_ROOT, reason="only root can be two users")


@pytest.fixture
def place():
    """A directory that every user can reach; pytest's own are its user's alone."""
    directory = Path(tempfile.mkdtemp())
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(params=["file", "s3"])
def url(request, place):
    return request.getfixturevalue("s3") if request.param == "s3" else f"file://{disk(place, 0o2770)}"


def disk(place: Path, mode: int) -> Path:
    """A store's directory of the first user and the group of both."""
    store = place / "store"
    store.mkdir()
    if IS_ROOT:
        os.chown(store, int(FIRST), GROUP)
    store.chmod(mode)
    return store


def begin(url: str, place: Path, user: str, *words: str, within: tuple[str, ...] = ()) -> subprocess.Popen:
    home = place / f"home-{user}"
    home.mkdir(exist_ok=True, mode=0o700)
    if IS_ROOT:
        os.chown(home, int(user), int(user))
    command = [
        *within,
        sys.executable,
        "-m",
        "tests.integration.user_program",
        url,
        str(home / "scratch"),
        user if IS_ROOT else "-",
        *words,
    ]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "HOME": str(home)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def end(process: subprocess.Popen) -> dict[str, dict]:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return {said["word"]: said for said in map(json.loads, out.splitlines()) if "word" in said}


def version(word: str) -> str:
    return Spec("thing", Word(word=word), {}, "code").version


def test_two_users_at_once_build_each_artifact_once_and_read_all_of_them(url, place):
    one, two = begin(url, place, FIRST, *WORDS), begin(url, place, SECOND, *WORDS[::-1])
    first, second = end(one), end(two)
    assert set(first) == set(second) == set(WORDS)
    for word in WORDS:
        told = [first[word], second[word]]
        assert sorted(said["made"] for said in told) == [False, True], word
        assert all(said["whole"] for said in told)
        [maker] = [user for user, said in zip((FIRST, SECOND), told, strict=True) if said["made"]]
        names = {said["builder"].rpartition("@")[0] for said in told}
        assert len(names) == 1
        assert names == {maker} or not IS_ROOT
    storage = Storage(url)
    assert [number for name in storage.names(FOLDER) for number in storage.names(f"{FOLDER}/{name}")] == []
    fresh = end(begin(url, place, "41003", *WORDS, "f"))  # a home without anything joins: it builds what is missing alone
    assert [word for word, said in fresh.items() if said["made"]] == ["f"]


def test_what_a_user_left_unfinished_or_damaged_is_built_by_the_other(url, place):
    killed = begin(url, place, FIRST, "!x")
    assert json.loads(killed.stdout.readline()) == {"begun": "!x"}
    killed.kill()
    killed.communicate()
    assert end(begin(url, place, SECOND, "x"))["x"]["made"]
    Storage(url).remove(f"thing/{version('x')}/artifact.json")  # as after a crash between its files and its manifest
    assert end(begin(url, place, FIRST, "x"))["x"]["made"]


@as_root
def test_store_that_another_may_only_read_gives_what_it_has_and_refuses_in_one_line(place):
    store = disk(place, 0o755)
    opened = begin(f"file://{store}", place, FIRST, "a")
    assert end(opened)["a"]["made"]
    for path in [store, *store.rglob("*")]:  # umask 022 instead of the program's
        path.chmod(path.stat().st_mode | (0o055 if path.is_dir() else 0o044))
    before = sorted(store.rglob("*"))
    second = end(begin(f"file://{store}", place, SECOND, "a", "b"))
    assert (second["a"]["made"], second["a"]["whole"]) == (False, True)
    assert "\n" not in second["b"]["error"]
    assert "access is refused (PermissionError" in second["b"]["error"]
    assert sorted(store.rglob("*")) == before


@as_root
@pytest.mark.skipif(shutil.which("unshare") is None, reason="no unshare (util-linux)")
def test_claim_of_a_process_that_proc_hides_is_a_living_ones(place):
    """``hidepid`` hides other users' processes; in a process namespace of its own, where alone it is mounted."""
    code = """
import json, os, subprocess, sys
from modelyard.store import claims
say = "import json; from modelyard.store import claims; print(json.dumps(claims._me()), flush=True); input()"
other = subprocess.Popen([sys.executable, "-c", say], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
holder = json.loads(other.stdout.readline())
os.setgroups([]); os.setgid(41002); os.setuid(41002)
print(os.path.exists(f"/proc/{holder['pid']}"), claims._is_gone(holder))
other.communicate("\\n")
print(claims._is_gone(holder))
"""
    namespace = ["unshare", "--mount", "--pid", "--fork", "sh", "-c", 'mount -t proc -o hidepid=2 proc /proc && exec "$@"', "sh"]
    if subprocess.run([*namespace, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no namespaces here")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([*namespace, sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.stdout.split() == ["False", "False", "True"], done.stderr


def test_shared_store_gives_its_group_what_its_directory_gives_and_another_store_what_umask_does(place):
    shared, own = disk(place, 0o2770), place / "own"

    def produce(out, checkpoints):
        (out / "file").write_text("x")
        return {}

    before = os.umask(0o022)
    try:
        for directory in (shared, own):
            store = Store(f"file://{directory}", str(place / "scratch"))
            store.build(Spec("thing", Word(word="a"), {}, "code"), produce)
    finally:
        os.umask(before)
    modes = {directory: {path.stat().st_mode & 0o7777 for path in directory.rglob("*") if path.is_dir()} for directory in (shared, own)}
    files = {directory: {path.stat().st_mode & 0o7777 for path in directory.rglob("*") if path.is_file()} for directory in (shared, own)}
    assert modes == {shared: {0o2775}, own: {0o755}}
    assert files == {shared: {0o664}, own: {0o644}}
    assert {path.stat().st_gid for path in shared.rglob("*")} == {shared.stat().st_gid}
