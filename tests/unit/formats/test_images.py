"""Images as they are stored: what is seen and nothing else, whichever file it comes in; what cannot be used is refused before it is decoded."""

from __future__ import annotations

import io
import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL.PngImagePlugin import PngInfo

from modelyard.formats import images, stored_images
from modelyard.formats.feedback import Demonstration, ImagePart, Message, TextPart, images_of, is_text, prompt_text, with_images, write
from modelyard.formats.image_copies import NearCopies
from modelyard.formats.images import Image, ImageError, cleaned, data_url, of_data_url, pixels_of, referenced
from modelyard.formats.stored_images import ImageFiles, ImageWriter
from tests.unit.data.feedback.test_image_files import animated, bomb, drawn

SCENE = np.linspace(0, 255, 24 * 40 * 3).reshape(24, 40, 3).astype(np.uint8)


def saved(image: Pillow.Image, kind: str, **settings: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **settings)
    return buffer.getvalue()


def test_equal_pixels_have_one_id_whatever_file_they_come_in_and_nothing_but_pixels_stays() -> None:
    scene, said = Pillow.fromarray(SCENE), PngInfo()
    said.add_text("Author", "somebody")
    exif = Pillow.Exif()
    exif[0x010F] = "a camera"
    turned = Pillow.Exif()
    turned[0x0112] = 6
    files = [
        saved(scene, "PNG"), saved(scene, "PNG", pnginfo=said, exif=exif), saved(scene, "BMP"), saved(scene, "TIFF"), saved(scene, "PPM"),
        saved(scene, "WEBP", lossless=True), saved(Pillow.fromarray(np.rot90(SCENE)), "PNG", exif=turned), saved(scene.convert("RGBA"), "PNG"),
    ]  # fmt: skip

    found = [cleaned(data) for data in files]

    assert {one.id for one in found} == {found[0].id}
    assert np.array_equal(pixels_of(found[0].png), SCENE)
    assert b"somebody" not in found[1].png
    assert Pillow.open(io.BytesIO(found[1].png)).info == {}
    assert (found[0].width, found[0].height) == (40, 24)


def test_transparency_is_white_grey_of_sixteen_bits_stays_grey_and_a_phones_picture_is_its_first() -> None:
    clear = np.zeros((20, 20, 4), dtype=np.uint8)
    clear[:, 10:] = (200, 0, 0, 255)
    shown = pixels_of(cleaned(saved(Pillow.fromarray(clear), "PNG")).png)
    assert (shown[0, 0].tolist(), shown[0, 19].tolist()) == ([255, 255, 255], [200, 0, 0])
    deep = np.linspace(0, 65535, 20 * 20).reshape(20, 20).astype(np.uint16)
    assert np.array_equal(pixels_of(cleaned(saved(Pillow.fromarray(deep), "PNG")).png)[..., 1], deep >> 8)
    scene = Pillow.fromarray(SCENE)
    phone = saved(scene, "MPO", save_all=True, append_images=[scene.rotate(180)], quality=95)
    assert np.abs(pixels_of(cleaned(phone).png).astype(int) - SCENE).mean() < 3
    printed = pixels_of(cleaned(saved(scene.convert("CMYK"), "JPEG", quality=95)).png)
    assert np.abs(printed.astype(int) - SCENE).mean() < 3


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "broken"),
        (b"GIF89a", "broken"),
        (drawn(1)[:100], "broken"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n", "broken"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "broken"),
        (animated(), "animated"),
        (saved(Pillow.fromarray(SCENE), "WEBP", save_all=True, append_images=[Pillow.fromarray(SCENE[::-1])]), "animated"),
        (b"\0" * (images.MOST_BYTES + 1), "too_many_bytes"),
    ],
)
def test_file_that_is_no_still_picture_is_refused_for_its_reason(data: bytes, reason: str) -> None:
    with pytest.raises(ImageError) as refused:
        cleaned(data)
    assert refused.value.reason == reason


def test_decompression_bomb_is_refused_before_it_is_unpacked() -> None:
    tracemalloc.start()
    with pytest.raises(ImageError, match="pixels") as refused:
        cleaned(bomb())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert refused.value.reason == "too_many_pixels"
    assert peak < 1 << 21


def test_artifact_gives_back_what_was_written_a_group_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_images, "GROUP_BYTES", 3000)
    monkeypatch.setattr(stored_images, "KEPT_BYTES", 5000)
    given = [cleaned(drawn(seed, 40, 24), "set", "MIT") for seed in range(60)]
    with ImageWriter(tmp_path, "a") as writer:
        for image in given[:40] + given[:5]:
            writer.add(image)
    stored_images.write(tmp_path, given[35:], "b")

    files = ImageFiles(tmp_path)

    assert set(files) == {one.id for one in given}
    order = np.random.default_rng(0).integers(0, 60, 200)
    assert all(files.row(given[place].id) == given[place] for place in order)
    assert all(np.array_equal(files.pixels(one.id), pixels_of(one.png)) for one in given)
    assert len(ImageFiles(tmp_path / "none")) == 0
    with pytest.raises(ValueError, match="no image ffff"):
        files.row("f" * 64)
    (tmp_path / "images" / "c.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match=r"c.parquet: no Parquet file of images"):
        ImageFiles(tmp_path)


def test_copy_is_found_among_hundreds_and_a_picture_with_one_shape_moved_is_none() -> None:
    others = [cleaned(drawn(seed, 64, 64)) for seed in range(300)]
    copies = NearCopies(others)
    for seed in (0, 63, 64, 299):
        again = Pillow.open(io.BytesIO(drawn(seed, 64, 64)))
        assert copies.of(cleaned(saved(again.resize((150, 150), Pillow.Resampling.BICUBIC), "JPEG", quality=80))) == others[seed].id
    assert copies.of(cleaned(drawn(300, 64, 64))) == ""
    assert NearCopies().of(others[0]) == ""

    def square(left: int, colour: tuple[int, int, int]) -> Image:
        plain = np.full((64, 64, 3), 230, dtype=np.uint8)
        plain[20:36, left : left + 16] = colour
        return images.of_pixels(plain)

    one = NearCopies([square(20, (255, 0, 0))])
    assert one.of(square(20, (255, 0, 0)))
    assert one.of(square(28, (255, 0, 0))) == one.of(square(20, (0, 0, 255))) == ""


def test_reference_is_a_data_url_or_a_file_below_its_folder(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(drawn(1))
    (tmp_path / "folder").mkdir()
    assert referenced("a.png", tmp_path) == referenced(data_url(drawn(1)), tmp_path) == of_data_url(data_url(drawn(1))) == drawn(1)
    for name, reason in (("b.png", "missing"), ("folder", "missing"), ("../x/a.png", "elsewhere"), ("/etc/hostname", "elsewhere"),
                         ("a\0.png", "elsewhere"), ("http://a.b/c.png", "behind_url"), ("data:text/plain,x", "behind_url"),
                         ("data:image/png;base64,!", "broken")):  # fmt: skip
        with pytest.raises(ImageError) as refused:
            referenced(name, tmp_path)
        assert refused.value.reason == reason, name


def test_prompts_with_images_are_read_back_and_those_without_are_written_as_before(tmp_path: Path) -> None:
    parts = (TextPart(text="a "), ImagePart(image="x"), TextPart(text="b"), ImagePart(image="y"))
    shared = {"id": "1", "split": "train", "source": "s", "completion": "c"}
    given = [
        Demonstration(prompt="text", **shared),
        Demonstration(prompt=(Message(role="user", content="hello"),), **shared),
        Demonstration(prompt=parts, **shared),
        Demonstration(prompt=(Message(role="system", content="z"), Message(role="user", content=parts)), **shared),
    ]
    write(tmp_path / "d.jsonl", given)

    lines = (tmp_path / "d.jsonl").read_text().splitlines()

    assert lines[0] == '{"id": "1", "split": "train", "source": "s", "category": "", "prompt": "text", "completion": "c"}'
    assert json.loads(lines[1])["prompt"] == [{"role": "user", "content": "hello"}]
    assert [Demonstration.model_validate_json(line) for line in lines] == given
    assert [images_of(one.prompt) for one in given] == [(), (), ("x", "y"), ("x", "y")]
    assert [is_text(one.prompt) for one in given] == [True, False, True, False]
    assert prompt_text(given[3].prompt) == "z\na b"
    assert images_of(with_images(given[3].prompt, {"x": "1", "y": "2"})) == ("1", "2")
