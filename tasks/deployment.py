"""What a Prefect server needs before it gets the deployments of ``infra/prefect.yaml``: work pools, their queues, and the watch over heartbeats.

``make deploy`` runs it (``python -m tasks.deployment FILE``) in place of a start of Prefect's CLI for each, and deploys the ``FILE`` that it
writes: ``infra/prefect.yaml`` with the image of the cluster by digest (:mod:`tasks.image`). What is there already stays as it is.
"""

from __future__ import annotations

import asyncio
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectNotFound
from prefect.workers.utilities import get_default_base_job_template_for_infrastructure_type as job_template

from modelyard.complaint import complaint
from modelyard.exit_codes import BAD_INPUT, DONE
from tasks.heartbeat import watch_heartbeats
from tasks.image import DOCS, VARIABLE, needs_image, own_image, with_image

PREFECT = Path(__file__).parents[1] / "infra/prefect.yaml"
POOLS = {"modelyard": "process", "modelyard-cluster": "kubernetes"}
"""Work pool -> where its runs are: on the machine of its worker, or jobs of a cluster."""
QUEUE = "line"
"""Has one place in each pool, so that two runs never fight for one cluster."""
SHARED_MEMORY = "3Gi"
"""Of a Kubernetes job's pod, out of its memory: Ray wants 30% of that for objects, and goes to the disk where there is less."""


async def make_pools() -> None:
    """The work pools and their queues, where they are missing."""
    async with get_client() as client:
        for name, kind in POOLS.items():
            try:
                await client.read_work_pool(name)
            except ObjectNotFound:
                template = hardened(await job_template(kind) or {})
                await client.create_work_pool(WorkPoolCreate(name=name, type=kind, base_job_template=template))
            try:
                await client.read_work_queue_by_name(QUEUE, work_pool_name=name)
            except ObjectNotFound:
                await client.create_work_queue(QUEUE, work_pool_name=name, concurrency_limit=1)


def hardened(template: dict[str, Any]) -> dict[str, Any]:
    """The base job template of a work pool; pods of a Kubernetes one run as ``infra/kubernetes.yaml``'s do: as nobody in particular, without
    privileges, under ``infra/seccomp.json``, with the secret ``modelyard`` in their environment, writing to ``/tmp`` and the claim ``scratch``
    alone; ``/dev/shm`` is for the objects of the Ray node that a driver starts beside itself.
    """
    made = deepcopy(template)
    manifest = made.get("job_configuration", {}).get("job_manifest")
    if manifest is None:
        return made
    pod = manifest["spec"]["template"]["spec"]
    pod["securityContext"] = {
        "runAsNonRoot": True,
        "runAsUser": 1000,
        "fsGroup": 1000,
        "seccompProfile": {"type": "Localhost", "localhostProfile": "modelyard.json"},
        "appArmorProfile": {"type": "Unconfined"},
    }
    pod["automountServiceAccountToken"] = False
    pod["volumes"] = [
        {"name": "tmp", "emptyDir": {}},
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": SHARED_MEMORY}},
        {"name": "scratch", "persistentVolumeClaim": {"claimName": "scratch"}},
    ]
    for container in pod["containers"]:
        locked = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
        container["securityContext"] = locked
        container["envFrom"] = [{"secretRef": {"name": "modelyard"}}]
        container["volumeMounts"] = [
            {"name": "tmp", "mountPath": "/tmp"},
            {"name": "shm", "mountPath": "/dev/shm"},
            {"name": "scratch", "mountPath": "/app/.modelyard"},
        ]
    return made


def main(file: Path) -> int:
    """Write the deployments to ``file`` and make what they need; 2 where ``MODELYARD_IMAGE`` names no image by digest."""
    declared = yaml.safe_load(PREFECT.read_text())
    try:
        image = own_image()
    except ValueError as error:
        sys.stderr.write(f"{complaint(error)}\n")
        return BAD_INPUT
    for deployment in declared["deployments"] if image is None else []:
        if needs_image(deployment):
            sys.stderr.write(f"{deployment['name']}: left out; {VARIABLE} names no image, see {DOCS}\n")
    asyncio.run(make_pools())
    watch_heartbeats()
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    file.write_text(yaml.safe_dump(with_image(declared, image), sort_keys=False))
    return DONE


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
