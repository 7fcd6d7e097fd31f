"""What KubeRay 1.6 takes of a RayCluster, for the parts that our manifest uses; anything else is refused.

By its reference (ray.io/v1): every field is named and typed, pods are held against Kubernetes' own schema, and start parameters, which KubeRay
hands on to ``ray start`` as ``--KEY=VALUE``, against the options of the Ray that is installed.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel
from ray.scripts.scripts import start

OPTIONS = {option.removeprefix("--") for parameter in start.params for option in parameter.opts}
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, alias_generator=to_camel)


def _options(given: dict[str, str]) -> dict[str, str]:
    assert given.keys() <= OPTIONS, f"ray start has no {sorted(given.keys() - OPTIONS)}"
    return given


StartParameters = Annotated[dict[str, str], AfterValidator(_options)]


class PodMetadata(Strict):
    labels: dict[str, str]


class Template(Strict):
    metadata: PodMetadata
    spec: dict[str, Any]

    @model_validator(mode="after")
    def _is_a_pod(self) -> "Template":
        import kubernetes_validate

        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "ray", **self.metadata.model_dump()}, "spec": self.spec}
        kubernetes_validate.validate(pod, "1.33", strict=True)
        return self


class Head(Strict):
    service_type: Literal["ClusterIP"]  # anything else opens it to others
    ray_start_params: StartParameters
    template: Template


class Workers(Strict):
    group_name: Name
    replicas: int = Field(ge=0)
    min_replicas: int = Field(ge=0)
    max_replicas: int = Field(ge=0)
    ray_start_params: StartParameters
    template: Template

    @model_validator(mode="after")
    def _between(self) -> "Workers":
        assert self.min_replicas <= self.replicas <= self.max_replicas
        return self


class Spec(Strict):
    ray_version: str = Field(pattern=r"^\d+\.\d+\.\d+$")
    head_group_spec: Head
    worker_group_specs: list[Workers] = Field(min_length=1)

    @model_validator(mode="after")
    def _told_apart(self) -> "Spec":
        names = [group.group_name for group in self.worker_group_specs]
        assert len(set(names)) == len(names), f"two groups of one name: {names}"
        return self


class Metadata(Strict):
    name: Name
    namespace: Name


class RayCluster(Strict):
    api_version: Literal["ray.io/v1"]
    kind: Literal["RayCluster"]
    metadata: Metadata
    spec: Spec
