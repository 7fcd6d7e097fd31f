"""The project's own container image, named by digest, where ``infra/`` leaves it open.

A tag can be moved to another image after it was looked at, a digest cannot, and the digest of an image that a team builds is known once it
is in the team's registry. So ``infra/kubernetes.yaml`` and ``infra/prefect.yaml`` name it by a word that no cluster takes for an image
(upper case), and ``MODELYARD_IMAGE`` says what it is: :mod:`tasks.kubernetes` prints the cluster's manifests with it, ``make deploy`` puts
it into the deployments that run as Kubernetes jobs. The images of others are pinned in ``infra/`` itself.
"""

from __future__ import annotations

import os
import re
from copy import deepcopy
from typing import Any

VARIABLE = "MODELYARD_IMAGE"
"""Of the environment, and the word that stands for the image in ``infra/``."""
BY_DIGEST = re.compile(r"[a-z0-9][a-z0-9._-]*(:[0-9]+)?(/[a-z0-9][a-z0-9._-]*)*(:[\w][\w.-]{0,127})?@sha256:[0-9a-f]{64}")
"""A reference of the OCI distribution specification: registry and name, a tag if one likes, and a digest."""
DOCS = "docs/how-to/cluster.md"


def own_image() -> str | None:
    """What ``MODELYARD_IMAGE`` names; None where it is not set. Raises ValueError where that is no image by digest."""
    named = os.environ.get(VARIABLE)
    if not named:
        return None
    if not BY_DIGEST.fullmatch(named):
        raise ValueError(f"{VARIABLE} {named}: expected an image by digest, such as registry.example/modelyard@sha256:...; see {DOCS}")
    return named


def with_image(declared: dict[str, Any], image: str | None) -> dict[str, Any]:
    """The deployments of ``infra/prefect.yaml`` with ``image``; without one, those that need it are left out."""
    made = deepcopy({key: value for key, value in declared.items() if key != "definitions"})  # anchors, which YAML has followed
    made["deployments"] = [one for one in made["deployments"] if image or not needs_image(one)]
    for deployment in filter(needs_image, made["deployments"]):
        deployment["work_pool"]["job_variables"]["image"] = image
    return made


def needs_image(deployment: dict[str, Any]) -> bool:
    """Whether a deployment's runs are containers of our image."""
    return bool(deployment["work_pool"].get("job_variables", {}).get("image") == VARIABLE)
