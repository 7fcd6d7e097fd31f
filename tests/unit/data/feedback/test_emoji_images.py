"""Emoji of the packages as they are: drawn in two styles, named in several languages, asked about where nothing was trained on."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Pillow
from pydantic import ValidationError

from modelyard.data.feedback.emoji_images import QUESTIONS, Emoji, emoji
from modelyard.data.feedback.image_sets import ImageSet, made, write_benchmarks
from modelyard.evals import catalog
from modelyard.formats.feedback import images_of
from modelyard.formats.stored_images import ImageWriter

TABLE = {"name": "emoji", "package": "emoji", "seed": 0, "held_out": 0.05}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("packages")


def pixels(one: Emoji) -> NDArray[np.uint8]:
    return np.asarray(Pillow.open(io.BytesIO(one.image.png)))


def test_two_styles_draw_the_same_things_and_languages_name_them(cache: Path) -> None:
    colour, _ = emoji("openmoji", ["en", "de", "ko"], 64, cache)
    black, left_out = emoji("noto", ["en"], 64, cache)

    names = {one.names["en"]: one for one in colour}
    assert names["dog face"].names == {"en": "dog face", "de": "hundegesicht", "ko": "강아지 얼굴"}
    assert len(set(names) & {one.names["en"] for one in black}) > 1200
    assert not {one.image.id for one in colour} & {one.image.id for one in black}
    assert all((shown == shown[..., :1]).all() for shown in map(pixels, black))
    assert sum(bool((shown != shown[..., :1]).any()) for shown in map(pixels, colour)) > 0.9 * len(colour)
    assert min(int((pixels(one) < 128).any(-1).sum()) for one in black) > 0, "an empty picture is left out"
    assert {reason for _, reason in left_out} <= {"not_in_font", "same_picture"}


def test_what_is_asked_in_any_language_was_never_trained_on(tmp_path: Path, cache: Path) -> None:
    found = made(ImageSet.model_validate(TABLE | {"languages": ["en", "fr"]}), cache)

    assert list(found.asked) == ["emoji_captions", "emoji_captions_fr"]
    asked = [{pair.image.id for pair in pairs} for pairs in found.asked.values()]
    trained = Counter(images_of(one.prompt)[0] for one in found.demonstrations)
    assert asked[0] == asked[1]
    assert 0.15 < len(asked[0]) / len(found.images) < 0.25
    assert not asked[0] & set(trained)
    assert set(trained.values()) == {2}, "a name in each language, once"
    assert {one.prompt[0].content[1].text.strip() for one in found.demonstrations} == {*QUESTIONS["en"], *QUESTIONS["fr"]}
    write_benchmarks(tmp_path, found.asked)
    with ImageWriter(tmp_path) as writer:
        for image in found.images.values():
            writer.add(image)
    french = catalog.build("emoji_captions_fr", tmp_path)
    assert french.items[0].question == QUESTIONS["fr"][0]
    assert all(item.choices[item.right[0]] == item.target for item in french.items)


def test_style_that_is_only_asked_about_teaches_nothing(cache: Path) -> None:
    found = made(ImageSet.model_validate(TABLE | {"style": "noto", "benchmark": 1.0}), cache)

    assert list(found.asked) == ["emoji_noto"]
    assert len(found.asked["emoji_noto"]) > 1200
    assert not found.demonstrations


def test_every_language_that_is_asked_in_has_a_benchmark() -> None:
    for style in ("openmoji", "noto"):
        table = ImageSet.model_validate(TABLE | {"style": style, "languages": list(QUESTIONS)})
        assert {table.benchmark_name(language) for language in table.languages} <= set(catalog.images.BENCHMARKS)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"languages": ["en", "xx"]}, "languages: 'xx' is none of en, de"),
        ({"languages": []}, "languages: none, or one twice"),
        ({"languages": ["de", "de"]}, "languages: none, or one twice"),
        ({"package": "charts", "style": "noto"}, "style and languages are of emoji, not of charts"),
        ({"package": "easy_vqa", "benchmark": 1.0}, "easy-VQA has a test set of its own"),
    ],
)
def test_what_a_set_cannot_be_is_refused_by_key(changes: dict, reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        ImageSet.model_validate(TABLE | changes)
