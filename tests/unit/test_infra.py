"""What says where the line runs, held against the schemas of those who read it: compose, Prefect. Offline. Kubernetes: test_kubernetes.py."""

import json
import os
import re
import site
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tasks.deployment import POOLS, QUEUE
from tasks.heartbeat import TAG
from tasks.image import BY_DIGEST, VARIABLE, with_image

ROOT = Path(__file__).parents[2]
INFRA = ROOT / "infra"
ORIGINS = "PREFECT_SERVER_CORS_ALLOWED_ORIGINS"


def test_compose_file_is_valid_and_publishes_loopback_only():
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(INFRA / "compose.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    services = yaml.safe_load((INFRA / "compose.yaml").read_text())["services"]
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_compose_services_gain_no_privileges_and_ours_write_to_volumes_alone():
    services = yaml.safe_load((INFRA / "compose.yaml").read_text())["services"]
    assert all("no-new-privileges:true" in service["security_opt"] for service in services.values())
    ours = [service for service in services.values() if service["image"] == "modelyard"]
    assert len(ours) == 6
    assert all(service["read_only"] is True and service["cap_drop"] == ["ALL"] for service in ours)


CONFINED = """
import ctypes, json, os, sys
import pyseccomp as seccomp
from modelyard.judges.sandbox.run import Limits, Program, run_program
profile, forbidden = json.loads(open(sys.argv[1]).read()), sys.argv[2:]
made = seccomp.SyscallFilter(seccomp.ALLOW)
for name in [*(name for rule in profile["syscalls"] for name in rule["names"]), *forbidden]:
    try: made.add_rule(seccomp.ERRNO(1), name)
    except (RuntimeError, OSError): pass
if os.getuid() == 0:
    os.setgroups([])
    os.setresgid(1000, 1000, 1000)
    os.setresuid(1000, 1000, 1000)
ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)
made.load()
limits = Limits(wall_seconds=20, cpu_seconds=5, memory_bytes=1 << 28, file_bytes=1 << 24, processes=2)
print(run_program(Program("def f(): return 1", "f", "", "def check(f): assert f() == 1"), limits).isolation or "nothing was run")
"""


@pytest.mark.parametrize(
    ("forbidden", "isolation"), [([], "namespaces+seccomp"), (["unshare"], "nothing was run"), (["mount"], "nothing was run")]
)
def test_container_profile_permits_the_sandbox_to_an_unprivileged_user(forbidden, isolation):
    """As uid 1000 without capabilities and privileges to gain, under the profile; without what it adds to a runtime's own nothing runs."""
    if subprocess.run(["unshare", "--user", "true"], check=False, capture_output=True).returncode:
        pytest.skip("this kernel gives no user namespaces")
    base = Path(os.path.realpath(sys.executable))
    everybodys = all(place.stat().st_mode & 0o1 for place in base.parents)
    python = sys.executable if everybodys or os.getuid() else f"/usr/bin/python{sys.version_info[0]}.{sys.version_info[1]}"
    if not Path(python).exists():
        pytest.skip("no interpreter that another user can run")
    command = [python, "-c", CONFINED, str(INFRA / "seccomp.json"), *forbidden]
    paths = {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), *site.getsitepackages()])}
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, env=paths)
    assert done.stdout.strip() == isolation


def test_compose_file_has_no_secret_with_a_default():
    text = (INFRA / "compose.yaml").read_text()
    services = yaml.safe_load(text)["services"]
    for service in services.values():
        for name, value in dict(service.get("environment", {})).items():
            if any(word in name for word in ("SECRET", "PASSWORD", "TOKEN", "ACCESS_KEY", "AUTH_STRING")):
                assert str(value).startswith("${"), name
                assert str(value).endswith(":?}"), name


def test_compose_prefect_server_answers_its_own_pages_and_who_knows_the_auth_string():
    services = yaml.safe_load((INFRA / "compose.yaml").read_text())["services"]
    settings = services["prefect"]["environment"]
    assert settings["PREFECT_SERVER_API_AUTH_STRING"] == "${PREFECT_API_AUTH_STRING:?}"
    assert all(origin.startswith(("http://127.0.0.1:", "http://localhost:")) for origin in settings[ORIGINS].split(","))
    clients = [name for name, one in services.items() if "PREFECT_API_URL" in one.get("environment", {})]
    assert clients
    assert all("PREFECT_API_AUTH_STRING" in services[name]["environment"] for name in clients)


def test_prefect_file_is_what_prefect_reads_and_every_deployment_can_be_imported():
    from importlib import import_module

    from prefect.cli.deploy._models import PrefectYamlModel

    declared = yaml.safe_load((INFRA / "prefect.yaml").read_text())
    PrefectYamlModel.model_validate(declared)
    for deployment in declared["deployments"]:
        module, _, name = deployment["entrypoint"].rpartition(".")
        flow = getattr(import_module(module), name)
        flow.validate_parameters(deployment["parameters"])
        assert all(parameter.get("description") for parameter in flow.parameters.properties.values()), name
        assert TAG in deployment["tags"], "else nobody notices that its process is gone"
        assert (ROOT / deployment["parameters"]["config"]["file"]).is_file()
        assert deployment["work_pool"]["name"] in POOLS
        assert deployment["work_pool"].get("work_queue_name", QUEUE) == QUEUE
    assert len({deployment["name"] for deployment in declared["deployments"]}) == len(declared["deployments"])


def named_images():
    """Every container image that a file of ``infra/`` names, ours by its word; a variable of compose by what it is without one."""

    def walk(value):
        if isinstance(value, dict):
            yield from (one for key, one in value.items() if key in ("image", "PYTHON") and isinstance(one, str))
            for one in value.values():
                yield from walk(one)
        elif isinstance(value, list):
            for one in value:
                yield from walk(one)

    for file in sorted(INFRA.glob("*.yaml")):
        for document in yaml.safe_load_all(file.read_text()):
            yield from ((file.name, re.sub(r"^\$\{\w+:-(.*)\}$", r"\1", image)) for image in walk(document))
    for line in (INFRA / "Dockerfile").read_text().splitlines():
        if found := re.match(r"ARG PYTHON=(\S+)|FROM (?!\$\{PYTHON\})(\S+)", line):
            yield "Dockerfile", found[1] or found[2]


def test_every_image_of_others_is_pinned_by_digest_and_ours_waits_for_one():
    images = set(named_images())
    ours = {("compose.yaml", "modelyard"), ("kubernetes.yaml", VARIABLE), ("prefect.yaml", VARIABLE)}  # compose builds it where it runs
    assert ours < images
    assert all(BY_DIGEST.fullmatch(image) for _, image in images - ours), images
    assert {file for file, _ in images - ours} == {"compose.yaml", "Dockerfile"}
    assert len({image for _, image in images if image.startswith("python")}) == 1, "compose builds on another Python than the Dockerfile"
    assert not BY_DIGEST.fullmatch(VARIABLE)


DIGEST = "sha256:" + "0123456789abcdef" * 4


def test_deployments_that_run_our_image_get_it_by_digest_or_are_left_out():
    declared = yaml.safe_load((INFRA / "prefect.yaml").read_text())
    names = [one["name"] for one in declared["deployments"]]
    without = with_image(declared, None)
    assert [name for name in names if name not in {one["name"] for one in without["deployments"]}] == ["weekly-cluster"]
    filled_in = with_image(declared, f"modelyard@{DIGEST}")
    assert [one["name"] for one in filled_in["deployments"]] == names
    assert VARIABLE not in json.dumps([without, filled_in])
    assert filled_in["deployments"][-1]["work_pool"]["job_variables"]["image"] == f"modelyard@{DIGEST}"
    assert VARIABLE in json.dumps(declared), "what was given stays as it was"
