"""A small real model that is shown images, with weights large enough to have opinions, and images in memory."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from modelyard.execution import ExecutionConfig
from modelyard.formats.feedback import ImagePart, Message, Prompt, TextPart
from modelyard.model import image_token, model_directory
from modelyard.model.network.model_config import ModelConfig
from modelyard.model.network.vision import VisionConfig
from modelyard.model.training.engine import Engine
from modelyard.model.training.trainer import History

from .. import small_model

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
VISION = VisionConfig(tile=16, patch=8, grids=((1, 1), (1, 2), (2, 1), (2, 2)), layers=2, hidden=32, heads=4, ffn_hidden=48)
SIZES = ((16, 16), (33, 20), (17, 50), (40, 40), (90, 7), (32, 31))
"""Width and height: a tile, wide, tall, square, a strip that is mostly padding, and one pixel short of a grid."""


class Drawn:
    """Images of random pixels, by the number of their size."""

    def size(self, image: str) -> tuple[int, int]:
        return SIZES[int(image)]

    def pixels(self, image: str) -> np.ndarray:
        width, height = self.size(image)
        return np.random.default_rng(int(image)).integers(0, 256, (height, width, 3), dtype=np.uint8)


def write(root: Path) -> Path:
    """``root/seeing``: two layers of width 32 and a patch encoder, all random; returns it."""
    small_model.write(root)
    settings = root / "tokens" / "tokenizer_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"chat_template": TEMPLATE, "bos_token": "<|endoftext|>"}))
    image_token.add(root / "tokens", root / "with_image")
    shape = ModelConfig(
        style="llama", layers=2, hidden=32, heads=4, kv_heads=2, ffn_hidden=64, seq_len=256, vocab_size=321,
        tie_embeddings=True, rope_base=1e4, norm_eps=1e-5, init_std=0.3, vision=VISION,
    )  # fmt: skip
    engine = Engine(shape, ExecutionConfig(threads=1), seed=5, precision="fp32", part="all")
    for name, parameter in engine.gpt.named_parameters():
        if name.startswith("vision.") and parameter.dim() == 1:  # biases that are 0 would hide that they are forgotten
            parameter.add_(0.1 * np.random.default_rng(len(name)).standard_normal())
    model_directory.write(engine, root / "with_image", History(), root / "seeing")
    return root / "seeing"


def asked(image: str, text: str = "red or blue?") -> Prompt:
    """A user's message with text, the image, more text and the image of one tile."""
    parts = (TextPart(text="It is "), ImagePart(image=image), TextPart(text=text), ImagePart(image="0"))
    return (Message(role="user", content=parts),)
