"""A person's signature under a release, asked for in the Prefect UI: the flow run pauses there with a form.

Whoever has the server's auth string can answer and is taken at their word (the UI has no accounts); the answer is kept as an artifact, on
the card and in the registry. No answer in time means HOLD, and the next run asks again. An answer given is never asked for twice; one
that is given at the desk while the run is paused resumes it.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from typing import Literal
from uuid import UUID

from prefect import get_client, get_run_logger, pause_flow_run
from prefect.exceptions import FlowPauseTimeout, NotPausedError, PrefectException
from prefect.flow_runs import resume_flow_run
from prefect.input import RunInput
from prefect.runtime import flow_run
from prefect.states import Running

from modelyard.complaint import complaint, without_password
from modelyard.log import logger
from modelyard.printable import markdown
from modelyard.release.sign_off import SignOff
from tasks.release import announce

POLL_SECONDS = 2
ATTEMPTS = 3
LOG = logger(__name__)
Kept = Callable[[], SignOff | None]
"""The signature that was given in another way, such as at the desk; None while there is none."""


class SignOffForm(RunInput):
    """The form."""

    decision: Literal["PROMOTE", "HOLD"]
    name: str
    """Who signs."""
    reason: str
    red_team_findings: str = ""
    """What was tried against the model and what came of it."""

    def answer(self) -> SignOff:
        """The signature, of today. Raises ValueError where name or reason is not visible text."""
        said = {key: getattr(self, key) for key in ("decision", "name", "reason", "red_team_findings")}
        return SignOff.model_validate({**said, "on": date.today()})


def ask(what: str, seconds: int, kept: Kept, at_desk: bool = False) -> SignOff | None:
    """Pause until somebody signs ``what`` in the UI, or elsewhere, so that it is ``kept``; None when nobody does within ``seconds``.

    An answer without a name or a reason is no signature, nor with ``at_desk`` is any that is not kept: the form is shown again, in the first case
    twice.
    """
    with resumed_by(kept):
        return filled_in(what, seconds, kept if at_desk else None)


def filled_in(what: str, seconds: int, only: Kept | None) -> SignOff | None:
    """:func:`ask`, of whoever resumes the run; ``only``: the one place where a signature counts."""
    where = "sign it at the desk" if only else f"resume the paused run at {without_password(flow_run.ui_url or '')}"
    announce(f"waiting {seconds / 60:.0f} minutes for a signature under: {what}; {where}")
    form, until = SignOffForm.with_initial_data(description=markdown(what), red_team_findings=""), time.monotonic() + seconds
    for attempt in itertools.count() if only else range(ATTEMPTS):
        left = max(1, round(until - time.monotonic()))
        try:
            given = pause_flow_run(wait_for_input=form, timeout=left, poll_interval=POLL_SECONDS, key=f"sign-off-{attempt}")
        except FlowPauseTimeout:
            go_on()
            return None
        if signed := counted(given, only):
            return signed
    return None


def counted(given: SignOffForm, only: Kept | None) -> SignOff | None:
    """The signature of somebody who has resumed the run; None, with a word, where there is none."""
    try:
        if only is None:
            return given.answer()
        if signed := only():
            return signed
        get_run_logger().warning("this release is signed at the desk alone (release.sign_at); what the form said does not count")
    except ValueError as error:
        what = "what is kept cannot be read" if only else "a signature needs a name and a reason in visible text"
        get_run_logger().warning("%s: %s", what, complaint(error))
    except OSError as error:
        get_run_logger().warning("whether the release was signed at the desk is not known: %s", complaint(error))
    return None


@contextmanager
def resumed_by(kept: Kept) -> Iterator[None]:
    """Within it a signature that is kept elsewhere resumes the run as soon as it is paused, as the form would."""
    ended = threading.Event()
    watcher = threading.Thread(target=watch, args=(kept, flow_run.id, ended), name="signatures", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()


def watch(kept: Kept, run: str, ended: threading.Event) -> None:
    """Look for a signature until there is one and the run has been resumed with it, or the waiting has ended."""
    while not ended.wait(POLL_SECONDS):
        try:
            if answer := kept():
                resume_flow_run(UUID(run), run_input=answer.model_dump(mode="json", exclude={"on"}))
                return
        except NotPausedError:
            continue  # it is about to be
        except (ValueError, OSError, RuntimeError, PrefectException) as error:
            LOG.warning("whether the release was signed elsewhere is not known: %s", complaint(error))


def go_on() -> None:
    """Set the paused run running again, so that it can end with its result."""
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(flow_run.id, Running(), force=True)
