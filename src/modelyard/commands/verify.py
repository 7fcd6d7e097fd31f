"""``modelyard verify``: whether a release, a card or a store is what was recorded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from modelyard.commands.command import say

WHAT = typer.Argument(
    metavar="NAME[@ALIAS|/VERSION]|CARD|URL",
    help="A registered model (production; models:/ may stand before it), a model card's file, or the URL of a store.",
)
URL = typer.Option("--store", help="URL of the artifact store of a release or of a card's; without it, the store of this directory's runs.")
PUBLIC_KEY = typer.Option(help="Public key (PEM) by which the release must be signed, or what a store has of signatures.")
CERTIFICATES = typer.Option(help="Certificates (PEM) that the signer's must come from.")


def verify(
    what: Annotated[str, WHAT],
    store: Annotated[str | None, URL] = None,
    public_key: Annotated[Path | None, PUBLIC_KEY] = None,
    certificates: Annotated[list[Path] | None, CERTIFICATES] = None,
) -> int:
    """Check a release: every file and manifest against its hash, the store against the registry. Or a card against the registry, or a store
    against itself: that an artifact is gone shows there by what was made of it, and of a decision or an export nothing is; check the release.

    Exit code 1: something is not what was recorded; every such thing is a line.
    """
    from modelyard.adapters.signing import believed

    trusted = believed(public_key, certificates or ())
    if "://" in what:
        if store:
            raise ValueError(f"--store {store}: the store to check is {what}")
        return verify_store(what, trusted)
    if Path(what).is_file():
        if store and not trusted:
            raise ValueError(f"--store {store}: of a card the store is asked for its signature only, by --public-key or --certificates")
        return verify_card(Path(what), store, trusted)
    return verify_release(what, store, trusted)


def verify_store(url: str, trusted: Any) -> int:
    """A line for everything in a store that is not what was recorded, or not signed as ``trusted`` says."""
    from modelyard.adapters.mlflow.conviction import of_store
    from modelyard.execution import ExecutionConfig
    from modelyard.store.artifacts import Store

    store = Store(url, ExecutionConfig().scratch)
    store.require_artifacts()
    return said(url, list(of_store(store, trusted)))


def verify_card(card: Path, url: str | None, trusted: Any) -> int:
    """The releases whose card the file is, and whether they are signed where ``trusted`` says by whom."""
    from modelyard.adapters.mlflow.conviction import of_card, released_with_card
    from modelyard.adapters.mlflow.registry import Registry
    from modelyard.adapters.mlflow.server import answering, tracking_uri
    from modelyard.commands.provenance import store_of

    problems = []
    with answering(tracking_uri()):
        found = [(Registry(tracking_uri(), one.name), one) for one in released_with_card(Registry(tracking_uri(), ""), card)]
        lines = [f"{card} is the card of {one.name} version {one.version}: {registry.tag(one, 'decision')}" for registry, one in found]
        for registry, one in found if trusted else ():
            problems += of_card(registry, one, card, store_of(registry, one, url), trusted)
    for line in lines:
        say(line)
    return said(str(card), problems if found else ["no registered version has this card"])


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
    count = f"{len(problems)} thing{' is' if len(problems) == 1 else 's are'} not what was recorded"
    say(f"{what}: {count if problems else 'everything is what was recorded'}")
    return FAILED if problems else DONE
