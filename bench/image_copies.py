"""How well copies of pictures are found, and how many others are taken for copies.

``python -m bench.image_copies [--cache DIR]`` takes the pictures of easy-VQA and OpenMoji, changes 300 of each as copies in the wild are changed, and
looks them up among all; and it looks up every picture to train on among those that a benchmark keeps, which holds no copy of them.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import typer
from PIL import Image as Pillow

from bench.program import program
from modelyard.data.feedback import image_sets
from modelyard.formats.image_copies import NearCopies
from modelyard.formats.images import Image, cleaned
from modelyard.stats.estimate import proportion

LOOKED_UP = 300
PACKAGES: tuple[Literal["easy_vqa", "emoji"], ...] = ("easy_vqa", "emoji")


def saved(picture: Pillow.Image, **how: object) -> bytes:
    """A picture as a file."""
    buffer = io.BytesIO()
    picture.save(buffer, **how)  # type: ignore[arg-type]
    return buffer.getvalue()


def resized(picture: Pillow.Image, factor: float) -> bytes:
    """A picture of other size as a PNG."""
    size = (round(picture.width * factor), round(picture.height * factor))
    return saved(picture.resize(size, Pillow.Resampling.BICUBIC), format="PNG")


CHANGES: dict[str, Callable[[Pillow.Image], bytes]] = {
    "JPEG, quality 75": lambda picture: saved(picture, format="JPEG", quality=75),
    "JPEG, quality 50": lambda picture: saved(picture, format="JPEG", quality=50),
    "twice the size": lambda picture: resized(picture, 2.0),
    "half the size": lambda picture: resized(picture, 0.5),
}


def changed(image: Image, change: Callable[[Pillow.Image], bytes]) -> Image:
    """The image as it is stored once somebody has changed it so."""
    with Pillow.open(io.BytesIO(image.png)) as opened:
        return cleaned(change(opened.convert("RGB")))


def main(
    cache: Annotated[Path, typer.Option(help="Where the packages are kept.")] = Path(".modelyard/scratch/cache"),
    seed: Annotated[int, typer.Option(help="Of the choice of pictures.")] = 0,
) -> None:
    """Print the shares that are found [95% interval], and how many others are taken for copies."""
    for package in PACKAGES:
        made = image_sets.made(image_sets.ImageSet(name=package, package=package, seed=0, held_out=0.05), cache)
        pictures = list(made.images.values())
        known = NearCopies(pictures)
        chosen = np.random.default_rng(seed).choice(len(pictures), LOOKED_UP, replace=False)
        for name, change in CHANGES.items():
            found = sum(bool(known.of(changed(pictures[i], change))) for i in chosen)
            print(f"{package}: {name}: found {proportion(found, LOOKED_UP)}")
        taken = sum(reason == "near_copy_of_benchmark" for _, reason in made.dropped)
        asked = len({pair.image.id for pairs in made.asked.values() for pair in pairs})
        print(f"{package}: {taken} pictures to train on are taken for copies of the {asked} that the benchmark keeps")


if __name__ == "__main__":
    sys.exit(program(main))
