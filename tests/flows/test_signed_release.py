"""A release that a run signs: its key vouches for version, card and store, no other key does, and not for what was edited since."""

import shutil
from pathlib import Path

import pytest

from modelyard.adapters import signing
from modelyard.adapters.mlflow.registry import Registry
from modelyard.commands.app import main
from modelyard.execution import ExecutionConfig
from modelyard.release.decision import read_decision
from modelyard.store.file_hash import sha256_file
from modelyard.store.manifest import Artifact
from tasks import release
from tasks.build import Place
from tests.unit.adapters.test_signing import key
from tests.unit.release.evidence import agreeing, satisfied
from tests.unit.release.test_audit import RULES, World, finished, world

__all__ = ["finished", "world"]


class Release:
    """A promoted release, and what the command says of it."""

    def __init__(self, world: World, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.world, self.capsys, self.registry = world, capsys, Registry(f"sqlite:///{root}/mlflow.db", "line")
        self.url, self.card, self.decided = world.store.storage.url, root / "card.html", world.decide(RULES)
        self.register()
        shutil.copyfile(world.store.fetch(self.decided) / "card.html", self.card)

    def register(self) -> None:
        store, made = self.world.store, self.world.made
        place = Place("line", ExecutionConfig(store=self.url, scratch=str(store.scratch)))
        verdict = read_decision(store.fetch(self.decided))
        release.register_task.fn(place, verdict, self.decided, made["export"], made["policy"], None)

    def tag(self, key: str, value: str) -> None:
        """Edit the registry as somebody does who can write to it."""
        self.registry.client.set_model_version_tag("line", "1", key, value)

    def forge(self, made: Artifact, file: str, content: str) -> None:
        """Edit an artifact, its manifest and what the registry remembers of it."""
        forged = self.world.forge(made, file, content.encode())
        self.tag(f"{made.name}_manifest", forged.manifest)

    def verified(self, *words: object) -> tuple[int, str]:
        code = main(["verify", *map(str, words)])
        said = self.capsys.readouterr()
        return code, said.out + said.err


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Public keys: of who signs releases, of somebody else."""
    _, private, ours = key(tmp_path, "ours")
    _, _, theirs = key(tmp_path, "theirs")
    monkeypatch.setenv(signing.KEY, str(private))
    return ours, theirs


@pytest.fixture
def released(
    world: World, keys: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Release:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setattr(release.expectations, "validate", satisfied)
    monkeypatch.setattr(release, "recount", agreeing)
    return Release(world, tmp_path, capsys)


def test_signed_release_is_verified_by_its_key_in_every_way_and_by_no_other(
    released: Release, keys: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = keys
    where = ("--store", released.url)
    ways = (("line", *where), (released.card, *where), (released.url,))
    for way in ways:
        code, said = released.verified(*way, "--public-key", ours)
        assert (code, "everything is what was recorded" in said) == (0, True), said
        code, said = released.verified(*way, "--public-key", theirs)
        assert (code, said.count("its signature does not hold")) == (1, 2), said
        code, said = released.verified(*way, "--public-key", released.card)
        assert (code, said.count("\n"), "no public key of an elliptic curve in PEM" in said) == (2, 1, True), said
    for way in ((released.card, *where), (released.url, *where)):
        code, said = released.verified(*way)
        assert (code, said.count("\n"), "--store" in said) == (2, 1, True), said
    ref = released.registry.alias("production").tags[signing.NAME]

    _, private, new = key(tmp_path, "new")
    monkeypatch.setenv(signing.KEY, str(private))
    released.register()

    assert released.registry.alias("production").tags[signing.NAME] != ref
    assert [released.verified(*way, "--public-key", new)[0] for way in ways] == [0, 0, 0]
    assert released.verified(released.url, "--public-key", ours)[0] == 0, "a store keeps both signatures"
    shutil.rmtree(tmp_path / "store" / signing.NAME)
    for way, said in zip(ways, ("signature/", "signature/", "nothing in the store is signed"), strict=True):
        assert [released.verified(*way, "--public-key", new)[0], said in released.verified(*way, "--public-key", new)[1]] == [1, True]


def test_edit_of_store_and_registry_is_convicted_by_the_signature(released: Release, keys: tuple[Path, Path]) -> None:
    ours, _ = keys
    forged = released.card.read_text().replace("<body", "<body class=a", 1)
    released.card.write_text(forged)
    released.tag("card", sha256_file(released.card))
    where = ("--store", released.url)
    assert released.verified(released.card)[0] == 0, "who edits the registry has a card of their own"
    code, said = released.verified(released.card, *where, "--public-key", ours)
    assert (code, f"{released.card} is not the card of {released.decided.ref}" in said) == (1, True), said

    released.forge(released.decided, "card.html", forged)

    assert released.verified("line", *where)[0] == 0, "and who edits both a release"
    for way in (("line", *where), (released.card, *where), (released.url,)):
        code, said = released.verified(*way, "--public-key", ours)
        assert (code, f"{released.decided.ref}: its signature does not hold: " in said) == (1, True), said


def test_file_that_is_damaged_is_convicted_with_a_key_as_without(released: Release, keys: tuple[Path, Path], tmp_path: Path) -> None:
    exported = released.world.made["export"].ref
    with (tmp_path / "store" / exported / "config.json").open("a") as file:
        file.write(" ")
    for key_words in ((), ("--public-key", keys[0])):
        code, said = released.verified("line", "--store", released.url, *key_words)
        assert (code, f"{exported}: file config.json is damaged" in said) == (1, True), said
