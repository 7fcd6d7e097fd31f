"""Machines within one: each has a network address, a disk, Ray's directory and processes of its own, and loses all of them at once.

Linux namespaces, without root where the kernel allows it: :func:`command` starts a program in a world that ends with it,
in which :func:`switched` makes a switch and :class:`Machine` what hangs on it.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

OWN = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
WORLD = OWN if os.getuid() == 0 else [*OWN, "--user", "--map-current-user", "--keep-caps"]
SWITCH = "10.77.0.1"
"""Where the world itself is reached by its machines."""


def command(*program: str) -> list[str]:
    """What runs ``program`` in a world of its own."""
    return [*WORLD, *program]


def possible() -> bool:
    """Whether this kernel and user may have a world, and ``ip`` is there."""
    made = "ip link set lo up && ip link add probe type bridge"
    return subprocess.run(command("sh", "-c", made), capture_output=True).returncode == 0


def switched() -> None:
    """The switch of this world."""
    for line in ("link set lo up", "link add switch type bridge", f"addr add {SWITCH}/24 dev switch", "link set switch up"):
        subprocess.run(["ip", *line.split()], check=True)


class Machine:
    """One on the switch; ``disk`` is an empty directory of its own, at the same path on every machine."""

    def __init__(self, number: int, disk: Path, environment: Mapping[str, str]) -> None:
        self.address, self._environment = f"10.77.0.{number}", {**os.environ, **environment}
        disk.mkdir(parents=True, exist_ok=True)
        Path("/tmp/ray").mkdir(exist_ok=True)
        own = [f"mount -t tmpfs none {place}" for place in (disk, "/tmp/ray")]
        self._unshare = subprocess.Popen([*OWN, "sh", "-c", " && ".join([*own, "echo up", "exec sleep infinity"])], stdout=subprocess.PIPE)
        assert self._unshare.stdout is not None
        assert self._unshare.stdout.readline() == b"up\n"
        children = Path(f"/proc/{self._unshare.pid}/task/{self._unshare.pid}/children")
        self._first = int(children.read_text().split()[0])
        self.disk = Path(f"/proc/{self._first}/root") / disk.relative_to("/")
        """The disk as the world sees it."""
        port = f"port{number}"
        for line in (f"link add {port} type veth peer name eth0 netns {self._first}", f"link set {port} master switch up"):
            subprocess.run(["ip", *line.split()], check=True)
        for line in ("link set lo up", f"addr add {self.address}/24 dev eth0", "link set eth0 up"):
            self.run("ip", *line.split())

    def start(self, *program: str, cwd: Path | None = None) -> subprocess.Popen[str]:
        """A program on this machine."""
        inside = ["nsenter", "--target", str(self._first), "--net", "--mount", "--pid", f"--wd={cwd or os.getcwd()}"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen([*inside, *program], env=self._environment, text=True, **pipes)  # type: ignore[call-overload, no-any-return]

    def run(self, *program: str) -> None:
        """Run a program to its end. Raises RuntimeError where it fails."""
        process = self.start(*program)
        out, err = process.communicate()
        if process.returncode:
            raise RuntimeError(f"{program}: {out}{err}")

    def joins(self, python: str, *how: str) -> None:
        """Start Ray on it."""
        settings = ["--disable-usage-stats", "--num-cpus=1", f"--object-store-memory={1 << 28}", f"--node-ip-address={self.address}"]
        self.run(python, "-m", "ray.scripts.scripts", "start", *settings, *how)

    def lost(self) -> None:
        """Power off: every process is killed, disk and network are gone."""
        self._unshare.kill()
        self._unshare.wait()


def until(condition: Callable[[], object], seconds: float, process: subprocess.Popen[str], what: str) -> None:
    """Wait for something while a process goes on."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, what
        time.sleep(0.05)
