"""What the public summary of training content asks that no lineage knows: who provides the model, where a file came from, which rights were kept.

The summary is that of Article 53(1)(d) of the EU's AI Act (Regulation (EU) 2024/1689), by the template of the European Commission (published
on 24 July 2025). What stays unsaid here stands in the summary as a blank that names its key; nothing is guessed. Left out: legal advice,
and whether the Act applies to a model.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from modelyard.config import Config
from modelyard.release.visible import Visible

KEY = "release.training_content"
"""Where these answers stand in a config."""
Kind = Literal["public", "licensed", "third_party", "crawled", "user", "synthetic", "other"]
"""Sections 2.1, 2.2.1, 2.2.2, 2.3, 2.4, 2.5 and 2.6 of the template."""
Month = Field(default=None, pattern=r"^(0[1-9]|1[0-2])/[0-9]{4}$")


class SourceOrigin(Config):
    """Where one source of the corpus or of the feedback came from."""

    kind: Kind | None = None
    """Section of the template that it belongs to; packages of PyPI and data sets of the Hub are ``public`` by themselves."""
    link: Visible | None = None
    """Where others find it."""
    description: Visible | None = None
    """What it holds, in words."""
    collected_from: str | None = Month
    """First month of its collection, MM/YYYY."""
    collected_until: str | None = Month
    """Last month of its collection, MM/YYYY."""


class Crawler(Config):
    """A crawler that the provider used or had used."""

    name: Visible
    """Name or identifier that it announces itself by."""
    purpose: Visible
    """What it was sent for."""
    behaviour: Visible
    """How it treats robots.txt, captchas and pay walls."""
    domains: Visible
    """Summary, or a link to one, of the most relevant domains by the size of what was taken."""


class TrainingContent(Config):
    """Answers for the public summary of training content."""

    provider: Visible | None = None
    """Name of the provider."""
    contact: Visible | None = None
    """How to reach the provider."""
    representative: Visible | None = None
    """Authorised representative in the Union, or "none needed"."""
    summary_version: Visible | None = None
    """Version of the summary, and a link to earlier ones."""
    placed_on_market: Visible | None = None
    """Date on which the model is placed on the Union market, or "not placed"."""
    base_model: Visible | None = None
    """An imported base: its name, its provider and a link to its own summary."""
    collected_until: str | None = Month
    """Latest month in which training data were collected, MM/YYYY."""
    collected_after_release: bool | None = None
    """Whether the model goes on learning from data collected later."""
    signatory: bool | None = None
    """Whether the provider signed the Code of Practice for general-purpose AI models with its chapter on copyright."""
    reservations: Visible | None = None
    """What was done before and during collection to respect reservations of rights from text and data mining."""
    illegal_content: Visible | None = None
    """What was done against illegal content beside the filters that the summary lists by itself."""
    services: Visible | None = None
    """Data of users of the provider's other services, or "none"."""
    other: Visible | None = None
    """Anything else about the processing of data."""
    crawlers: tuple[Crawler, ...] = ()
    """Crawlers of sources whose kind is ``crawled``."""
    sources: dict[str, SourceOrigin] = Field(default_factory=dict)
    """Source, as ``modelyard lineage`` names it -> where it came from."""
