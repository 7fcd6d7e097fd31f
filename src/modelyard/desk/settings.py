"""What an installation of the desk decides: who may be let in, how fast, and from which agreement on a labeler is taken."""

from __future__ import annotations

from pydantic import Field, model_validator

from modelyard.closest import did_you_mean
from modelyard.complaint import without_password
from modelyard.config import Config
from modelyard.desk.red_team.families import FAMILIES

ATTACKS = ("encoding", "many_shot", "multi_turn")
"""Families that measure and never train, by default: one that changes the letters, one that fills the context, one that takes turns."""


class ScreeningLimits(Config):
    """InstructGPT's soft limits (arXiv:2203.02155, appendix B.1): shown beside each labeler's figures, and a person decides."""

    sensitive: float = Field(default=0.75, ge=0, le=1)
    """Least share of answers on whose sensitive speech a labeler agrees with the reference."""
    ranking: float = Field(default=0.75, ge=0, le=1)
    """Least share of pairs that a labeler orders as the reference does."""
    demonstration: float = Field(default=6.0, ge=1, le=7)
    """Least mean grade of a labeler's demonstrations, from 1 to 7."""


class DeskConfig(Config):
    """Settings of ``modelyard desk``."""

    hosts: tuple[str, ...] = ()
    """Names under which the desk may be asked for, beside those of this machine's loopback; a proxy's public name belongs here."""
    proxy_header: str = ""
    """Header in which a proxy on this machine names who has signed in; "": accounts have passwords."""
    secure_cookies: bool = False
    """Whether cookies travel over TLS alone; for a desk behind a proxy with TLS."""
    session_hours: float = Field(default=12.0, gt=0)
    """Hours after which somebody signs in again."""
    sign_ins_per_minute: int = Field(default=10, ge=1)
    """Most attempts to sign in of one name, and of one address."""
    posts_per_minute: int = Field(default=240, ge=1)
    """Most forms of one account."""
    lapse_hours: float = Field(default=24.0, gt=0)
    """Hours after which an item that a labeler left open may be given to another."""
    attention_every: int = Field(default=20, ge=2)
    """One in so many items is one whose answer is known, where a batch has such items."""
    random_share: float = Field(default=0.25, ge=0, le=1)
    """Share of items that are given in random order rather than the most valuable first; agreement is reported of them too."""
    screening: ScreeningLimits = ScreeningLimits()
    """From which figures on a labeler is recommended for work."""
    targets: tuple[str, ...] = ()
    """Servers that the red team may talk to, as ``http://host:port/v1#MODEL``."""
    answer_tokens: int = Field(default=512, ge=1)
    """Longest answer of a target, tokens."""
    regression_families: tuple[str, ...] = ATTACKS
    """Attack families whose findings are measured and never trained on."""

    @model_validator(mode="after")
    def _known(self) -> DeskConfig:
        for family in self.regression_families:
            if family not in FAMILIES:
                raise ValueError(f"regression_families: {family!r} is none of {', '.join(FAMILIES)}{did_you_mean(family, FAMILIES)}")
        for target in self.targets:
            if not target.startswith(("http://", "https://")) or not target.partition("#")[2]:
                raise ValueError(f"targets: {without_password(target)}: expected http://host:port/v1#MODEL")
        if len(self.addresses) < len(set(self.targets)):
            raise ValueError(f"targets: {', '.join(self.addresses)}: two of them are shown alike")
        return self

    @property
    def addresses(self) -> dict[str, str]:
        """Each target by its address as it is shown and kept, without a password."""
        return {without_password(target): target for target in self.targets}
