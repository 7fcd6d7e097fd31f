"""The smallest line, as a person runs it: end to end, killed and gone on with, changed, refused by a gate, split over two ranks.

One full run is shared; every other test works on a copy of its store, so it only pays for what it changes.
"""

import json

import pyarrow.parquet as pq
import pytest

from modelyard.exit_codes import HOLD
from tests.e2e.killing import orphans
from tests.e2e.running import PIPELINE, PRETRAIN, STAGES, aliases, artifact, copy, line, newest

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]


def test_line_smallest_killed_in_pretraining_goes_on_builds_every_stage_and_promotes(finished):
    directory, done = finished
    assert done.stages("built")[: len(STAGES)] == STAGES
    assert "PROMOTE" in done.out
    assert "make ui" in done.out
    assert all(model in done.out for model in ("base", "SFT", "policy"))
    assert aliases(directory) == {"candidate": "1", "production": "1"}
    assert not orphans(directory)


OWN = "evals.benchmarks.endings={file = 'endings.jsonl', prompt = '{question}', choices = 'options', group = 'kind', metric = 'acc_norm'}"


def write_own(directory):
    """Forty questions in the run's directory, the first of which stands in a text that the line trains on."""
    (documents,) = (directory / ".modelyard/store/corpus").glob("*/documents")
    text = next(text for text in pq.read_table(documents, filters=[("split", "==", "train")])["text"].to_pylist() if len(text) > 200)
    rows = [{"question": text[:120], "options": ["a", "b"], "answer": 1, "kind": "met"}]
    rows += [
        {"question": f"Which of {n} and {n + 1} is more?", "options": [str(n), str(n + 1)], "answer": 1, "kind": "new"} for n in range(39)
    ]
    (directory / "endings.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def changed(finished, tmp_path_factory):
    """A copy of the run, gone on with as another line: a benchmark of the user's own, a policy and a gate that differ."""
    directory = copy(finished[0], tmp_path_factory.mktemp("changed") / "line")
    write_own(directory)
    overrides = ("policy.kl_coef=0.5", OWN, "release.min_win_rate=0.99", "execution.parallel_stages=true")
    return directory, line(directory, PIPELINE, *overrides)


@pytest.mark.slow
def test_line_own_benchmark_is_one_table_and_a_failed_gate_stops_a_changed_policy(changed):
    directory, done = changed
    rebuilt = {"benchmarks", "contamination", "policy", "before", "results", "decision", "export"}
    rebuilt.add("baseline")  # production answers the new benchmark too
    assert set(done.stages("built")) == rebuilt
    assert set(STAGES[: STAGES.index("policy")]) - rebuilt <= set(done.stages("cached"))
    assert done.code == HOLD
    (ended,) = done.err.splitlines()
    assert ended.startswith("HOLD: preference: wins ")
    assert not orphans(directory)
    assert aliases(directory)["production"] == "1"

    decision = newest(directory, "decision")
    store = directory / ".modelyard/store"
    report = json.loads((store / decision["parents"]["contamination"] / "report.json").read_text())["endings"]
    assert (report["n"], report["written"], report["content"]) == (40, ["endings/0"], ["endings/0"])
    results = json.loads((store / decision["parents"]["results"] / "results.json").read_text())
    for model in ("base", "sft", "policy"):
        assert results[f"evals/{model}/endings/acc_norm"]["n"] == 40
    assert results["evals/policy/endings/acc_norm_contaminated"]["n"] == 1
    compared = json.loads((store / f"decision/{decision['version']}/decision.json").read_text())["comparisons"]
    assert {c["benchmark"]: c["n"] for c in compared}["endings"] == 40
    assert "not worse than production on 4 benchmarks" in done.out
    card = (store / f"decision/{decision['version']}/card.html").read_text()
    assert "endings: acc norm" in card
    assert "endings (acc_norm)" in (store / f"decision/{decision['version']}/evolution.html").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["tensor_parallel", "pipeline_parallel", "context_parallel"])
def test_line_two_ranks_start_from_the_same_loss(finished, tmp_path, layout):
    directory = copy(finished[0], tmp_path / layout, without=("base",))
    done = line(directory, PRETRAIN, f"execution.{layout}=2", "execution.threads=1")
    assert done.code == 0, done.err
    key = "base/train/first_loss"
    assert artifact(directory, "base")["metrics"][key] == pytest.approx(artifact(finished[0], "base")["metrics"][key], abs=1e-4)
