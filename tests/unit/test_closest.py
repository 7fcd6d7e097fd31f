"""What a misspelt name was meant to be: the closest that there is, and never a guess."""

import pytest
from pydantic import Field

from modelyard.closest import did_you_mean
from modelyard.config import Config, ConfigError, load_config
from modelyard.evals import catalog
from modelyard.release.limits import ReleaseConfig


class One(Config):
    kind: str = "one"
    learning_rate: float = 0.1


class Two(Config):
    kind: str = "two"
    learning_rates: tuple[float, ...] = ()


class Whole(Config):
    named: dict[str, One] = Field(default_factory=dict)
    rows: list[Two] = Field(default_factory=list)
    either: One | None = None


@pytest.mark.parametrize(
    ("name", "said"), [("polcy", "; did you mean 'Policy'?"), ("POLICY", "; did you mean 'Policy'?"), ("corpus", ""), ("", "")]
)
def test_did_you_mean_names_the_closest_and_nothing_that_is_not_close(name, said):
    assert did_you_mean(name, ["Policy", "reward"]) == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nmaed = {}", "nmaed: unknown key; did you mean 'named'?"),
        ("named.a.learning_rat = 1", "named.a.learning_rat: unknown key; did you mean 'learning_rate'?"),
        ("either.learning_rates = []", "either.learning_rates: unknown key; did you mean 'learning_rate'?"),
        ("rows = [{}, {learning_rat = 1}]", "rows.1.learning_rat: unknown key; did you mean 'learning_rates'?"),
        ("rows = [{named = 1}]", "rows.0.named: unknown key"),
    ],
)
def test_unknown_key_is_compared_with_those_of_its_own_table(tmp_path, text, said):
    (tmp_path / "a.toml").write_text(text)
    with pytest.raises(ConfigError) as refused:
        load_config(Whole, tmp_path / "a.toml")
    assert str(refused.value) == f"{tmp_path / 'a.toml'}: {said}"


@pytest.mark.parametrize(
    ("name", "meant"),
    [("mmul_virology", "mmlu_virology"), ("hellaswga", "hellaswag"), ("mlmu_translated_de", "mmlu_translated_de")],
)
def test_unknown_benchmark_is_told_the_closest_also_among_the_members_of_families(name, meant):
    assert not catalog.known(name)
    assert catalog.known(meant)
    assert catalog.meant(name) == f"; did you mean {meant!r}?"


def test_limits_of_a_benchmark_that_is_not_measured_name_the_one_that_is():
    rules = ReleaseConfig.model_validate(
        {
            "min_items": 30,
            "max_contaminated": 0.1,
            "forecast_tolerance": 0.1,
            "alpha": 0.05,
            "min_win_rate": 0.5,
            "max_kl": 10,
            "max_calibration_error": 0.1,
            "max_calibration_increase": 0.1,
            "seed": 0,
            "limits": {"houserules": {}},
        }
    )
    with pytest.raises(ValueError, match=r"release\.limits\.houserules: .*; did you mean 'house_rules'\?"):
        rules.require_measured(["house_rules", "openings"])
