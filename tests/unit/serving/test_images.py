"""Images in chat: what the server answers about a picture is what its model says of it, whoever else asks about another."""

from __future__ import annotations

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import openai
import pytest
from PIL import Image as Pillow

from modelyard.execution import ExecutionConfig
from modelyard.formats.feedback import ImagePart, Message, TextPart
from modelyard.formats.images import Image, cleaned, data_url
from modelyard.formats.stored_images import Held
from modelyard.model.asked import Decoding
from modelyard.model.encoder import Encoder
from modelyard.model.hf.conversion import export_hf
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
    """As it is released: a LlavaNext of Hugging Face's."""
    ours = seeing.write(tmp_path_factory.mktemp("served"))
    encoder = Encoder(ours)
    export_hf(ours, ours.parent / "hf", start_id=encoder.start, end_id=encoder.ends, pad_id=encoder.padding)
    return ours.parent / "hf"


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[Server]:
    running = Server(model, "--rows", "3", directory=model.parent)
    yield running
    assert running.end() == (0, "")


@pytest.fixture(scope="module")
def subject(model: Path) -> Subject:
    found = Subject.open("x", model, ExecutionConfig(threads=1), 4)
    found.show(Held({image.id: image for image in IMAGES}))
    return found


@pytest.mark.integration
def test_answers_about_images_are_the_models_own_whoever_else_is_served(server: Server, subject: Subject) -> None:
    asked = [(IMAGES[0],), (IMAGES[1], IMAGES[2]), (), (IMAGES[3],)]
    prompts = [
        (Message(role="user", content=(TextPart(text="Which is red?"), *(ImagePart(image=one.id) for one in some))),) for some in asked
    ]
    expected = [subject.follow([prompt], GREEDY)[0] for prompt in prompts]
    assert len({one.text for one in expected}) == len(asked), "answers that do not depend on images prove nothing"

    def answer(images: tuple[Image, ...]) -> tuple[str, int]:
        given = {"model": "hf", "messages": said(*images), "max_tokens": 12, "temperature": 0}
        whole = server.client.chat.completions.create(**given)
        return whole.choices[0].message.content, whole.usage.prompt_tokens

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(answer, asked))

    assert found == [(one.text, len(one.prompt)) for one in expected]


@pytest.mark.integration
def test_streamed_answer_in_a_later_turn_sees_the_image_of_every_turn(server: Server, subject: Subject) -> None:
    turns = [*said(IMAGES[0]), {"role": "assistant", "content": "red"}, *said(IMAGES[3])]
    shown = [(TextPart(text="Which is red?"), ImagePart(image=IMAGES[number].id)) for number in (0, 3)]
    prompt = (Message(role="user", content=shown[0]), Message(role="assistant", content="red"), Message(role="user", content=shown[1]))

    chunks = server.client.chat.completions.create(model="hf", messages=turns, max_tokens=12, temperature=0, stream=True)

    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == subject.follow([prompt], GREEDY)[0].text


def bomb() -> bytes:
    """A PNG of some kilobytes with 400 million pixels."""
    buffer = io.BytesIO()
    Pillow.new("1", (20_000, 20_000)).save(buffer, "PNG")
    return buffer.getvalue()


def animated() -> bytes:
    buffer = io.BytesIO()
    frames = [Pillow.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


@pytest.mark.integration
@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("data:image/png;base64,AAAA", "image_url: broken, or of no format that is read"),
        ("data:image/png;base64,####", "image_url: its base64 is broken"),
        ("data:image/png;base64,\u00e9", "image_url: its base64 is broken"),
        (data_url(png(0)[:-30]), "image_url: broken"),
        (data_url(bomb()), "image_url: .*more than 67108864"),
        (data_url(animated()), "image_url: animated"),
        ("file:///etc/passwd", "nothing is fetched"),
        (data_url(png(0, 40, 40)), "exceed the context of 256"),
    ],
)
def test_hostile_image_is_refused_in_one_line_and_the_server_goes_on(server: Server, address: str, reason: str) -> None:
    messages = [*said(IMAGES[0]), {"role": "user", "content": [{"type": "image_url", "image_url": {"url": address}}]}]
    if "context" in reason:
        messages *= 8
    with pytest.raises(openai.BadRequestError, match=reason) as refused:
        server.client.chat.completions.create(model="hf", messages=messages, max_tokens=4)
    assert len(refused.value.body["message"].splitlines()) == 1
    assert len(refused.value.body["message"]) < 300
    again = server.client.chat.completions.create(model="hf", messages=said(), max_tokens=4)
    assert again.usage.completion_tokens > 0


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
