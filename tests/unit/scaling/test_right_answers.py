"""A ladder whose runs are asked a benchmark: what is sealed of it, and that what they said is kept."""

from pathlib import Path

import numpy as np
import pytest

from modelyard.execution import ExecutionConfig
from modelyard.formats.continuations import Continuation, write_continuations
from modelyard.formats.forecast import read_forecast
from modelyard.formats.token_rows import write_rows
from modelyard.progress import silent
from modelyard.scaling import ladder, right_answers
from modelyard.scaling.ladder import AskedScalingConfig
from tests.unit.evals.small_line import TEXTS, write_tokenizer
from tests.unit.scaling.test_ladder import KINDS, MAIN, RUNGS

EXECUTION = ExecutionConfig(threads=1, checkpoint_every=1000, log_every=1)


def config(vocabulary: int, benchmark: str = "last_word") -> AskedScalingConfig:
    main = MAIN.model_copy(update={"model": MAIN.model.model_copy(update={"vocab_size": vocabulary}), "steps": 60})
    rungs = [{"layers": 1, "hidden": h, "steps": 2 * s, "seeds": k} for h, s, k in RUNGS]
    return AskedScalingConfig.model_validate(
        {**KINDS, "compute_share": 0.9, "rungs": rungs, "main": main, "benchmarks": (benchmark,), "buckets": 2}
    )


def test_ladder_asks_every_run_seals_a_forecast_a_bucket_and_asks_none_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, out, again = tmp_path / "tokens", tmp_path / "out", tmp_path / "again"
    out.mkdir()
    again.mkdir()
    vocabulary = write_tokenizer(tokens, 288)
    rows = 5 + np.cumsum(np.random.default_rng(0).integers(0, 3, (4000, 17)), axis=1) % (vocabulary - 16)
    write_rows(tokens, {"train": rows[:3800], "validation": rows[3800:]}, vocabulary=vocabulary, separator=0)
    items = [
        Continuation(item=f"{place}-{end}", context=text[:end], text=text[end:])
        for place, text in enumerate(TEXTS)
        for end in (3, 6, 9, 12)
    ]
    write_continuations(tmp_path / "asked", "last_word", items)
    inputs = {"tokens": tokens, "continuations": tmp_path / "asked"}

    metrics = ladder.run(config(vocabulary), inputs, out, tmp_path / "kept", EXECUTION, silent)

    found = read_forecast(out)
    assert sorted(problem for one in found.buckets for problem in one.problems) == sorted(one.item for one in items)
    assert [(one.bucket, len(one.points)) for one in found.buckets] == [(0, 5), (1, 5)]
    assert [point.compute for point in found.buckets[0].points] == [run.compute for run in found.points]
    assert found.buckets[0].points[0].loss < found.buckets[1].points[0].loss
    assert metrics["forecast/last_word/bucket_2"] == found.buckets[1].prediction
    monkeypatch.setattr(right_answers, "_nats", None)
    ladder.run(config(vocabulary), inputs, again, tmp_path / "kept", EXECUTION, silent)
    assert read_forecast(again) == found
    with pytest.raises(ValueError, match=r"asked: no benchmark last_wrod"):
        ladder.run(config(vocabulary, "last_wrod"), inputs, again, tmp_path / "others", EXECUTION, silent)
    with pytest.raises(ValueError, match=r"forecast.benchmarks: 'last_word' has 16 items; 4 buckets take 20, 5 each"):
        right_answers.problems(["last_word"], tmp_path / "asked", 4)
