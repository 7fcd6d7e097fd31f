"""Images as transformers' LLaVA-NeXT has them: tiles, placeholders, numbers, gradients, and what is asked about them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from modelyard.execution import ExecutionConfig
from modelyard.formats.feedback import ImagePart, TextPart, images_of
from modelyard.model import model_directory
from modelyard.model.asked import Decoding
from modelyard.model.encoder import Encoder
from modelyard.model.hf import llava
from modelyard.model.hf.conversion import SPECIAL, export_hf, import_hf, read_safetensors
from modelyard.model.hf.tokenizer import GENERATION
from modelyard.model.hf.weights import from_hf, read_checkpoint
from modelyard.model.inference.gallery import Gallery
from modelyard.model.inference.slots import Slots
from modelyard.model.network.model_config import ModelConfig
from modelyard.model.network.vision import VisionConfig, is_its_overview
from modelyard.model.pictures import GREY, Pictures, tiles_of
from modelyard.model.plan.memory import Split, stage_parameters
from modelyard.model.subject import Subject
from modelyard.model.training.batch import UNLABELLED, Batch, LossOutput
from modelyard.model.training.engine import Engine
from modelyard.model.training.optimizer import OptimizerConfig

from . import seeing
from .seeing import SIZES, VISION, Drawn, asked

pytestmark = pytest.mark.numerics
ONE = ExecutionConfig(threads=1)
GREEDY = Decoding(max_new_tokens=8, temperature=0.0, samples=1, seed=0)
OPTIMIZER = OptimizerConfig(
    lr=1e-3, min_lr_ratio=0.1, warmup_steps=0, weight_decay=0.0, beta1=0.9, beta2=0.95, eps=1e-8, clip_grad=0.0, schedule="constant"
)


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return seeing.write(tmp_path_factory.mktemp("seeing"))


@pytest.fixture(scope="module")
def exported(ours: Path) -> Path:
    encoder = Encoder(ours)
    export_hf(ours, ours.parent / "hf", start_id=encoder.start, end_id=encoder.ends, pad_id=encoder.padding)
    return ours.parent / "hf"


@pytest.fixture(scope="module")
def subject(ours: Path) -> Subject:
    found = Subject.open("ours", ours, ONE, 8)
    found.show(Drawn())
    return found


@pytest.fixture(scope="module")
def theirs(exported: Path) -> tuple[Any, Any]:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    return AutoProcessor.from_pretrained(exported), AutoModelForImageTextToText.from_pretrained(exported)


def processed(processor: Any, image: str, text: str = "red or blue?") -> Any:
    """:func:`asked` as transformers reads it."""
    said = [{"type": "text", "text": "It is "}, {"type": "image"}, {"type": "text", "text": text}, {"type": "image"}]
    turn = processor.apply_chat_template([{"role": "user", "content": said}], add_generation_prompt=True)
    images = [Image.fromarray(Drawn().pixels(one)) for one in (image, "0")]
    return processor(images=images, text=turn, return_tensors="pt", add_special_tokens=False)


@pytest.mark.parametrize("number", range(len(SIZES)))
def test_image_is_cut_and_its_placeholders_are_written_as_transformers_does(ours: Path, theirs: tuple[Any, Any], number: int) -> None:
    inputs = processed(theirs[0], str(number))
    encoder = Encoder(ours)
    encoder.pictures = Pictures(VISION, Drawn())
    assert encoder.prompt(asked(str(number))) == inputs["input_ids"][0].tolist()
    tiles = torch.from_numpy(tiles_of(VISION, Drawn().pixels(str(number)))) / 127.5 - 1
    if is_its_overview(VISION, *SIZES[number]):
        tiles = torch.cat([tiles, tiles])
    torch.testing.assert_close(tiles, inputs["pixel_values"][0][: len(tiles)], rtol=0, atol=1e-6)


@pytest.mark.parametrize("number", range(len(SIZES)))
def test_export_answers_the_same_tokens_with_the_same_logits(subject: Subject, theirs: tuple[Any, Any], number: int) -> None:
    inputs, mine = processed(theirs[0], str(number)), subject.reply([asked(str(number))], GREEDY)[0]
    answer = theirs[1].generate(**inputs, max_new_tokens=8, do_sample=False)[0, len(mine.prompt) :]
    assert answer.tolist() == mine.tokens
    whole = torch.cat([inputs["input_ids"], answer[None]], 1)
    given = {key: value for key, value in inputs.items() if key not in ("input_ids", "attention_mask")}
    with torch.no_grad():
        logits = theirs[1](input_ids=whole, **given).logits[0, len(mine.prompt) - 1 : -1]
    logprobs = torch.log_softmax(logits, -1).gather(1, answer[:, None]).squeeze(1)
    torch.testing.assert_close(logprobs, torch.tensor(mine.logprobs), rtol=1e-4, atol=1e-4)


def test_gradients_of_every_parameter_are_transformers(ours: Path, theirs: tuple[Any, Any], tmp_path: Path) -> None:
    processor, reference = theirs
    engine = model_directory.load(ours, ONE, optim=OPTIMIZER, part="all")
    encoder = Encoder(ours)
    encoder.pictures = pictures = Pictures(VISION, Drawn())
    rows = [encoder.prompt(asked(str(number))) for number in (1, 4)]
    width = max(map(len, rows))
    tokens = torch.tensor([[*row, *[encoder.padding] * (width - len(row))] for row in rows])
    asked_for = torch.zeros(tokens.shape, dtype=torch.bool)
    for line, row in enumerate(rows):
        asked_for[line, len(row) - 5 : len(row) - 1] = True
    asked_for[:, :3] = True
    following = torch.cat([tokens[:, 1:], tokens[:, :1]], 1)
    asked_for &= following != encoder.placeholder
    labels = following.masked_fill(~asked_for, UNLABELLED)
    shown = pictures.shown(tokens, [images_of(asked(str(number))) for number in (1, 4)], encoder.placeholder)

    def loss(logprobs: torch.Tensor, part: Batch) -> LossOutput:
        mask = part.labels >= 0
        return LossOutput(-(logprobs * mask).sum(), mask.sum(), {})

    step = engine.train_step(Batch(tokens, labels, {}, shown), 1, loss)
    engine.save(tmp_path / "step")
    total = 0.0
    for line, number in enumerate((1, 4)):
        inputs = processed(processor, str(number))
        logprobs = torch.log_softmax(reference(**inputs).logits[0], -1)
        places = asked_for[line, : len(rows[line])].nonzero().squeeze(1)
        part = -logprobs[places].gather(1, following[line, places][:, None]).sum() / asked_for.sum()
        part.backward()
        total += part.item()
    assert step["loss"] == pytest.approx(total, rel=1e-5)
    gradients = {llava.named(name): parameter.grad for name, parameter in reference.named_parameters() if parameter.grad is not None}
    unused = {name: torch.zeros(32) for name in ("model.vision_tower.post_layernorm.weight", "model.vision_tower.post_layernorm.bias")}
    expected = from_hf({**gradients, **unused}, engine.model)
    found = read_checkpoint(tmp_path / "step")
    for name, gradient in expected.items():
        moment = found[f"optimizer.state.exp_avg.{name}"].view_as(gradient) / 0.1
        assert (moment - gradient).norm() <= 1e-4 * gradient.norm() + 1e-8, name
    assert sum(name.startswith("vision.") for name in expected) == 20


def test_model_comes_back_from_transformers_bit_for_bit(ours: Path, exported: Path, tmp_path: Path) -> None:
    model = import_hf(exported, tmp_path / "back")
    assert model.vision == VISION
    assert Encoder(tmp_path / "back").fingerprint == Encoder(ours).fingerprint
    export_hf(tmp_path / "back", tmp_path / "again")
    once, twice = read_safetensors(exported), read_safetensors(tmp_path / "again")
    assert once.keys() == twice.keys()
    assert all(torch.equal(once[name], twice[name]) for name in once)
    other = Subject.open("hf", exported, ONE, 8)
    other.show(Drawn())
    assert [one.tokens for one in other.reply([asked("1")], GREEDY)]


def test_model_without_a_generation_config_ends_where_its_language_model_does(exported: Path, tmp_path: Path) -> None:
    shutil.copytree(exported, tmp_path / "hf")
    (tmp_path / "hf" / GENERATION).unlink()
    import_hf(tmp_path / "hf", tmp_path / "ours")
    assert json.loads((exported / "config.json").read_text()).get("eos_token_id") is None, "it has none itself"
    said, wanted = (json.loads((place / GENERATION).read_text()) for place in (tmp_path / "ours", exported))
    assert {key: said.get(key) for key in SPECIAL} == {key: wanted.get(key) for key in SPECIAL}
    assert Encoder(tmp_path / "ours").ends == Subject.open("hf", exported, ONE, 8).encoder.ends


def test_likelihoods_of_questions_that_differ_in_their_image_only_are_the_plain_forwards(subject: Subject) -> None:
    questions = [[(asked(image, text), " red"), (asked(image, text), " blue or green")] for text in ("red?", "blue?") for image in "035"]
    spelled = {tuple(subject.encoder.prompt(question[0][0])) for question in questions}
    assert len(spelled) == 4, "two of the images should have equally many placeholders"
    scored = subject.likelihoods(questions)
    pairs = [pair for question in questions for pair in question]
    prefixes = [subject.gallery.numbered(subject.encoder.prompt(context), images_of(context)) for context, _ in pairs]
    plain = subject.logprobs(prefixes, [subject.encoder.continued(new) for _, new in pairs])
    found = [one.logprobs for line in scored for one in line]
    for mine, expected in zip(found, plain, strict=True):
        assert mine == pytest.approx(expected, abs=2e-4)
    assert len({round(line[0].total, 6) for line in scored}) == 6, "two images were taken for one"


def test_images_of_one_size_are_told_apart(subject: Subject) -> None:
    class Two:
        def size(self, image: str) -> tuple[int, int]:
            return 16, 16

        def pixels(self, image: str) -> np.ndarray:
            return np.full((16, 16, 3), 255 if image == "white" else 0, np.uint8)

    other = Subject("two", subject.engine, Encoder.__new__(Encoder), "", 8)
    other.encoder.__dict__.update(subject.encoder.__dict__)
    other.show(Two())
    prompts = [(ImagePart(image=image), TextPart(text="It is red, green or blue.")) for image in ("white", "black", "white")]
    white, black, again = (line[0].total for line in other.likelihoods([[(prompt, " blue")] for prompt in prompts]))
    assert white == pytest.approx(again, abs=1e-6)
    assert abs(white - black) > 1e-3


def test_prompts_with_images_that_come_and_go_are_answered_as_alone(subject: Subject) -> None:
    prompts = [asked(image) for image in "0134"]
    alone = [subject.reply([prompt], GREEDY)[0].tokens for prompt in prompts]
    assert [one.tokens for one in subject.reply(prompts, GREEDY)] == alone
    slots, gallery = Slots(subject.engine, 4), Gallery(subject.engine, subject.gallery.pictures, subject.encoder.placeholder)
    said: list[list[int]] = []
    for prompt in prompts:
        ids = gallery.numbered(subject.encoder.prompt(prompt), images_of(prompt))
        said.append([int(slots.enter(ids, gallery).argmax())])
    for _ in range(7):
        for line, token in zip(said, slots.step([line[-1] for line in said]).argmax(-1).tolist(), strict=True):
            line.append(token)
    for line, expected in zip(said, alone, strict=True):
        assert line[: len(expected)] == expected


def test_blank_picture_has_the_places_of_the_image_and_none_of_its_pixels() -> None:
    seen, blank = Pictures(VISION, Drawn()), Pictures(VISION, Drawn(), blank=True)
    for image in ("0", "3"):
        assert seen.positions(image) == blank.positions(image)
        assert set(np.unique(blank.tiles(image))) == {GREY}
        assert len(np.unique(seen.tiles(image))) > 100


def test_part_of_a_batch_has_the_tiles_of_its_rows() -> None:
    pictures = Pictures(VISION, Drawn())
    rows = [["1"], [], ["0", "3"], ["4"]]
    lengths = [sum(map(pictures.positions, row)) for row in rows]
    tokens = torch.tensor([[*[9] * length, *[1] * (max(lengths) - length)] for length in lengths])
    batch = Batch(tokens, tokens, {}, pictures.shown(tokens, rows, 9))
    whole = batch.tiles.absolute(VISION.patches)
    for start, stop in ((0, 1), (1, 2), (1, 4), (2, 3)):
        part = batch.rows(start, stop).tiles
        for row in range(start, stop):
            places = (whole[row] >= 0).nonzero().squeeze(1)
            own = part.absolute(VISION.patches)[row - start, places]
            assert torch.equal(part.pixels[own // VISION.patches], batch.tiles.pixels[whole[row, places] // VISION.patches])
    longer = batch.filled_up(6)
    assert len(longer.tokens) == 6
    assert torch.equal(longer.tiles.counts[3:], batch.tiles.counts[3:].expand(3))


def test_parameters_are_counted_as_the_model_has_them(ours: Path) -> None:
    engine = model_directory.load(ours, ONE)
    assert engine.model.parameters() == sum(parameter.numel() for parameter in engine.gpt.parameters())
    assert stage_parameters(engine.model, Split(1, 1, 1), 0).dense == engine.model.parameters()
    assert engine.model.flops_per_token() == engine.model.model_copy(update={"vision": None}).flops_per_token()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tile": 15}, "tile 15 is not divisible by patch 8"),
        ({"heads": 5}, "hidden 32 is not divisible by heads 5"),
        ({"grids": []}, "grids: needs at least one"),
    ],
)
def test_encoder_that_cannot_be_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VisionConfig.model_validate({**VISION.model_dump(), **change})


def test_model_of_another_style_is_shown_no_images(ours: Path) -> None:
    shape = model_directory.read(ours).model.model_dump()
    with pytest.raises(ValueError, match="vision: only llama-style models are shown images"):
        ModelConfig.model_validate({**shape, "style": "gpt"})


def test_prompt_with_an_image_is_refused_where_nothing_shows_it(ours: Path) -> None:
    with pytest.raises(ValueError, match="a prompt holds an image, which nothing here reads"):
        Encoder(ours).prompt(asked("0"))
    with pytest.raises(ValueError, match="a prompt holds an image, and this model reads text only"):
        Encoder(ours.parent / "tokens").prompt(asked("0"))


def test_placeholder_that_a_text_spells_stays_text(ours: Path) -> None:
    encoder = Encoder(ours)
    encoder.pictures = Pictures(VISION, Drawn())
    ids = encoder.prompt((TextPart(text="<image> is "), ImagePart(image="0")))
    assert ids.count(encoder.placeholder) == encoder.pictures.positions("0")
    assert encoder.decode(ids) == "<image> is "


def test_engine_that_trains_a_part_leaves_the_rest_as_it_is(ours: Path) -> None:
    for part, moved in (
        ("projector", ("vision.projector.", "vision.newline")),
        ("vision", ("vision.",)),
        ("language", ("decoder.", "embedding.")),
    ):
        engine: Engine = model_directory.load(ours, ONE, optim=OPTIMIZER, part=part)
        before = {name: parameter.detach().clone() for name, parameter in engine.gpt.named_parameters()}
        pictures = Pictures(VISION, Drawn())
        tokens = torch.full((2, 20), 320)
        tokens[:, pictures.positions("0") :] = 7
        tokens = tokens[:, : pictures.positions("0") + 6]
        batch = Batch(tokens, torch.where(tokens == 7, tokens, UNLABELLED), {}, pictures.shown(tokens, [["0"], ["0"]], 320))
        engine.train_step(batch, 2, lambda logprobs, _: LossOutput(-logprobs.sum(), torch.tensor(1), {}))
        changed = {name for name, parameter in engine.gpt.named_parameters() if not torch.equal(parameter, before[name])}
        assert changed
        assert all(name.startswith(moved) for name in changed)


def test_registered_model_that_sees_chats_in_text(exported: Path, subject: Subject) -> None:
    from types import SimpleNamespace

    from modelyard.adapters.mlflow.chat_model import ChatModel
    from modelyard.store.file_hash import sha256_file

    hashes = {file.name: sha256_file(file) for file in exported.iterdir()}
    chat = ChatModel()
    chat.load_context(SimpleNamespace(artifacts={"model": str(exported)}, model_config={"sha256": hashes}))
    said = "It is red, green or blue."
    answer = chat.predict([{"messages": [{"role": "user", "content": said}]}], {"max_new_tokens": 8})
    assert answer == [subject.reply([said], GREEDY)[0].text]
