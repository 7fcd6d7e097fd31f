"""Items about images: found by their images, also recoded and rescaled, in what is trained on, and by their words only where there is no image."""

from __future__ import annotations

import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image as Pillow

from modelyard.data.contamination import check
from modelyard.data.contamination.overlap import ContaminationConfig
from modelyard.formats import stored_images
from modelyard.formats.contamination import read_report
from modelyard.formats.feedback import (
    COMPARISONS,
    DEMONSTRATIONS,
    PROMPTS,
    THUMBS,
    Comparison,
    Demonstration,
    ImagePart,
    Message,
    PromptRecord,
    TextPart,
    Thumb,
    write,
)
from modelyard.formats.flags import FLAGS, Flag
from modelyard.formats.images import Image, cleaned
from modelyard.formats.questions import Question, write_questions
from modelyard.progress import silent
from tests.unit.data.feedback.test_image_files import drawn

ASKED = "which of the seven lamps beside the old harbour wall was lit before the ferry came in?"
PICTURES = {name: cleaned(drawn(seed, 64, 64)) for seed, name in enumerate(("clean", "exact", "recoded", "held_out", "ranked", "sampled"))}


def recoded(image: Image) -> Image:
    buffer = io.BytesIO()
    with Pillow.open(io.BytesIO(image.png)) as opened:
        opened.resize((130, 130), Pillow.Resampling.BICUBIC).save(buffer, "JPEG", quality=85)
    return cleaned(buffer.getvalue())


def prompt(image: Image) -> tuple[Message, ...]:
    return (Message(role="user", content=(ImagePart(image=image.id), TextPart(text=ASKED))),)


def test_item_is_found_by_its_image_wherever_training_shows_it_and_by_words_where_there_is_none(tmp_path: Path) -> None:
    feedback, benchmarks, corpus, out = (tmp_path / name for name in ("feedback", "benchmarks", "corpus", "out"))
    for directory in (feedback, benchmarks, corpus / "documents", out):
        directory.mkdir(parents=True)
    own = {"swan": "which of the two swans in the reeds by the old mill is it that has the darker feathers on its neck?"}
    trained = {"exact": PICTURES["exact"], "recoded": recoded(PICTURES["recoded"]), "other": cleaned(drawn(50, 64, 64))}
    held_out = Demonstration(id="h", split="validation", source="s", prompt=prompt(PICTURES["held_out"]), completion="the third")
    shown = [
        Demonstration(id=name, split="train", source="s", prompt=prompt(image), completion="the third") for name, image in trained.items()
    ]
    ranked = Comparison(id="r", split="reward", source="s", prompt=prompt(PICTURES["ranked"]), completions=("a", "b"), ranks=(1, 2))
    liked = Thumb(id="t", split="train", source="s", prompt=prompt(PICTURES["ranked"]), completion="a", label=True)
    told = Thumb(id="w", split="train", source="s", prompt="Say: ", completion=own["swan"], label=False)
    sampled = PromptRecord(id="p", split="train", source="user", prompt=prompt(PICTURES["sampled"]))
    write(feedback / DEMONSTRATIONS, [*shown, held_out])
    write(feedback / COMPARISONS, [ranked])
    write(feedback / THUMBS, [liked, told])
    write(feedback / PROMPTS, [sampled])
    write(feedback / FLAGS, [Flag(id="f", split="gold", source="s", prompt=prompt(PICTURES["ranked"]), completion="a", factual=False)])
    stored_images.write(feedback, [*trained.values(), PICTURES["held_out"], PICTURES["ranked"], PICTURES["sampled"]])
    stored_images.write(benchmarks, PICTURES.values())
    own |= {"lake": "how many swans does the painter show on the lake behind the windmill in the evening?"}
    write_questions(benchmarks, "seen", [Question(id=name, text=ASKED, images=(one.id,)) for name, one in PICTURES.items()])
    write_questions(benchmarks, "read", [Question(id=name, text=text, images=(PICTURES["clean"].id,)) for name, text in own.items()])
    rows = [
        {"id": "d0", "text": f"A puzzle for you: {own['lake']}", "split": "train"},
        {"id": "d1", "text": "Nothing of it.", "split": "train"},
    ]
    pq.write_table(pa.Table.from_pylist(rows), corpus / "documents" / "0.parquet")

    config = ContaminationConfig(length=50, substrings=3, ngram=13, seed=0)
    metrics = check.run(config, {"benchmarks": benchmarks, "corpus": corpus, "feedback": feedback}, out, silent)

    found = read_report(out)
    assert {(hit.item, hit.set, hit.document) for hit in found["seen"].hits["content"]} == {
        ("exact", "demonstrations", "exact"), ("recoded", "demonstrations", "recoded"), ("ranked", "reward_comparisons", "r"),
        ("ranked", "gold_comparisons", "f"), ("ranked", "thumbs", "t"), ("sampled", "prompts", "p"),
    }  # fmt: skip
    assert found["seen"].written == ("exact", "ranked", "recoded", "sampled")
    assert found["read"].written == ("lake", "swan")
    assert {(hit.item, hit.set) for hit in found["read"].hits["written"]} == {("lake", "pretrain"), ("swan", "thumbs")}
    assert metrics["contamination/seen/share"] == 4 / 6
