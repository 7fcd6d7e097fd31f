"""Which model answers now, and the thread that looks whether a registry's alias names another.

A new version is loaded beside the one that answers, then takes the new requests; the old one ends what it took in and is
forgotten. Where the alias names nothing any more, as after a rollback of the first version, nothing answers. A registry that cannot be
asked, or a version that cannot be loaded, changes nothing. A version on trial has one of its own (:mod:`modelyard.serving.beside`).
"""

from __future__ import annotations

from collections.abc import Callable

from modelyard.complaint import complaint
from modelyard.serving.lookout import Lookout
from modelyard.serving.served_model import ServedModel


class NothingReleasedError(ValueError):
    """An alias that names no version."""


class Current:
    """The model that takes new requests."""

    def __init__(self, name: str, model: ServedModel, source: str = "") -> None:
        """``source``: what the alias named when ``model`` was loaded."""
        self.name, self.source = name, source
        self.model: ServedModel | None = model

    def swap(self, model: ServedModel | None, source: str) -> None:
        """Give new requests to ``model``, or to nobody; returns when the old one has ended what it took in."""
        before, self.model, self.source = self.model, model, source
        if before is not None:
            before.batcher.close()

    def close(self) -> None:
        """End what was taken in and take in nothing more."""
        if self.model is not None:
            self.model.batcher.close()


class Follower(Lookout):
    """Looks whether an alias names another version."""

    def __init__(
        self,
        current: Current,
        named: Callable[[], str],
        load: Callable[[str], ServedModel],
        seconds: float,
        say: Callable[[str], None],
    ) -> None:
        """``named``: the version that the alias names, or NothingReleasedError; ``load``: the model of such a version."""
        self.current, self.named, self.load = current, named, load
        super().__init__(f"{current.name}: not followed", seconds, say)

    def look(self) -> None:
        """Swap the model where the alias has moved."""
        try:
            source = self.named()
        except NothingReleasedError as error:
            if self.current.model is not None:
                self.current.swap(None, "")
                self.say(f"{self.current.name}: {complaint(error)}; nothing answers")
            return
        if source == self.current.source:
            return
        model = self.load(source)
        self.current.swap(model, source)
        self.say(f"{self.current.name}: {model.fingerprint} answers now")
