"""Files of images: whatever stands in them, what goes in comes out as a demonstration or is dropped with a reason, and nothing crosses a split."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import struct
import tarfile
import zlib
from collections import Counter
from pathlib import Path

import hypothesis
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import strategies as st
from PIL import Image as Pillow
from pydantic import ValidationError

from modelyard.data.corpus.document import DataError
from modelyard.data.feedback import gather
from modelyard.data.feedback.config import FeedbackConfig
from modelyard.data.feedback.image_files import ImageFile, Sieve
from modelyard.data.sources import image_rows
from modelyard.data.sources.record import Broken
from modelyard.formats.feedback import DEMONSTRATIONS, Demonstration, ImagePart, TextPart, images_of, records
from modelyard.formats.image_copies import NearCopies
from modelyard.formats.images import cleaned
from modelyard.formats.stored_images import ImageFiles
from modelyard.progress import silent


def drawn(seed: int, width: int = 48, height: int = 32, kind: str = "PNG", **settings: object) -> bytes:
    """Random blocks of 8 pixels: no two seeds look alike."""
    blocks = np.random.default_rng(seed).integers(0, 256, (-(-height // 8), -(-width // 8), 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Pillow.fromarray(blocks.repeat(8, 0).repeat(8, 1)[:height, :width]).save(buffer, kind, **settings)
    return buffer.getvalue()


def animated() -> bytes:
    buffer = io.BytesIO()
    frames = [Pillow.open(io.BytesIO(drawn(seed))) for seed in (1, 2)]
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def bomb() -> bytes:
    """A PNG of a hundred bytes that says it has 4 gigapixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 1 << 16, 1 << 16, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


BAD = {
    "image_broken": drawn(3)[:60],
    "image_animated": animated(),
    "image_too_many_pixels": bomb(),
    "image_too_small": drawn(4, 15, 40),
    "image_too_long": drawn(5, 400, 16),
    "image_too_large": drawn(6, 520, 100),
    "near_copy_of_benchmark": drawn(99, kind="JPEG", quality=90, subsampling=0),
}
ASKED = NearCopies([cleaned(drawn(99))])
KINDS = st.sampled_from([*BAD, "no_text", *["good"] * 12, "again", "copied"])
SETTINGS = hypothesis.settings(max_examples=25, deadline=None, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])


def rows_of(kinds: list[str]) -> tuple[list[tuple[bytes, str]], list[str]]:
    """Images with captions, and what each should become: "" where it is kept."""
    rows, expected = [], []
    for number, kind in enumerate(kinds):
        if kind in BAD:
            rows.append((BAD[kind], f"text {number}"))
            expected.append(kind)
        elif kind == "again" and "good" in kinds[:number]:
            rows.append(rows[kinds.index("good")])
            expected.append("duplicate")
        elif kind == "copied" and "good" in kinds[:number]:
            rows.append((drawn(100 + kinds.index("good"), kind="JPEG", quality=90, subsampling=0), f"text {number}"))
            expected.append("near_copy")
        else:
            rows.append((drawn(100 + number), " " if kind == "no_text" else f"text {number}"))
            expected.append("no_text" if kind == "no_text" else "")
    return rows, expected


def url(data: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def as_lines(rows: list[tuple[bytes, str]], path: Path) -> None:
    path.write_text("".join(json.dumps({"image": url(data), "caption": text}) + "\n" for data, text in rows))


def as_table(rows: list[tuple[bytes, str]], path: Path) -> None:
    schema = pa.schema([("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])), ("caption", pa.string())])
    table = pa.Table.from_pylist([{"image": {"bytes": data, "path": "x"}, "caption": text} for data, text in rows], schema=schema)
    pq.write_table(table, path, row_group_size=3)


def as_archive(rows: list[tuple[bytes, str]], path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        for number, (data, text) in enumerate(rows):
            for kind, content in (("jpg", data), ("json", json.dumps({"caption": text}).encode())):
                member = tarfile.TarInfo(f"a.b/{number:04}.{kind}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))


FORMS = {"jsonl": as_lines, "parquet": as_table, "tar": as_archive}


def declared(path: Path, **settings: object) -> dict:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"name": "own", "path": path.name, "sha256": digest, "licence": "MIT", "seed": 0, "held_out": 0.3, "most_side": 512, **settings}


def sieved(path: Path, **settings: object) -> list[str]:
    """What becomes of every row: "" or the reason."""
    sieve = Sieve(ImageFile.model_validate(declared(path, **settings)), path, ASKED)
    return [row.reason if isinstance(row, Broken) else "" for row in sieve.rows()]


@SETTINGS
@hypothesis.given(st.lists(KINDS, max_size=14), st.sampled_from(list(FORMS)))
def test_every_row_is_kept_or_dropped_for_its_reason_in_every_form(tmp_path: Path, kinds: list[str], form: str) -> None:
    rows, expected = rows_of(kinds)
    path = tmp_path / f"own.{form}"
    FORMS[form](rows, path)

    assert sieved(path) == expected


def test_lines_that_are_none_and_references_that_lead_nowhere_are_dropped_one_by_one(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(drawn(1))
    references = ["a.png", "b.png", "/etc/passwd", "../a.png", "https://a.b/c.png", 7, None, ""]
    lines = [json.dumps({"image": one, "caption": "c"}).encode() for one in references]
    path = tmp_path / "own.jsonl"
    path.write_bytes(b"\n".join([*lines, b"{", b"[]", b'{"image": "\xff"}', json.dumps({"image": "a.png"}).encode()]))

    assert sieved(path) == [
        "", "image_missing", "image_elsewhere", "image_elsewhere", "image_behind_url", *["read/no_image"] * 3,
        "read/invalid_json", "read/no_object", "read/invalid_utf8", "no_text",
    ]  # fmt: skip


def test_archive_without_an_image_with_two_or_cut_off_is_dropped_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "own.tar"
    members = {
        "a.txt": b"only text",
        "b.png": drawn(1),
        "b.jpg": drawn(2),
        "b.txt": b"two",
        "c.png": drawn(3),
        "c.txt": b"one",
        "d.png": drawn(4),
    }
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    assert sieved(path, answer="txt") == ["read/no_image", "read/several_images", "", "no_text"]

    path.write_bytes(path.read_bytes()[: 512 * 9 + 100])
    assert sieved(path, answer="txt")[-1] == "read/damaged_file"


def put(archive: tarfile.TarFile, name: str, content: bytes = b"", **changes: object) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    for key, value in changes.items():
        setattr(member, key, value)
    archive.addfile(member, io.BytesIO(content))


def test_hostile_archive_is_dropped_sample_by_sample_in_bounded_memory_and_nothing_leaves_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_rows, "MOST_BYTES", 20_000)
    monkeypatch.setattr(image_rows, "LONGEST", 40_000)
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "own.tar"
    files = {
        "../../0.png": drawn(1),
        "../../0.txt": b"outside",
        "1.txt": b"a link",
        "2.txt": b"a device",
        "3.png": drawn(3),
        "3.txt": b"twice",
    }
    files |= {"4.png": bytes(20_001), "4.txt": b"huge", **{f"5.{number}": bytes(15_000) for number in range(4)}}
    files |= {f"6.{number}": b"" for number in range(100)}
    files |= {
        "7.png": b"",
        "7.txt": b"empty",
        "8.png": drawn(8),
        "8.txt": b"\xff",
        "README": b"no image",
        "9.png": drawn(9),
        "9.txt": b"last",
    }
    with tarfile.open(path, "w") as archive:
        put(archive, "folder", type=tarfile.DIRTYPE)
        for name, content in files.items():
            if name == "1.txt":
                put(archive, "1.png", type=tarfile.SYMTYPE, linkname="/etc/passwd")
            if name == "2.txt":
                put(archive, "2.png", type=tarfile.CHRTYPE)
            if name == "3.txt":
                put(archive, "3.png", drawn(4))
            put(archive, name, content)

    assert sieved(path, answer="txt") == [
        "", "read/no_file", "read/no_file", "read/member_twice", "read/too_many_bytes", "read/too_many_bytes", "read/too_many_members",
        "read/no_image", "read/invalid_utf8", "read/no_image", "",
    ]  # fmt: skip
    assert [one.name for one in tmp_path.iterdir()] == ["in"]


def test_text_that_no_file_can_hold_drops_its_row(tmp_path: Path) -> None:
    lines = [("\ud800.png", "c"), ("data:image/png;base64,\u00e9", "c"), (url(drawn(1)), "\ud800"), (url(drawn(1)), "c")]
    path = tmp_path / "own.jsonl"
    path.write_text("".join(json.dumps({"image": image, "caption": text}) + "\n" for image, text in lines))

    assert sieved(path) == ["image_missing", "image_broken", "read/invalid_utf8", ""]


def test_near_copies_that_are_kept_lie_on_one_side_of_the_split(tmp_path: Path) -> None:
    rows = [pair for seed in range(200, 220) for pair in ((drawn(seed), "a"), (drawn(seed, kind="JPEG", quality=98, subsampling=0), "b"))]
    as_archive(rows, tmp_path / "own.tar")

    _, shown = gathered(tmp_path, declared(tmp_path / "own.tar", keep_near_copies=True))

    assert len(shown) == 40
    assert [one.split for one in shown[::2]] == [one.split for one in shown[1::2]]
    assert {one.split for one in shown} == {"train", "validation"}


def test_prompts_that_share_any_image_lie_on_one_side_of_the_split(tmp_path: Path) -> None:
    lines = []
    for chain in range(16):
        shown = [url(drawn(300 + 4 * chain + place)) for place in range(4)]
        for number, pair in enumerate([shown[:2], shown[2:], [shown[3], shown[0]]]):  # only the last shows that all belong together
            said = [{"from": "human", "value": "<image><image>\nWhich?"}, {"from": "gpt", "value": f"{chain} {number}"}]
            lines.append({"images": pair, "conversations": said})
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    digest = hashlib.sha256((tmp_path / "own.jsonl").read_bytes()).hexdigest()

    _, shown = gathered(tmp_path, files=({"name": "own", "path": "own.jsonl", "sha256": digest, "licence": "MIT", "shape": "messages"},))

    sides = [{one.split for one in shown[start : start + 3]} for start in range(0, 48, 3)]
    assert {len(side) for side in sides} == {1}
    assert set.union(*sides) == {"train", "validation"}


def gathered(root: Path, *tables: dict, files: tuple[dict, ...] = (), **changes: object) -> tuple[dict[str, float], list[Demonstration]]:
    settings = {
        "seed": 1, "images": tables, "files": files, "splits": {"held_out": 0.3, "gold": 0.0, "held_out_raters": 0.0},
        "pii": {"kinds": ["email"], "region": "US"}, "prefix_characters": 16, "prompts_per_user": 3, "from_corpus": False, **changes,
    }  # fmt: skip
    out = root / "out"
    out.mkdir(exist_ok=True)
    metrics = gather.run(FeedbackConfig.model_validate(settings), {}, out, silent, str(root))
    return metrics, list(records(out / DEMONSTRATIONS, Demonstration))


def test_artifact_holds_the_images_of_its_records_each_on_one_side_and_counts_what_it_dropped(tmp_path: Path) -> None:
    rows = [(drawn(seed), f"write to a{seed}{say}@b.org") for seed in range(20) for say in "xy"]
    as_table([*rows, (BAD["image_animated"], "c"), (BAD["image_broken"], "c")], tmp_path / "own.parquet")

    metrics, shown = gathered(tmp_path, declared(tmp_path / "own.parquet", question="caption"))

    images = ImageFiles(tmp_path / "out")
    sides: dict[str, set[str]] = {}
    for one in shown:
        (image,) = images_of(one.prompt)
        sides.setdefault(image, set()).add(one.split)
    assert len(shown) == 40
    assert Counter(map(len, sides.values())) == {1: 20}
    assert set(images) == set(sides)
    assert np.array_equal(images.pixels(cleaned(drawn(7)).id), np.asarray(Pillow.open(io.BytesIO(drawn(7)))))
    assert images.size(cleaned(drawn(7)).id) == (48, 32)
    assert shown[0].completion == "write to [EMAIL]"
    assert metrics["feedback/redacted/email"] == 80
    dropped = Counter(json.loads(line)["reason"] for line in (tmp_path / "out" / "dropped.jsonl").read_text().splitlines())
    assert dropped == {"image_animated": 1, "image_broken": 1}
    assert {name: metrics[f"feedback/dropped/{name}"] for name in dropped} == dropped


def test_images_of_conversations_are_kept_by_their_records_and_pinned_by_one_hash(tmp_path: Path) -> None:
    for seed in range(12):
        (tmp_path / f"{seed:02}.png").write_bytes(drawn(seed))
    image = {"type": "image_url", "image_url": {"url": "00.png", "detail": "high"}}
    parts = [{"type": "text", "text": "What is "}, image, {"type": "text", "text": "?"}]
    lines = [{"messages": [{"role": "user", "content": parts}, {"role": "assistant", "content": "Blocks."}]}]
    for seed in range(1, 12):
        llava = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": f"Blocks {seed}."}]
        lines.append({"image": f"{seed:02}.png", "conversations": llava})
    lines.append({"images": [url(BAD["image_broken"])], "conversations": llava})
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    digest = hashlib.sha256((tmp_path / "own.jsonl").read_bytes()).hexdigest()
    file = {"name": "own", "path": "own.jsonl", "sha256": digest, "licence": "MIT", "shape": "messages", "also_prompts": True}
    with pytest.raises(DataError, match=r"feedback file own: images_sha256: needed, since its lines name files: [0-9a-f]{64}$") as wanted:
        gathered(tmp_path, files=(file,))
    sums = "".join(f"{hashlib.sha256(drawn(seed)).hexdigest()}  {seed:02}.png\n" for seed in range(12))
    pinned = hashlib.sha256(sums.encode()).hexdigest()
    assert str(wanted.value).endswith(pinned)

    metrics, shown = gathered(tmp_path, files=(file | {"images_sha256": pinned},))

    assert shown[0].prompt[0].content == (TextPart(text="What is "), ImagePart(image=cleaned(drawn(0)).id), TextPart(text="?"))
    assert shown[3].prompt[0].content == (ImagePart(image=cleaned(drawn(3)).id), TextPart(text="\nWhat is it?"))
    assert set(ImageFiles(tmp_path / "out")) == {cleaned(drawn(seed)).id for seed in range(12)}
    assert metrics["feedback/dropped/image_broken"] == 1
    assert {one.split for one in shown} == {"train", "validation"}, "prompts of one wording but other images are other prompts"
    assert sum(value for name, value in metrics.items() if name.startswith("feedback/prompts/")) >= 12
    (tmp_path / "03.png").write_bytes(drawn(50))
    with pytest.raises(DataError, match="own: images_sha256: "):
        gathered(tmp_path, files=(file | {"images_sha256": pinned},))


def test_file_of_another_kind_and_one_of_which_nothing_is_left_are_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=r"path: expected a file called .jsonl, .ndjson, .parquet, .tar, got 'own.zip'"):
        ImageFile.model_validate({"name": "own", "path": "own.zip", "sha256": "0", "licence": "MIT", "seed": 0, "held_out": 0.1})
    as_lines([(drawn(1), " ")], tmp_path / "own.jsonl")
    with pytest.raises(DataError, match=r"feedback images own: .*own.jsonl: nothing is left for train \(no_text\)$"):
        gathered(tmp_path, declared(tmp_path / "own.jsonl"))
