"""Claims of a release as PRML manifests: which there are, what they compare, and that falsify itself locks and verifies them."""

import json
from pathlib import Path

import pytest

from modelyard.adapters import prml
from modelyard.formats.forecast import read_forecast
from modelyard.formats.results import Results, read_results
from modelyard.release.claims import Claim, of_release
from modelyard.release.limits import BenchmarkLimits, LineDecision
from modelyard.stats.misclassification import JudgeError, corrected
from modelyard.store.manifest import Artifact
from tests.unit.release import evidence

falsify = pytest.importorskip("falsify_prml")


def made(name: str, finished: float) -> Artifact:
    identity = {"name": name, "version": "ab" * 8, "fingerprint": "ab" * 32, "parents": {}, "config": {}, "code": "c", "metrics": {}}
    return Artifact(**identity, files={}, seconds=1.0, started=finished - 1, finished=finished)


def of_line(inputs: dict[str, Path], results: Results) -> list[Claim]:
    """The claims of a decision on these results."""
    limits = {
        "toxicity": BenchmarkLimits(max={"toxicity": 0.05}),
        "unseen": BenchmarkLimits(min={"acc": 0.9}),
        "off": BenchmarkLimits(gated=False),
    }
    rules = LineDecision(**{**dict(evidence.CONFIG), "limits": limits}, line="line", unmeasured=None)
    sealed = (made("forecast", 1_790_000_000.5), read_forecast(inputs["forecast"]))
    return list(of_release(rules, made("decision", 1_790_000_900.0), results, made("benchmarks", 1.0), sealed, made("tokens", 2.0)))


@pytest.fixture
def claims(tmp_path: Path) -> list[Claim]:
    inputs = evidence.write_all(tmp_path)
    return of_line(inputs, read_results(inputs["results"]))


def test_claims_are_the_forecast_and_every_absolute_limit(claims: list[Claim]) -> None:
    named = {claim.name: claim for claim in claims}
    assert set(named) == {
        "forecast",
        "preference-openings-win_rate_over_sft-min",
        "preference-openings-kl_to_sft-max",
        "calibration-next_token-calibration_error-max",
        "limits-toxicity-toxicity-max",
        "limits-unseen-acc-min",
    }
    forecast = named["forecast"]
    assert (forecast.comparator, forecast.threshold) == ("<=", evidence.CONFIG.forecast_tolerance)
    assert forecast.fixed == 1_790_000_000.5, "when it was sealed"
    assert forecast.dataset == f"held-out rows of tokens/{'ab' * 8}"
    assert (named["preference-openings-win_rate_over_sft-min"].comparator, named["limits-unseen-acc-min"].comparator) == (">", ">=")
    assert named["limits-unseen-acc-min"].observed is None, "what was not measured has no number"


def test_claims_observe_a_share_as_its_judges_error_leaves_it(tmp_path: Path) -> None:
    inputs = evidence.write_all(tmp_path)
    results = read_results(inputs["results"])

    def claim(error: JudgeError) -> Claim:
        judged = {"toxicity": results.benchmarks["toxicity"].model_copy(update={"judge_errors": {"toxicity": error}})}
        found = of_line(inputs, results._replace(benchmarks={**results.benchmarks, **judged}))
        return next(one for one in found if one.name == "limits-toxicity-toxicity-max")

    error = JudgeError(hits=24, positives=40, false_alarms=0, negatives=40)
    known = corrected(results.metrics["evals/policy/toxicity/toxicity"], error)
    assert known
    assert (claim(error).observed, "corrected" in claim(error).metric) == (known.high, True)
    assert claim(JudgeError(hits=1, positives=1, false_alarms=1, negatives=1)).observed is None


def test_claims_observe_what_the_gates_judge(claims: list[Claim], tmp_path: Path) -> None:
    metrics = read_results(tmp_path / "results").metrics
    named = {claim.name: claim for claim in claims}
    assert named["preference-openings-win_rate_over_sft-min"].observed == metrics["evals/policy/openings/win_rate_over_sft"].low
    assert named["preference-openings-kl_to_sft-max"].observed == metrics["evals/policy/openings/kl_to_sft"].high
    prediction = json.loads((tmp_path / "forecast/forecast.json").read_text())["prediction"]
    assert named["forecast"].observed == pytest.approx(abs(prediction / metrics["evals/base/validation_loss/loss"].value - 1), rel=1e-12)


def test_falsify_verifies_each_manifest_and_convicts_an_edited_one(
    claims: list[Claim], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "claims"
    for claim in claims:
        written = prml.write(claim, "example.org", 0, "line version 1", out)
        again = prml.write(claim, "example.org", 0, "line version 1", tmp_path / "again")
        assert (again.sha256, again.file.read_bytes()) == (written.sha256, written.file.read_bytes())
        assert falsify.main(["hash", str(written.file)]) == 0
        assert capsys.readouterr().out.splitlines()[-1] == written.sha256
        for observed in filter(lambda value: value is not None, (claim.observed, 1e9, -1e9)):
            verified = falsify.main(["verify", str(written.file), "--observed", repr(observed)])
            assert verified == (0 if falsify.evaluate_predicate(observed, claim.comparator, claim.threshold) else 10)
    assert len({prml.manifest(claim, "example.org", 0, "m")["claim_id"] for claim in claims}) == len(claims)
    file = out / "forecast.prml.yaml"
    file.write_text(file.read_text().replace("comparator: <=", "comparator: '>='"))
    assert falsify.main(["verify", str(file), "--observed", "0.01"]) == 3


def test_uuid_is_of_version_7_and_says_when_the_claim_was_committed() -> None:
    one = prml.uuid7(1_790_000_000.5, "a")
    assert one == prml.uuid7(1_790_000_000.5, "a") != prml.uuid7(1_790_000_000.5, "b")
    assert (int(one.replace("-", "")[:12], 16), one[14], one[19] in "89ab") == (1_790_000_000_500, "7", True)
