"""``modelyard verify``: whether a release, a card or a store is what was recorded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from modelyard.commands.command import say

WHAT = typer.Argument(
    metavar="NAME[@ALIAS|/VERSION]|CARD|URL", help="A registered model (production), a model card's file, or the URL of a store."
)
URL = typer.Option("--store", help="URL of the artifact store of a release; without it, the store of this directory's runs.")
PUBLIC_KEY = typer.Option(help="Public key (PEM) by which the release must be signed.")
CERTIFICATES = typer.Option(help="Certificates (PEM) that the signer's must come from.")


def verify(
    what: Annotated[str, WHAT],
    store: Annotated[str | None, URL] = None,
    public_key: Annotated[Path | None, PUBLIC_KEY] = None,
    certificates: Annotated[list[Path] | None, CERTIFICATES] = None,
) -> int:
    """Check a release, a card or a store: every file and manifest against its hash, the store against the registry.

    Exit code 1: something is not what was recorded; every such thing is a line.
    """
    from modelyard.adapters.signing import Trusted

    if public_key and certificates:
        raise ValueError("--public-key and --certificates: one of both says whose signature is believed")
    for file in (*([public_key] if public_key else []), *(certificates or ())):
        if not file.is_file():
            raise FileNotFoundError(2, "no such file", str(file))
    trusted = Trusted(public_key, tuple(certificates or ())) if public_key or certificates else None
    if "://" in what:
        return verify_store(what)
    if Path(what).is_file():
        return verify_card(Path(what))
    return verify_release(what, store, trusted)


def verify_store(url: str) -> int:
    """A line for everything in a store that is not what was recorded."""
    from modelyard.adapters.mlflow.conviction import of_store
    from modelyard.execution import ExecutionConfig
    from modelyard.store.artifacts import Store

    store = Store(url, ExecutionConfig().scratch)
    store.require_artifacts()
    return said(url, list(of_store(store)))


def verify_card(card: Path) -> int:
    """The releases whose card the file is."""
    from modelyard.adapters.mlflow.conviction import released_with_card
    from modelyard.adapters.mlflow.registry import Registry
    from modelyard.adapters.mlflow.server import answering, tracking_uri

    def verdict(one: Any) -> str:
        return Registry(tracking_uri(), one.name).tag(one, "decision")

    with answering(tracking_uri()):
        found = released_with_card(Registry(tracking_uri(), ""), card)
        lines = [f"{card} is the card of {one.name} version {one.version}: {verdict(one)}" for one in found]
    for line in lines:
        say(line)
    return said(str(card), [] if found else ["no registered version has this card"])


def verify_release(model: str, url: str | None, trusted: Any) -> int:
    """A line for everything in a release that is not what was recorded."""
    from modelyard.adapters.mlflow.conviction import of_release
    from modelyard.adapters.mlflow.registry import Registry
    from modelyard.adapters.mlflow.server import answering, tracking_uri
    from modelyard.commands.provenance import EVERY_VERSION, registered, store_of

    with answering(tracking_uri()):
        name, version = registered(model)
        registry = Registry(tracking_uri(), name)
        for key in EVERY_VERSION:
            registry.tag(version, key)
        problems = of_release(registry, version, store_of(registry, version, url), trusted)
    if not trusted and "signature" in version.tags:
        say("signed; --public-key or --certificates checks the signature")
    return said(f"{name} version {version.version}", problems)


def said(what: str, problems: Sequence[str]) -> int:
    """Print what does not hold, or that all does; the exit code."""
    from modelyard.exit_codes import DONE, FAILED

    for line in problems:
        say(line)
    say(f"{what}: {f'{len(problems)} things are not what was recorded' if problems else 'everything is what was recorded'}")
    return FAILED if problems else DONE
