"""Images in chat: what the server answers about a picture is what its model says of it, whoever else asks about another."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import openai
import pytest
from PIL import Image as Pillow

from modelyard.execution import ExecutionConfig
from modelyard.formats.feedback import ImagePart, Message, TextPart
from modelyard.formats.images import Held, Image, cleaned, data_url
from modelyard.model.asked import Decoding
from modelyard.model.subject import Subject
from modelyard.serving.book import Book, Entry
from modelyard.serving.next_line import write
from modelyard.serving.protocol import ChatRequest
from modelyard.serving.served_model import Reader, ServedModel
from tests.unit.model import seeing
from tests.unit.serving.running import Server

GREEDY = Decoding(max_new_tokens=12, temperature=0.0, samples=1, seed=0)


def png(seed: int, width: int = 20, height: int = 40) -> bytes:
    buffer = io.BytesIO()
    Pillow.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


IMAGES = [cleaned(png(seed)) for seed in range(4)]


def said(*images: Image, role: str = "user") -> list[dict]:
    parts = [{"type": "image_url", "image_url": {"url": data_url(image.png), "detail": "low"}} for image in images]
    return [{"role": role, "content": [{"type": "text", "text": "Which is red?"}, *parts]}]


def request(messages: list[dict]) -> ChatRequest:
    return ChatRequest.model_validate({"model": "m", "messages": messages})


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return seeing.write(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def subject(model: Path) -> Subject:
    found = Subject.open("x", model, ExecutionConfig(threads=1), 4)
    found.show(Held({image.id: image for image in IMAGES}))
    return found


@pytest.mark.integration
def test_answers_about_images_are_the_models_own_whoever_else_is_served(model: Path, subject: Subject) -> None:
    asked = [(IMAGES[0],), (IMAGES[1], IMAGES[2]), (), (IMAGES[3],)]
    prompts = [
        (Message(role="user", content=(TextPart(text="Which is red?"), *(ImagePart(image=one.id) for one in some))),) for some in asked
    ]
    expected = [subject.follow([prompt], GREEDY)[0] for prompt in prompts]
    assert len({one.text for one in expected}) == len(asked), "answers that do not depend on images prove nothing"
    server = Server(model, "--rows", "3", directory=model.parent)

    def answer(images: tuple[Image, ...]) -> tuple[str, int]:
        given = {"model": "seeing", "messages": said(*images), "max_tokens": 12, "temperature": 0}
        whole = server.client.chat.completions.create(**given)
        return whole.choices[0].message.content, whole.usage.prompt_tokens

    try:
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(answer, asked))
        broken = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
        with pytest.raises(openai.BadRequestError, match="image_url: broken, or of no format that is read"):
            server.client.chat.completions.create(model="seeing", messages=[{"role": "user", "content": [broken]}])
    finally:
        server.end()

    assert found == [(one.text, len(one.prompt)) for one in expected]


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://a.b/c.png"}}]}], "nothing is fetched"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], "nothing is fetched"),
        (said(IMAGES[0], role="system"), "images of a 'system' message are not served"),
        (said(*IMAGES[:1] * 17), "17 images, and at most 16 are served"),
        ([{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}], "input_audio"),
    ],
)
def test_image_that_is_not_served_is_refused_by_name(messages: list[dict], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        request(messages)


def test_model_that_reads_text_only_refuses_images_and_answers_the_rest(subject: Subject) -> None:
    blind = ServedModel("m", Reader.of_subject(subject)._replace(shown=None), None)
    one = request(said(IMAGES[0]))
    one.read_images()
    with pytest.raises(ValueError, match="images are not served: this model reads text only"):
        blind.submit(one, lambda piece: None)


def test_book_keeps_no_image_and_no_later_line_learns_from_its_answer(tmp_path: Path) -> None:
    one = request(said(IMAGES[0]))
    one.read_images()
    book = Book(f"sqlite:///{tmp_path / 'book.db'}")
    book.note(Entry("r", "u", "m", "w", tuple(one.messages), "red", "stop", True))

    (kept,) = book.agreed()

    assert kept.entry.prompt[0].content == (TextPart(text="Which is red?"), ImagePart(image=IMAGES[0].id))
    assert IMAGES[0].png not in (tmp_path / "book.db").read_bytes()
    assert {count for count, _ in write([kept], tmp_path / "out").values()} == {0}
