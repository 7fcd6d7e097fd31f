"""The contamination report and the sealed forecast as files: read as written, and one line that names what is wrong."""

import json

import pytest

from modelyard.formats.contamination import Checked, Hit, Searched, read_report, write_report
from modelyard.formats.forecast import LadderRun, LargestRun, SealedForecast, read_forecast, write_forecast

HIT = Hit(item="b", set="pretrain", document="d1", found="countryinthenorth")
CHECKED = Checked(
    n=4,
    written=("a",),
    content=("a", "b"),
    sets={"pretrain": Searched(documents=9, written=1, content=2)},
    hits={"content": (HIT,)},
)
FORECAST = SealedForecast(
    prediction=3.0,
    low=2.9,
    high=3.1,
    a=30.0,
    b=-0.1,
    c=1.0,
    at_compute=1e14,
    backtest=LargestRun(compute=1e12, predicted=3.5, measured=3.4, error=3.5 / 3.4 - 1),
    steepening=0.4,
    objection="",
    points=(LadderRun(compute=1e9, loss=5.0),),
)


def test_contamination_report_is_read_as_it_was_written(tmp_path):
    write_report(tmp_path, {"last_word": CHECKED, "empty": Checked(n=0)})
    report = read_report(tmp_path)
    assert report == {"last_word": CHECKED, "empty": Checked(n=0)}
    assert (report["last_word"].written_share, report["last_word"].content_share, report["empty"].content_share) == (0.25, 0.5, 0.0)


def test_forecast_is_read_as_it_was_written(tmp_path):
    write_forecast(tmp_path, FORECAST)
    assert read_forecast(tmp_path) == FORECAST


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"n": -1}, "last_word.n: "),
        ({"n": 1}, "last_word: Value error, more items contaminated than the 1 that were looked for"),
        ({"share": 0.0}, "last_word.share: "),
        ({"sets": {"pretrain": {"documents": "many"}}}, "last_word.sets.pretrain.documents: "),
    ],
)
def test_damaged_contamination_report_is_refused_by_file_and_key(tmp_path, changed, complaint):
    content = {"last_word": {**CHECKED.model_dump(mode="json"), **changed}}
    (tmp_path / "report.json").write_text(json.dumps(content))
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        read_report(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / 'report.json'}: {complaint}".replace("Value error, ", ""))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("key", "value"), [("prediction", float("nan")), ("low", 3.05), ("points", None), ("at_compute", "much")])
def test_damaged_forecast_is_refused_by_file_and_key(tmp_path, key, value):
    (tmp_path / "forecast.json").write_text(json.dumps({**FORECAST.model_dump(mode="json"), key: value}))
    with pytest.raises(ValueError, match=f"forecast.json: .*{'interval' if key == 'low' else key}"):
        read_forecast(tmp_path)
