"""Machines made of one: each a network namespace on a common bridge with a disk of its own, which can be torn from the others."""

import contextlib
import os
import shutil
import signal
import subprocess
import time
import uuid
from pathlib import Path
from typing import NamedTuple

import pytest

NETWORK = "10.213.87"
"""First three numbers of every address."""
ROUTER = f"{NETWORK}.1"
"""Address of this machine itself, by which the others reach its servers."""
MOUNTED = 'mount --bind "$1" "$2" && mount --bind "$3" /tmp/ray && shift 3 && exec "$@"'


def ip(*words: str) -> str:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"ip {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


class Machine(NamedTuple):
    name: str
    address: str
    interface: str
    disk: Path
    """Its disk as this machine sees it."""
    mounted: Path
    """Where it sees that disk itself: the same place on every machine."""

    def command(self, *words: str) -> list[str]:
        """What runs ``words`` on it. ``ip netns exec`` gives a process mounts of its own, so that each machine's lie over the common ones."""
        return [
            "ip",
            "netns",
            "exec",
            self.name,
            "sh",
            "-c",
            MOUNTED,
            "sh",
            str(self.disk),
            str(self.mounted),
            str(self.disk / "ray"),
            *words,
        ]

    def environment(self) -> dict[str, str]:
        """Of what runs on it."""
        return {"GLOO_SOCKET_IFNAME": self.interface, "MODELYARD_SCRATCH": str(self.mounted)}

    def processes(self) -> list[int]:
        return [int(pid) for pid in ip("netns", "pids", self.name).split()]

    def lose(self) -> None:
        """As if its cable were torn out first and its power cut then: nobody hears a farewell, and its disk is gone."""
        ip("-n", self.name, "link", "set", self.interface, "down")
        self.kill()
        shutil.rmtree(self.disk)

    def kill(self) -> None:
        """End all that runs on it."""
        deadline = time.monotonic() + 30
        while pids := self.processes():
            assert time.monotonic() < deadline, f"{self.name}: {pids} do not end"
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.1)


class Network:
    """The bridge and its machines; ``remove`` ends all of them."""

    def __init__(self, place: Path) -> None:
        self.place, self.mark, self.machines = place, uuid.uuid4().hex[:5], list[Machine]()
        self.bridge = f"my{self.mark}"
        self.mounted = place / "mounted"
        self.mounted.mkdir()
        Path("/tmp/ray").mkdir(exist_ok=True)
        ip("link", "add", self.bridge, "type", "bridge")
        ip("addr", "add", f"{ROUTER}/24", "dev", self.bridge)
        ip("link", "set", self.bridge, "up")

    def machine(self, name: str) -> Machine:
        """One more, with an empty disk."""
        number = len(self.machines) + 2
        one = Machine(f"{name}-{self.mark}", f"{NETWORK}.{number}", f"e{number}{self.mark}", self.place / name, self.mounted)
        (one.disk / "ray").mkdir(parents=True)
        ip("netns", "add", one.name)
        self.machines.append(one)
        outside = f"o{number}{self.mark}"
        ip("link", "add", outside, "type", "veth", "peer", "name", one.interface, "netns", one.name)
        ip("link", "set", outside, "master", self.bridge, "up")
        ip("-n", one.name, "addr", "add", f"{one.address}/24", "dev", one.interface)
        for interface in (one.interface, "lo"):
            ip("-n", one.name, "link", "set", interface, "up")
        ip("-n", one.name, "route", "add", "default", "via", ROUTER)
        return one

    def remove(self) -> None:
        for one in self.machines:
            one.kill()
            ip("netns", "del", one.name)
        ip("link", "del", self.bridge)


@pytest.fixture
def network(tmp_path):
    """An empty network; skips where this machine cannot have one."""
    if shutil.which("ip") is None:
        pytest.skip("no ip (package iproute2)")
    if os.geteuid():
        pytest.skip("only root makes network namespaces")
    try:
        made = Network(tmp_path)
        try:
            probe = made.machine("probe")
            subprocess.run(probe.command("true"), check=True, capture_output=True)
        except BaseException:
            made.remove()
            raise
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"this kernel gives no network namespaces: {getattr(error, 'stderr', None) or error}")
    try:
        yield made
    finally:
        made.remove()
