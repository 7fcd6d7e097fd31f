"""A flow run whose process is gone without a word (kill -9, a lost machine) is shown as crashed, not as running for ever.

Every flow run sends Prefect a heartbeat (PREFECT_FLOWS_HEARTBEAT_FREQUENCY, 180 s by default); the automation made here waits for the next one.
Without it such a run would also keep its place in a work queue of one, and nothing behind it would start. It looks at runs with this project's tag
only, so a shared server's other flows are left alone. A run by hand makes it where it runs, ``make deploy`` (:mod:`tasks.deployment`) for the
deployments.
"""

from __future__ import annotations

from datetime import timedelta

from prefect.automations import Automation, ChangeFlowRunState, EventTrigger, Posture, ResourceSpecification
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.exceptions import PrefectHTTPStatusError

from modelyard.log import logger

TAG = "modelyard"
"""On every run of this project: by hand (:mod:`tasks.session`) and of every deployment."""
NAME = "modelyard: a run without heartbeat has crashed"
PATIENCE = timedelta(minutes=10)
"""Three heartbeats and a little."""
HEARTBEAT = "prefect.flow-run.heartbeat"
AT_REST = ("Completed", "Failed", "Cancelled", "Crashed", "Paused", "Suspended", "AwaitingRetry")
"""States in which no further heartbeat is owed."""


def watch_heartbeats(patience: timedelta = PATIENCE) -> None:
    """Make the automation on the server at PREFECT_API_URL, unless it is there; a server that takes none is warned of."""
    try:
        with get_client(sync_client=True) as client:
            if not client.read_automations_by_name(NAME):
                automation(patience).create()
    except PrefectHTTPStatusError as error:
        logger("modelyard.heartbeat").warning("no watch over heartbeats: %s", error.response.text[:200])


def automation(patience: timedelta) -> Automation:
    """Marks a run of this project as crashed when nothing was heard of it for ``patience``."""
    return Automation(
        name=NAME,
        description="Marks a flow run as crashed when its process has stopped sending heartbeats.",
        trigger=EventTrigger(
            match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
            match_related=ResourceSpecification({"prefect.resource.id": [f"prefect.tag.{TAG}"]}),
            for_each={"prefect.resource.id"},
            after={HEARTBEAT},
            expect={HEARTBEAT, *(f"prefect.flow-run.{state}" for state in AT_REST)},
            posture=Posture.Proactive,
            threshold=1,
            within=patience,
        ),
        actions=[ChangeFlowRunState(name=None, state=StateType.CRASHED, force=False, message="its process is gone: no heartbeat any more")],
    )
