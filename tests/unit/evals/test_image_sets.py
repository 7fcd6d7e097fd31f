"""Benchmarks whose items hold images: whichever way a file gives them, where they stand in a prompt, and what a model is then asked."""

import base64
import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image as Pillow

from modelyard.evals import catalog
from modelyard.evals.benchmark import Benchmark
from modelyard.evals.catalog.images import AMONG
from modelyard.evals.gather import GatherConfig, load, run
from modelyard.evals.methods import ask
from modelyard.evals.own import OwnSet
from modelyard.evals.recorder import Recorder
from modelyard.evals.sets import BenchmarkConfig, SetsConfig, build
from modelyard.evals.tools import Tools
from modelyard.formats import stored_images
from modelyard.formats.feedback import ImagePart, Message, TextPart
from modelyard.formats.images import of_pixels
from modelyard.formats.questions import read_questions
from modelyard.formats.results import Measured
from modelyard.formats.stored_images import ImageFiles
from modelyard.model.asked import Decoding, Likelihood, Sampled
from modelyard.progress import silent


def picture(level: int, side: int = 8) -> bytes:
    """A plain PNG."""
    buffer = io.BytesIO()
    Pillow.fromarray(np.full((side, side, 3), level, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def name_of(level: int) -> str:
    """The id of such a picture."""
    return of_pixels(np.full((8, 8, 3), level, np.uint8)).id


def written(path: Path, rows: Sequence[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def built(directory: Path, **table: object) -> Benchmark:
    """The benchmark of a user's table."""
    config = BenchmarkConfig.model_validate({"name": "own", "file": "items.jsonl", **table})
    return build(config, SetsConfig(seed=0, benchmarks=(config,)), (), (str(directory),))


class Listener:
    """A model that notes what it is asked and answers by the last image."""

    name, weights = "listener", "0"

    def __init__(self, answers: dict[str, str]) -> None:
        self.answers, self.asked = answers, list[object]()

    def _said(self, prompt: object) -> str:
        self.asked.append(prompt)
        parts = prompt[0].content if isinstance(prompt[0], Message) else prompt
        return self.answers.get(next((part.image for part in reversed(parts) if isinstance(part, ImagePart)), ""), "")

    def complete(self, prompts: Sequence, decoding: Decoding) -> list[Sampled]:
        return [Sampled([], [1], [0.0], f" {self._said(prompt)}", False) for prompt in prompts]

    reply = complete

    def turn(self, said: Sequence[Message]) -> str:
        return "User"

    def likelihoods(self, questions: Sequence) -> list[list[Likelihood]]:
        return [[Likelihood([0.0 if new.strip() == self._said(context) else -9.0], 0.0) for context, new in one] for one in questions]


def records(benchmark: Benchmark, model: Listener) -> list:
    return ask(model, benchmark, Tools())


def test_image_is_a_path_a_data_url_bytes_or_a_part_of_a_chat(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").write_bytes(picture(10))
    url = f"data:image/png;base64,{base64.b64encode(picture(20)).decode()}"
    part = {"type": "image_url", "image_url": {"url": url}}
    rows = [
        {"image": "pictures/a.png"},
        {"image": url},
        {"image": part},
        {"image": {"path": "pictures/a.png", "bytes": None}},
        {"image": [url, part]},
    ]
    written(tmp_path / "items.jsonl", [{"question": "which?", "answer": "x", **row} for row in rows])

    found = built(tmp_path, images="image")

    a, b = name_of(10), name_of(20)
    assert [item.images for item in found.items] == [(a,), (b,), (b,), (a,), (b, b)]
    assert set(found.pictures) == {a, b}
    assert found.parts_of(found.items[0]) == (ImagePart(image=a), TextPart(text="\nwhich?"))
    table = pa.Table.from_pylist([{"image": {"bytes": picture(30), "path": "x.png"}, "question": "q", "answer": "x"}])
    pq.write_table(table, tmp_path / "items.parquet")
    assert built(tmp_path, file="items.parquet", images="image").items[0].images == (name_of(30),)


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("absent.png", "items.jsonl:1: picture: "),
        ("https://example.org/a.png", "picture: 'https://example.org/a.png' is behind a URL"),
        ("data:image/png;base64,AAAA", "picture: broken, or of no format that is read"),
        (7, "picture: neither a path nor a data URL nor bytes, but int"),
    ],
)
def test_image_that_cannot_be_used_is_one_line_with_file_line_and_column(cell: object, said: str, tmp_path: Path) -> None:
    written(tmp_path / "items.jsonl", [{"question": "q", "answer": "a", "picture": cell}])
    with pytest.raises(ValueError, match=said) as caught:
        built(tmp_path, images="picture")
    assert "\n" not in str(caught.value)


def test_texts_that_hold_the_place_of_an_image_and_prompts_without_one_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture(10))
    written(tmp_path / "items.jsonl", [{"question": "a \ufffc b", "answer": "a", "image": "a.png"}])
    with pytest.raises(ValueError, match=r"items.jsonl:1: question: holds U\+FFFC, which stands for images"):
        built(tmp_path, images="image")
    with pytest.raises(ValueError, match=r"has no \{image\}, where the images would stand"):
        OwnSet(file="x", images="image", prompt="{question}")
    written(tmp_path / "items.jsonl", [{"question": "q", "answer": "a", "image": None}])
    with pytest.raises(ValueError, match="no row has an image in image"):
        built(tmp_path, images="image")


def test_text_that_spells_a_place_is_text(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture(10))
    written(tmp_path / "items.jsonl", [{"question": "what does <image> say? <image 9>", "answer": "a", "image": "a.png"}])
    [item] = built(tmp_path, images="image").items
    assert item.images == (name_of(10),)
    assert item.fields["question"] == "what does <image> say? <image 9>"


def test_mmmu_puts_images_where_its_question_names_them(tmp_path: Path) -> None:
    for level in (10, 20, 30):
        (tmp_path / f"{level}.png").write_bytes(picture(level))
    row = {"question": "Is <image 2> left of <image 1>?", "options": "['yes', 'no']", "answer": "B", "question_type": "multiple-choice"}
    row |= {"image_1": "10.png", "image_2": "20.png", "image_3": "30.png", "image_4": None}
    written(tmp_path / "items.jsonl", [row, {**row, "question_type": "open", "options": "[]"}])

    found = built(
        tmp_path,
        only={"question_type": "multiple-choice"},
        images=["image_1", "image_2", "image_3", "image_4"],
        prompt="{image}{question}\nAnswer:",
        choices="options",
    )

    [item] = found.items
    a, b, c = (name_of(level) for level in (10, 20, 30))
    places = (
        ImagePart(image=c),
        TextPart(text="Is "),
        ImagePart(image=b),
        TextPart(text=" left of "),
        ImagePart(image=a),
        TextPart(text="?\nAnswer:"),
    )
    assert found.parts_of(item) == places
    assert found.question_of(item).split() == ["Is", "left", "of", "?"]
    assert [one.score for one in records(found, Listener({a: "no", b: "", c: ""}))] == [1.0]


def test_examples_come_first_with_their_images_by_letter_too(tmp_path: Path) -> None:
    for level in (10, 20, 30):
        (tmp_path / f"{level}.png").write_bytes(picture(level))
    written(
        tmp_path / "shown.jsonl",
        [{"question": "tone?", "answer": "dark", "image": "10.png"}, {"question": "tone?", "answer": "light", "image": "30.png"}],
    )
    written(tmp_path / "items.jsonl", [{"question": "tone?", "answer": "dark", "image": "20.png"}])
    shared = {
        "images": "image",
        "choices": ["dark", "light"],
        "examples": "shown.jsonl",
        "shots": 2,
        "prompt": "{image}\n{question}\nAnswer:",
    }
    a, b, c = (name_of(level) for level in (10, 20, 30))

    plain, letters = built(tmp_path, **shared), built(tmp_path, **shared, choose_by="letter")

    for found in (plain, letters):
        parts = found.parts_of(found.items[0])
        assert [part.image for part in parts if isinstance(part, ImagePart)] == [a, c, b]
    assert "dark\n\n" in plain.prompt_of(plain.items[0])
    assert letters.prompt_of(letters.items[0]).startswith(
        "Answer with the letter of the right option.\n\n<image>\ntone?\nA. dark\nB. light\nAnswer: A\n\n"
    )
    model = Listener({b: "A"})
    assert [one.score for one in records(letters, model)] == [1.0]
    assert set(letters.pictures) >= set(letters.image_ids) == {a, b, c}


def test_explanation_goes_before_the_answer_and_the_image_before_both(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture(10))
    written(tmp_path / "items.jsonl", [{"question": "tone?", "answer": "dark", "image": "a.png"}])
    found = built(tmp_path, images="image", explain=True, prompt="{image}\n{question}")
    model = Listener({name_of(10): "dark"})

    [record] = records(found, model)

    assert record.score == 1.0
    first, last = model.asked
    assert first == (ImagePart(image=name_of(10)), TextPart(text="\ntone? Let's think step by step."))
    assert last == (ImagePart(image=name_of(10)), TextPart(text="\ntone? Let's think step by step. dark\nThe answer is"))
    with pytest.raises(ValueError, match="draws no answer that could be explained first"):
        built(tmp_path, images="image", explain=True, choices=["dark", "light"])


def test_blank_control_asks_the_same_under_an_id_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture(10))
    written(tmp_path / "items.jsonl", [{"question": "q", "answer": "x", "image": "a.png"}])
    shown, blank = built(tmp_path, images="image"), built(tmp_path, images="image", blank=True)
    assert shown.id != blank.id
    assert shown.items == blank.items
    written(tmp_path / "items.jsonl", [{"question": "q", "answer": "x"}])
    with pytest.raises(ValueError, match="own: has no images, so blank has no meaning"):
        built(tmp_path, blank=True)


def carried(directory: Path, name: str, captions: Sequence[str]) -> Path:
    """An artifact that carries items about images."""
    rows = [of_pixels(np.full((8, 8, 3), number, np.uint8)) for number in range(len(captions))]
    stored_images.write(directory, rows)
    (directory / "benchmarks").mkdir()
    items = [{"id": f"{name}/{n}", "image": row.id, "question": "what is it?", "answer": captions[n]} for n, row in enumerate(rows)]
    written(directory / "benchmarks" / f"{name}.jsonl", items)
    return directory


def test_captions_are_retrieved_among_those_of_other_images(tmp_path: Path) -> None:
    captions = [f"thing {n}" for n in range(12)]
    found = catalog.build("emoji_captions", carried(tmp_path, "emoji_captions", captions))
    assert all(len(set(item.choices)) == AMONG and item.choices[item.right[0]] == item.target for item in found.items)
    assert len({item.right for item in found.items}) > 1, "the right one stands anywhere"
    assert found == catalog.build("emoji_captions", tmp_path), "drawn by the item's id"
    model = Listener({item.images[0]: item.target for item in found.items})
    assert [one.score for one in records(found, model)] == [1.0] * 12
    with pytest.raises(ValueError, match="fewer than 8 different captions"):
        catalog.build("emoji_captions", carried(tmp_path / "few", "emoji_captions", captions[:5]))


class Talker(Listener):
    """A model to which captions are likely by themselves, the more the later they stand in the alphabet, and an image adds little."""

    def likelihoods(self, questions: Sequence) -> list[list[Likelihood]]:
        return [
            [Likelihood([10.0 * ord(new.strip()[-1]) - 2e3 + (new.strip() == self._said(context))], 0.0) for context, new in one]
            for one in questions
        ]


def test_caption_is_chosen_by_what_the_image_adds_and_not_by_how_likely_it_is(tmp_path: Path) -> None:
    found = catalog.build("emoji_captions", carried(tmp_path, "emoji_captions", list("abcdefghijkl")))
    told = records(found, Talker({item.images[0]: item.target for item in found.items}))
    assert [(one.score, one.values["acc_gain"], one.output) for one in told] == [(1.0, 1.0, item.target) for item in found.items]
    assert sum(one.values["acc"] for one in told) < 4
    silent_ones = records(found, Talker({item.images[0]: "" for item in found.items}))
    assert sum(one.score for one in silent_ones) < 6, "and an image that adds nothing chooses nothing"


def test_package_of_easy_vqa_is_read_as_it_is_published(tmp_path: Path) -> None:
    folder = tmp_path / "easy_vqa" / "data" / "test"
    (folder / "images").mkdir(parents=True)
    (folder / "images" / "0.png").write_bytes(picture(10))
    (folder / "questions.json").write_text(json.dumps([["what shape?", "circle", 0], ["is it red?", "no", 0]]))
    found = catalog.build("easy_vqa", tmp_path)
    assert [(item.id, item.target, item.images) for item in found.items] == [
        ("easy_vqa/0", "circle", (name_of(10),)),
        ("easy_vqa/1", "no", (name_of(10),)),
    ]
    model = Listener({name_of(10): "Circle"})
    assert [one.score for one in records(found, model)] == [1.0, 0.0]
    assert model.asked[0] == (Message(role="user", content=(ImagePart(image=name_of(10)), TextPart(text="\nwhat shape?"))),)
    (folder / "questions.json").write_text(json.dumps([["what shape?", "circle"]]))
    with pytest.raises(ValueError, match="row 0: not a question, an answer and the number of an image"):
        catalog.build("easy_vqa", tmp_path)


def test_benchmarks_artifact_holds_the_images_of_its_items_alone(tmp_path: Path) -> None:
    source = carried(tmp_path / "feedback", "easy_vqa", [f"thing {n}" for n in range(6)])
    table = {"easy_vqa": {"limit": 2}, "control": {"catalog": "easy_vqa", "blank": True, "limit": 2}}
    config = GatherConfig.model_validate({"seed": 0, "benchmarks": table, "context": 64})
    (tmp_path / "out").mkdir()

    run(config, {"feedback": source}, tmp_path / "out", silent, (str(tmp_path),))

    shown, control = load(tmp_path / "out")
    assert shown.items == control.items
    assert (shown.seen, control.blank) == (True, True)
    assert set(ImageFiles(tmp_path / "out")) == set(shown.image_ids)
    rows = read_questions(tmp_path / "out")["easy_vqa"]
    assert [row.images for row in rows] == [item.images for item in shown.items]
    assert (rows[0].text, Measured(id="", metrics=()).images) == ("what is it?", "")
    record = Recorder("policy", "w", shown, shown.id, ())(shown.items[0], "", "", "", 1.0, [])
    assert record.images == shown.items[0].images
