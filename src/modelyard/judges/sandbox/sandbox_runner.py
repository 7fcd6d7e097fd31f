"""Runs one untrusted program and the tests that judge it. Executed as a script (``python -I -S sandbox_runner.py LIMITS``), standard
library and :mod:`modelyard.judges.sandbox.crossing` only.

Two processes with nothing shared but a pipe. The *checker* (this process) holds the benchmark's own prompt and tests and a secret token;
the *program* runs in a child made before the token is read, so the secret is never in its memory. Every call the tests make to the
candidate function travels over the pipe as plain values, so an object that claims to equal everything, a patched ``assert`` or a patched
checker cannot reach the verdict: only right answers do (:mod:`modelyard.judges.sandbox.crossing`). The child has its own PID, network,
mount, IPC and (unprivileged) user namespace, a root that shows nothing but the interpreter, an empty environment, no capabilities,
rlimits and a filter of system calls (:mod:`modelyard.judges.sandbox.seccomp`). Where the kernel forbids namespaces no program is run,
unless ``seccomp`` is asked for by name: then rlimits, a narrower filter and an audit hook stand alone, and the program can read what its
user can read. The isolation is printed before anything is run, so that it is known of every program whatever becomes of it. Left out:
cgroups.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import struct
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

if __name__ == "__main__":  # no site-packages here: our own root, for the next line only
    sys.path.insert(0, str(Path(__file__).parents[3]))
from modelyard.judges.sandbox.crossing import Peer, receive, send

if __name__ == "__main__":
    del sys.path[0]
NEWNS, NEWIPC, NEWUTS, NEWUSER, NEWPID, NEWNET = 0x20000, 0x8000000, 0x4000000, 0x10000000, 0x20000000, 0x40000000
MS_NOSUID, MS_NODEV, MS_BIND, MS_REC, MS_PRIVATE = 2, 4, 4096, 16384, 1 << 18
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_SECUREBITS, PR_SET_NO_NEW_PRIVS = 1, 4, 22, 28, 38
SECCOMP_MODE_FILTER = 2
SYS_MOUNT_SETATTR, SYS_CAPSET = 442, {"x86_64": 126, "aarch64": 91}
REFUSED = (
    "socket.",
    "subprocess.",
    "ctypes.",
    "shutil.",
    "os.fork",
    "os.kill",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.remove",
    "os.rename",
)
REFUSED_TOO = (
    "os.rmdir",
    "os.truncate",
    "os.chmod",
    "os.chown",
    "os.link",
    "os.symlink",
    "os.mkdir",
    "os.utime",
    "pty.spawn",
    "signal.pthread_kill",
)
libc = ctypes.CDLL(None, use_errno=True)


def call(name: str, *args: Any) -> int:
    """A libc function that raises OSError when it fails."""
    result = int(getattr(libc, name)(*args))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{name}: {os.strerror(error)}")
    return result


# ---------------------------------------------------------------- the program's side


def child(limits: dict[str, Any], requests: int, replies: int) -> None:
    """Isolate this process, then run the program. Never returns."""
    for fd, flags in ((0, os.O_RDONLY), (1, os.O_WRONLY), (2, os.O_WRONLY)):
        os.dup2(os.open(os.devnull, flags), fd)
    os.closerange(3, min(requests, replies))
    os.closerange(min(requests, replies) + 1, max(requests, replies))
    os.closerange(max(requests, replies) + 1, 256)
    os.environ.clear()
    die_with_parent()
    namespaces = limits["isolation"] == "namespaces"
    user = 100_000 + os.getpid()  # as seen from outside: inside a namespace every program has the same
    try:
        if namespaces:
            isolate(limits)
            if program := os.fork():  # the first process in the namespace is its init: its death ends every process in it
                while os.wait()[0] != program:
                    pass
                os._exit(0)
        set_rlimits(limits)
        drop_privileges(user, keep_files=namespaces)
        if not namespaces:
            os.chdir(limits["directory"])
        filter_system_calls(bytes.fromhex(limits["filter"]))
    except (OSError, KeyError, ValueError) as error:
        send(replies, {"isolation": "", "reason": str(error)})
        os._exit(1)
    if not namespaces:
        sys.addaudithook(refuse)
    serve(requests, replies, "namespaces+seccomp" if namespaces else "seccomp")


def isolate(limits: dict[str, Any]) -> None:
    """New namespaces and a root of its own. Raises OSError where the kernel does not permit it. Returns in the namespace's init."""
    uid, gid = os.getuid(), os.getgid()
    call("unshare", NEWNS | NEWIPC | NEWUTS | NEWPID | NEWNET | (NEWUSER if uid else 0))
    if uid:
        for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    private_root(limits)
    if os.fork():
        os.wait()
        os._exit(0)
    die_with_parent()


def private_root(limits: dict[str, Any]) -> None:
    """A small tmpfs with the interpreter's directories bound read-only becomes ``/``; ``/tmp`` in it is the working directory."""
    root = limits["directory"]
    call("mount", None, b"/", None, MS_REC | MS_PRIVATE, None)
    options = f"size={limits['file_bytes']},mode=755".encode()
    call("mount", b"tmpfs", root.encode(), b"tmpfs", MS_NOSUID | MS_NODEV, options)
    for path in ("/usr", "/lib", "/lib64", sys.base_prefix, os.path.dirname(os.__file__)):
        target = root + path
        if os.path.lexists(target) or not os.path.lexists(path):
            continue
        if os.path.islink(path):
            os.symlink(os.readlink(path), target)
            continue
        os.makedirs(target)
        call("mount", path.encode(), target.encode(), None, MS_BIND | MS_REC, None)
        call(
            "syscall", SYS_MOUNT_SETATTR, -100, target.encode(), 0x8000, struct.pack("QQQQ", 1 | 2 | 4, 0, 0, 0), 32
        )  # recursive: rdonly, nosuid, nodev
    os.mkdir(f"{root}/tmp", 0o777)
    os.chmod(f"{root}/tmp", 0o777)
    os.chroot(root)
    os.chdir("/tmp")


def set_rlimits(limits: dict[str, Any]) -> None:
    """CPU seconds, address space, file size, open files, core dumps, processes."""
    values = {
        resource.RLIMIT_CPU: limits["cpu_seconds"],
        resource.RLIMIT_AS: limits["memory_bytes"],
        resource.RLIMIT_FSIZE: limits["file_bytes"],
        resource.RLIMIT_NOFILE: 32,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NPROC: limits["processes"],
    }
    for which, value in values.items():
        hard = resource.getrlimit(which)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(which, (value, value))


def drop_privileges(user: int, keep_files: bool) -> None:
    """Become nobody in particular.

    The kernel does not count processes of root, so root takes the id of a ``user`` that no program beside it is, keeping (read-only) sight of
    files.
    """
    if os.getuid() == 0:
        call("prctl", PR_SET_SECUREBITS, 4, 0, 0, 0)  # SECBIT_NO_SETUID_FIXUP: keep the right to set the file-system user id
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
        if keep_files:
            libc.setfsuid(0)
    header, none = struct.pack("Ii", 0x20080522, 0), bytes(24)
    call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    call("syscall", SYS_CAPSET[os.uname().machine], header, none)


def filter_system_calls(program: bytes) -> None:
    """Hand the kernel a filter that no later call can lift. Raises OSError where it takes none."""
    instructions = ctypes.create_string_buffer(program, len(program))
    described = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(instructions))
    call("prctl", PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.c_char_p(described), 0, 0)


def refuse(event: str, args: tuple[Any, ...]) -> None:
    """Audit hook where there are no namespaces. ``/proc`` shows the environment of other processes of the same user."""
    writes = event == "open" and isinstance(args[2], int) and bool(args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC))
    peeks = event == "open" and isinstance(args[0], str | bytes) and os.path.realpath(os.fsdecode(args[0])).startswith("/proc")
    if writes or peeks or event.startswith(REFUSED) or event.startswith(REFUSED_TOO):
        raise PermissionError(f"{event} is not allowed in the sandbox")


def serve(requests: int, replies: int, isolation: str) -> None:
    """Announce the isolation, run the program, then answer calls of its function until the checker goes away."""
    send(replies, {"isolation": isolation})
    message = receive(requests, None)
    scope = module("program")
    peer = Peer(requests, replies, None)
    try:
        exec(compile(message["program"], "program.py", "exec", dont_inherit=True), scope)
        peer.functions.append(scope[message["entry_point"]])
        send(replies, {"ready": True})
        while True:
            peer.answer(receive(requests, None))
    except EOFError:
        os._exit(0)
    except BaseException as error:
        send(replies, {"error": f"{type(error).__name__}: {error}"[:500]})
    os._exit(1)


def module(name: str) -> dict[str, Any]:
    """The names of a new module that classes defined in it can be found by (``dataclasses`` and ``pickle`` look them up)."""
    made = sys.modules[name] = ModuleType(name)
    return vars(made)


def die_with_parent() -> None:
    """SIGKILL this process when its parent ends."""
    call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


# ---------------------------------------------------------------- the checker's side


def check(requests: int, replies: int, job: dict[str, Any], deadline: float) -> None:
    """Run the benchmark's tests against the program. Raises whatever failed."""
    send(requests, {"program": job["program"], "entry_point": job["entry_point"]})
    first = receive(replies, deadline)
    if not isinstance(first, dict) or "ready" not in first:
        raise RuntimeError(str(first.get("error") if isinstance(first, dict) else first)[:500])
    candidate = Peer(replies, requests, deadline).remote(0)
    scope = module("tests")
    exec(compile(job["setup"], "setup.py", "exec", dont_inherit=True), scope)
    exec(compile(job["test"], "test.py", "exec", dont_inherit=True), scope)
    tests = scope["check"]  # before the candidate, which may have this very name
    scope[job["entry_point"]] = candidate
    tests(candidate)


def main() -> None:
    """Make the child, read the job from stdin, print two lines of JSON: the isolation, and the token if and only if every test passed."""
    limits = json.loads(sys.argv[1])
    request_read, request_write = os.pipe()
    reply_read, reply_write = os.pipe()
    if os.fork() == 0:
        try:
            os.close(request_write)
            os.close(reply_read)
            child(limits, request_read, reply_write)
        finally:
            os._exit(1)
    die_with_parent()
    call("prctl", PR_SET_DUMPABLE, 0, 0, 0, 0)  # the program cannot read this process's memory
    os.close(request_read)
    os.close(reply_write)
    job = json.loads(sys.stdin.buffer.read())
    resource.setrlimit(resource.RLIMIT_AS, (limits["memory_bytes"], limits["memory_bytes"]))  # tests compute on what the program says
    result = {"token": "", "reason": ""}
    try:
        deadline = time.monotonic() + limits["wall_seconds"]
        first = receive(reply_read, deadline)
        os.write(1, json.dumps({"isolation": first["isolation"]}).encode() + b"\n")
        if not first["isolation"]:
            raise OSError(f"the sandbox could not be made: {first['reason']}")
        check(request_write, reply_read, job, deadline)
        result["token"] = job["token"]
    except TimeoutError:
        result["reason"] = "timeout"
    except EOFError:
        result["reason"] = "the program ended before its tests"
    except BrokenPipeError:
        result["reason"] = "the program ended before its tests"
    except BaseException as error:
        result["reason"] = f"{type(error).__name__}: {error}"[:500]
    os.write(1, json.dumps(result).encode())
    os._exit(0)


if __name__ == "__main__":
    main()
