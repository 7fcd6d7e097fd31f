"""Drawn pictures show what their answers say, and a set's benchmark shares no picture with what is trained on."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from modelyard.data.feedback.drawn_images import COLOURS, charts, digits
from modelyard.data.feedback.image_sets import ImageSet, made
from modelyard.evals import catalog
from modelyard.formats.feedback import images_of
from modelyard.formats.image_copies import NearCopies
from tests.unit.data.feedback.test_image_files import gathered


@pytest.mark.parametrize("size", [48, 64, 200])
def test_chart_has_the_bars_that_its_answers_name_by_a_count_of_pixels(size: int) -> None:
    for drawing in charts(40, 3, size):
        answers = dict(drawing.asked)
        seen = {name: (drawing.pixels == colour).all(-1) for name, colour in COLOURS.items()}
        heights = {name: round(mask.any(1).sum() * 9 / (size - 4)) for name, mask in seen.items() if mask.any()}
        assert {f"how high is the {name} bar?": str(height) for name, height in heights.items()}.items() <= answers.items()
        assert answers["how many bars are there?"] == str(len(heights))
        assert answers["which bar is the highest?"] == max(heights, key=heights.__getitem__)
        assert answers["which bar is the lowest?"] == min(heights, key=heights.__getitem__)
        assert len(set(heights.values())) == len(heights)
    again = [drawing.pixels for drawing in charts(3, 3, size)]
    assert all(np.array_equal(one, other.pixels) for one, other in zip(again, charts(3, 3, size), strict=True))


def test_digits_look_like_others_of_their_label() -> None:
    drawn = list(digits(16))
    pixels = np.stack([one.pixels[..., 0] for one in drawn]).reshape(len(drawn), -1) / 255
    labels = np.array([one.asked[0][1] for one in drawn])
    distance = (pixels[100:] ** 2).sum(1) - 2 * pixels[:100] @ pixels[100:].T  # but for each row's own length
    assert len(drawn) == 1797
    assert (labels[100:][distance.argmin(1)] == labels[:100]).mean() > 0.9  # of labels that belong to other pictures it would be 0.1


@pytest.mark.parametrize(("package", "settings"), [("charts", {"number": 150}), ("digits", {})])
def test_benchmark_of_a_set_shares_no_picture_with_training_and_is_asked_as_it_stands(tmp_path: Path, package: str, settings: dict) -> None:
    table = {"name": "own", "package": package, "seed": 0, "held_out": 0.1, **settings}

    _, shown = gathered(tmp_path, table)

    asked = catalog.images.BENCHMARKS[package](tmp_path / "out", None)
    trained = defaultdict(set)
    for one in shown:
        trained[images_of(one.prompt)[0]].add(one.split)
    copies = NearCopies(asked.pictures.values())
    assert not set(asked.pictures) & set(trained)
    assert {len(splits) for splits in trained.values()} == {1}
    pictures = made(ImageSet.model_validate(table), tmp_path).images
    assert not any(copies.of(pictures[image]) for image in trained)
    assert asked.items[0].question.endswith("?")
    assert len(asked.items) > 0.1 * len(shown)


def test_two_sets_of_one_package_would_have_one_benchmark_and_are_refused(tmp_path: Path) -> None:
    table = {"name": "a", "package": "charts", "seed": 0, "held_out": 0.1}
    with pytest.raises(ValidationError, match="images: two would keep the benchmark 'charts'"):
        gathered(tmp_path, table, {**table, "name": "b"})
