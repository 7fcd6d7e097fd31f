"""Claims on artifacts: taken from who died, left to who lives, and lost at any moment without an artifact that is half one builder's."""

import json
import os
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest

from modelyard.store import claims, outage
from modelyard.store.artifacts import Store
from modelyard.store.manifest import MANIFEST
from modelyard.store.outage import StorageError
from modelyard.store.storage import Storage
from tests.integration.test_artifacts import SPEC, claims_left, files_in, produce

pytestmark = pytest.mark.integration


BUILDER = """
import sys, time
from tests.integration.test_artifacts import SPEC, Store
def produce(out, checkpoints):
    print("building", flush=True)
    time.sleep(60)
Store(sys.argv[1], sys.argv[2]).build(SPEC, produce)
"""


def test_claim_of_a_killed_builder_is_taken_at_once_on_the_same_machine(url, tmp_path):
    command = [sys.executable, "-c", BUILDER, url, str(tmp_path / "one")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    builder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert builder.stdout.readline() == "building\n"
    assert Storage(url).names(f".claims/thing-{SPEC.version}") == ["00000001"]
    builder.kill()
    builder.wait()
    assert not Store(url, str(tmp_path / "two")).build(SPEC, produce).cached
    assert claims_left(Storage(url)) == []


def foreign(beats: int) -> bytes:
    return json.dumps({"id": "them", "host": "elsewhere", "machine": "another", "pid": 1, "started": 1.0, "beats": beats}).encode()


@pytest.mark.parametrize("ask", [lambda at: claims.take(at, "thing", lambda: False), lambda at: claims.take_unclaimed(at, "thing")])
def test_claim_whose_request_was_given_up_and_came_true_is_nobodys(tmp_path, monkeypatch, ask):
    at = Storage(f"file://{tmp_path}/store")
    create = at.create

    def given_up(key, data):
        create(key, data)
        raise StorageError("away")

    monkeypatch.setattr(at, "create", given_up)
    with pytest.raises(StorageError, match="away"):
        ask(at)
    monkeypatch.setattr(at, "create", create)
    monkeypatch.setattr(claims, "time", SimpleNamespace(sleep=lambda seconds: pytest.fail("waits for a claim that nobody holds")))
    with claims.take(at, "thing", lambda: False) as held:
        assert held.number == 2


def test_claim_of_another_machine_expires_only_when_it_stands_still(tmp_path, monkeypatch, caplog):
    url = f"file://{tmp_path}/store"
    monkeypatch.setattr(claims, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(claims, "EXPIRY_SECONDS", 0.3)
    key = f".claims/thing-{SPEC.version}/00000004"
    Storage(url).write(key, foreign(0))
    stop, results = threading.Event(), []

    def beat():
        beats = 0
        while not stop.wait(0.05):
            beats += 1
            Storage(url).write(key, foreign(beats))

    beating = threading.Thread(target=beat)
    building = threading.Thread(target=lambda: results.append(Store(url, str(tmp_path / "here")).build(SPEC, produce)))
    beating.start()
    building.start()
    building.join(1.5)
    assert building.is_alive(), "its holder is alive"
    stop.set()
    beating.join()
    building.join(30)
    assert results
    assert not results[0].cached
    assert "waiting for it" in caplog.text


def others(tmp_path, url):
    """What another machine builds that takes a claim over whose holder stands still."""
    Storage(url).write(f".claims/thing-{SPEC.version}/00000002", foreign(0))
    Storage(url).remove(f".claims/thing-{SPEC.version}/00000001")
    other = Store(url, str(tmp_path / "other")).build(SPEC, lambda out, _: produce(out, _) | {"thing/theirs": 1.0})
    assert not other.cached
    return other.artifact


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(claims, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(claims, "EXPIRY_SECONDS", 0.2)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("beats_late", [False, True])
def test_claim_lost_while_building_yields_to_who_finished_first(tmp_path, beats_late):
    url, theirs = f"file://{tmp_path}/store", []

    def overtaken(out, checkpoints):
        key = f".claims/thing-{SPEC.version}/00000001"
        mine = Storage(url).read(key)
        theirs.append(others(tmp_path, url))
        if beats_late:
            Storage(url).write(key, mine)
        return produce(out, checkpoints)

    late = Store(url, str(tmp_path / "late")).build(SPEC, overtaken)
    assert (late.artifact, late.cached) == (theirs[0], True)
    assert claims_left(Storage(url)) == []


@pytest.fixture
def after_put(monkeypatch):
    """What happens once, when files have come into the store and their manifest has not."""
    waiting, put = [], Storage.put

    def then(storage, *what):
        put(storage, *what)
        if waiting:
            waiting.pop()()

    monkeypatch.setattr(Storage, "put", then)
    return waiting


@pytest.mark.usefixtures("impatient")
def test_claim_lost_while_uploading_yields_to_who_finished_first(url, tmp_path, after_put):
    theirs = []
    after_put.append(lambda: theirs.append(others(tmp_path, url)))
    late = Store(url, str(tmp_path / "late")).build(SPEC, produce)
    assert (late.artifact, late.cached) == (theirs[0], True)
    assert Store(url, str(tmp_path / "late")).get(late.artifact.ref) == theirs[0]


@pytest.mark.usefixtures("impatient")
def test_claim_lost_while_uploading_to_who_died_leaves_nothing_half(url, tmp_path, after_put):
    store, place = Store(url, str(tmp_path / "late")), Storage(url)

    def die():
        place.write(f".claims/thing-{SPEC.version}/00000002", foreign(0))
        place.remove(f"thing/{SPEC.version}/part/1.bin")

    after_put.append(die)
    if place.is_local:  # its files were moved
        with pytest.raises(StorageError, match=r"^artifact thing/\w+: another builder took over .*; build it again$"):
            store.build(SPEC, produce)
        assert store.find("thing", SPEC.version) is None
    made = store.build(SPEC, produce)
    assert made.cached is False
    assert files_in(Store(url, str(tmp_path / "elsewhere")).fetch(made.artifact)) == {*made.artifact.files, MANIFEST}
    assert claims_left(place) == []


def test_claim_outlives_an_outage_that_only_its_holder_has():
    assert claims.EXPIRY_SECONDS > outage.PATIENCE_SECONDS + claims.BEAT_SECONDS
