"""Which system calls an untrusted program may make, compiled by libseccomp for the processor that it runs on.

A list of what a Python program needs to compute; all else fails with EPERM. Under namespaces it may also write files (in
its own small root) and signal its own processes; without them it may do neither, nor fork. Nowhere may it open sockets,
execute, mount, trace, or hold memory that its address space does not count: System V shared memory, message queues and
``memfd_create`` are refused, so that RLIMIT_AS counts shared memory too. pyseccomp calls libseccomp, which knows the
numbers of every architecture; the sandbox's runner, which has no site-packages, gets the finished filter. Left out:
filters by path (the mount namespace's work).
"""

from __future__ import annotations

import errno
import os
import tempfile
from functools import cache
from typing import Any

COMPUTE = """
read write readv writev pread64 pwrite64 close close_range lseek fstat newfstatat stat lstat statx fstatfs statfs access faccessat
faccessat2 readlink readlinkat getcwd getdents getdents64 dup dup2 dup3 pipe pipe2 fcntl poll ppoll select pselect6 epoll_create1
epoll_ctl epoll_wait epoll_pwait eventfd2 mmap munmap mprotect mremap madvise brk mincore membarrier futex set_robust_list
get_robust_list rseq set_tid_address gettid getpid getppid getuid geteuid getgid getegid getresuid getresgid getgroups getpgid getpgrp
getsid getrusage getrlimit times clock_gettime clock_getres clock_nanosleep nanosleep gettimeofday time getcpu sched_yield
sched_getaffinity getitimer setitimer alarm rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigsuspend rt_sigtimedwait
sigaltstack getrandom uname sysinfo arch_prctl restart_syscall exit exit_group wait4 waitid umask
""".split()  # noqa: SIM905
FILES = """
open openat creat mkdir mkdirat rmdir unlink unlinkat rename renameat renameat2 symlink symlinkat link linkat chmod fchmod fchmodat
truncate ftruncate fallocate utimensat fsync fdatasync flock chdir fchdir
""".split()  # noqa: SIM905
PROCESSES = ["clone", "fork", "vfork", "kill", "tkill", "tgkill"]
"""Of one's own: in a process namespace there are no others."""
ABSENT = ("clone3", "openat2")
"""Answered as by a kernel without them, so that the C library does without."""
TERMINAL = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
"""``ioctl``: settings, size and bytes waiting of a terminal, FIONBIO, FIONCLEX, FIOCLEX."""
CLONE_THREAD = 0x10000
CLONE_NEW = 0x7E020000
"""``clone``'s flags that make namespaces (``CLONE_NEW*``)."""
PR_SET_NAME, PR_GET_NAME = 15, 16
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | 0o20000000
"""``open``'s flags that write, ``O_TMPFILE`` among them."""


@cache
def program(namespaces: bool) -> bytes:
    """The filter as the kernel reads it: struct sock_filter, 8 bytes each. ``namespaces``: the program has its own.

    Raises:
        ValueError: libseccomp is not there.
    """
    try:
        import pyseccomp as seccomp
    except (ImportError, RuntimeError, OSError) as error:
        raise ValueError(f"the sandbox of generated code needs libseccomp (Debian: libseccomp2) and pyseccomp: {error}") from None
    made = seccomp.SyscallFilter(seccomp.ERRNO(errno.EPERM))
    for name in ABSENT:
        allow(made, name, seccomp.ERRNO(errno.ENOSYS))
    for name in (*COMPUTE, *(FILES + PROCESSES if namespaces else ())):
        if name != "clone":
            allow(made, name, seccomp.ALLOW)
    for command in TERMINAL:
        allow(made, "ioctl", seccomp.ALLOW, seccomp.Arg(1, seccomp.EQ, command))
    for option in (PR_SET_NAME, PR_GET_NAME):
        allow(made, "prctl", seccomp.ALLOW, seccomp.Arg(0, seccomp.EQ, option))
    allow(made, "prlimit64", seccomp.ALLOW, seccomp.Arg(0, seccomp.EQ, 0), seccomp.Arg(2, seccomp.EQ, 0))  # reading one's own
    if namespaces:
        allow(made, "clone", seccomp.ALLOW, seccomp.Arg(0, seccomp.MASKED_EQ, CLONE_NEW, 0))
    else:
        allow(made, "clone", seccomp.ALLOW, seccomp.Arg(0, seccomp.MASKED_EQ, CLONE_THREAD | CLONE_NEW, CLONE_THREAD))
        allow(made, "open", seccomp.ALLOW, seccomp.Arg(1, seccomp.MASKED_EQ, WRITING, 0))
        allow(made, "openat", seccomp.ALLOW, seccomp.Arg(2, seccomp.MASKED_EQ, WRITING, 0))
    with tempfile.TemporaryFile() as file:
        made.export_bpf(file)
        file.seek(0)
        return file.read()


def allow(made: Any, name: str, action: Any, *arguments: Any) -> None:
    """A rule; system calls that this libseccomp does not know stay refused."""
    try:
        made.add_rule(action, name, *arguments)
    except (RuntimeError, OSError, ValueError):
        if arguments:
            raise
