"""A line that learns to see, as a person runs it on pictures of his own, beside the twin that never saw one."""

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from tests.e2e.running import artifact, run_config
from tests.worlds import pictures

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(900)]

MADE = ["projector", "no_vision_projector", "sft", "no_vision", "results", "decision", "export"]


def said(root: Path, model: str, benchmark: str) -> list[dict]:
    """What a model said of each item."""
    (path,) = (root / ".modelyard/store/results").glob(f"*/records/{model}/{benchmark}.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_line_sees_and_its_twin_does_not(finished, tmp_path, seed_prefect):
    pictures.write(tmp_path)
    seed_prefect(tmp_path / ".modelyard/prefect")
    for name in ("abuse_filter", "shard", "corpus"):
        built = Path(".modelyard/store") / name
        shutil.copytree(finished[0] / built, tmp_path / built)

    done = run_config(tmp_path, "line.toml")

    assert done.code in (0, 3, 4), done.out + done.err
    assert done.stages("cached") == ["corpus"]
    built = [name for name in done.stages("built") if name in MADE]
    assert sorted(built) == sorted(name for name in MADE if done.code != 4 or name != "export"), "a model and its twin end in any order"
    seen, twin, control = (
        said(tmp_path, "policy", "colours"),
        said(tmp_path, "no_vision", "colours"),
        said(tmp_path, "policy", "colours_blank"),
    )
    assert len(Counter(one["output"] for one in twin)) == 1, "every picture is the same to the twin"
    assert len(Counter(one["output"] for one in control)) == 1, "and to the release where they are blanked"
    right = sum(one["score"] for one in seen)
    assert right >= 0.9 * len(seen), "two colours are told apart"
    assert not (tmp_path / ".modelyard/store/results").joinpath("records/base/colours.jsonl").exists()

    (path,) = (tmp_path / ".modelyard/store/decision").glob("*/decision.json")
    decided = json.loads(path.read_text())
    gates = {gate["name"]: gate for gate in decided["gates"]}
    assert gates["vision"]["verdict"] == "PROMOTE", gates["vision"]["reason"]
    assert gates["preference"]["set_aside"]
    assert {one["benchmark"] for one in decided["vision"]} == {"colours", "last_word", "held_out_text"}
    card = (path.parent / "card.html").read_text()
    assert card.count('<img src="data:image/png;base64,') == 8
    assert "What it says of pictures: colours" in card
    parents = artifact(tmp_path, "decision")["parents"]
    assert parents["policy"] == parents["sft"], "the SFT model is what is released"
    assert artifact(tmp_path, "no_vision")["config"] == artifact(tmp_path, "sft")["config"] | {"blank": True}
