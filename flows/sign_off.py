"""A person's signature under a release, asked for in the Prefect UI: the flow run pauses there with a form.

Whoever has the server's auth string can answer and is taken at their word (the UI has no accounts); the answer is kept as an artifact, on
the card and in the registry. No answer in time means HOLD, and the next run asks again. An answer given is never asked for twice.
"""

from __future__ import annotations

from datetime import date
from typing import Literal

from prefect import get_client, get_run_logger, pause_flow_run
from prefect.exceptions import FlowPauseTimeout
from prefect.input import RunInput
from prefect.runtime import flow_run
from prefect.states import Running

from modelyard.config import complaint, without_password
from modelyard.printable import markdown
from modelyard.release.sign_off import SignOff
from tasks.release import announce

POLL_SECONDS = 2


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


def ask(what: str, seconds: int) -> SignOff | None:
    """Pause until somebody signs ``what`` in the UI; None when nobody does within ``seconds``.

    An answer without a name or a reason is no signature: the form is shown again for the time that is left.
    """
    page = without_password(flow_run.ui_url or "")
    announce(f"waiting {seconds / 60:.0f} minutes for a signature under: {what}; resume the paused run at {page}")
    form = SignOffForm.with_initial_data(description=markdown(what), red_team_findings="")
    for attempt in range(3):
        try:
            given = pause_flow_run(wait_for_input=form, timeout=seconds, poll_interval=POLL_SECONDS, key=f"sign-off-{attempt}")
        except FlowPauseTimeout:
            go_on()
            return None
        try:
            return given.answer()
        except ValueError as error:
            get_run_logger().warning("a signature needs a name and a reason in visible text: %s", complaint(error))
    return None


def go_on() -> None:
    """Set the paused run running again, so that it can end with its result."""
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(flow_run.id, Running(), force=True)
