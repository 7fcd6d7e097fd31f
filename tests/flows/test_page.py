"""What a stage's Prefect page is made of; that it gets there is seen on a real server (tests/e2e/test_deployed.py)."""

import re
from xml.etree import ElementTree

from tasks.page import drawn, key, losses


def test_curve_of_a_history_is_read_and_drawn_inside_its_frame(tmp_path):
    history = tmp_path / "history.jsonl"
    history.write_text(
        '{"step": 1, "base/train/loss": 6.0, "base/train/lr": 0.1}\n{"step": 2, "base/train/lr": 0.1}\n'
        '{"step": 3, "base/train/loss": NaN}\n{"step": 4, "base/train/loss": 2.0}\n'
    )
    points = losses(history)
    assert points == [(1.0, 6.0), (4.0, 2.0)]
    picture = ElementTree.fromstring(drawn(points))
    line = picture.find("{http://www.w3.org/2000/svg}polyline")
    (x0, y0), (x1, y1) = ([float(v) for v in pair.split(",")] for pair in line.attrib["points"].split())
    assert 0 < x0 < x1 < float(picture.attrib["width"])
    assert 0 < y0 < y1 < float(picture.attrib["height"]), "a falling loss falls on the page"
    assert re.findall(r">([^<]+)</text>", drawn(points)) == ["6", "2", "step 1", "step 4"]


def test_curve_of_one_point_or_none(tmp_path):
    assert losses(tmp_path / "history.jsonl") == []
    assert "polyline" in drawn([(1.0, 3.0)])


def test_artifact_keys_are_what_prefect_accepts():
    assert all(re.fullmatch(r"[a-z0-9-]+", key(name)) for name in ("base", "sign_off", "Some Name"))
