# ruff: noqa: E501
"""The sandbox: right programs pass, hostile ones are survived and score as failure, under both kinds of isolation."""

import os
import shutil
import time
from pathlib import Path

import pytest

from modelyard.judges.sandbox import run as runner
from modelyard.judges.sandbox import sandbox_runner
from modelyard.judges.sandbox.run import Limits, Program, Verdict, run_program, run_programs

LIMITS = Limits(wall_seconds=3.0, cpu_seconds=2, memory_bytes=256 << 20, file_bytes=16 << 20, processes=2)
TEST = "def check(candidate):\n    assert candidate(2) == 4\n    assert candidate(-3) == 9\n"


def run(code: str, test: str = TEST, isolation: str = "namespaces") -> Verdict:
    limits = Limits.model_validate({**LIMITS.model_dump(), "isolation": isolation})
    if isolation == "namespaces" and runner.resolved(Limits.model_validate({**LIMITS.model_dump(), "isolation": "available"})) != limits:
        pytest.skip("this machine gives no namespaces")
    return run_program(Program(code, "square", "def helper(x):\n    return x\n\ndef square(x):\n    pass\n", test), limits)


HOSTILE = {
    "endless_loop": "while True: pass",
    "endless_call": "def square(x):\n    while True: pass",
    "sleep": "import time; time.sleep(100)",
    "exit_zero": "import os; os._exit(0)",
    "system_exit": "raise SystemExit(0)",
    "fork_bomb": "import os\nwhile True: os.fork()",
    "memory_hog": "x = [0] * 10**10",
    "gigabytes_printed": "import sys\nwhile True: sys.stdout.write('x' * 10**6)",
    "gigabytes_returned": "def square(x): return 'x' * 50_000_000",
    "kills_parent": "import os; os.kill(os.getppid(), 9)",
    "kills_everything": "import os; os.kill(-1, 9)",
    "huge_file": "f = open('big', 'wb')\nwhile True: f.write(b'x' * 10**6)",
    "equal_to_everything": "class E:\n    def __eq__(self, other): return True\ndef square(x): return E()",
    "memory_hog_slowly": "x = []\nwhile True: x.append(bytearray(1 << 20))",
    "thread_bomb": "import threading, time\nwhile True: threading.Thread(target=time.sleep, args=(60,)).start()",
    "deletes_everything": "import shutil; shutil.rmtree('/')\nraise SystemExit",
    "environments_read": (
        "import os\nfound = b''\nfor p in os.listdir('/proc'):\n    try: found += open(f'/proc/{p}/environ', 'rb').read()\n"
        "    except OSError: pass\ndef square(x): return x * x if b'PATH=' in found else 0"
    ),
    "patches_assert": "import builtins\nbuiltins.AssertionError = type('Quiet', (BaseException,), {})\ndef square(x): return 0",
    "patches_checker": "import sys, gc\nfor m in list(sys.modules.values()):\n    if hasattr(m, 'check'): m.check = lambda c: None\ndef square(x): return 0",
    "forged_reply": 'import os\nfor fd in range(64):\n    try: os.write(fd, b\'{"token": "", "reason": ""}\')\n    except OSError: pass\ndef square(x): return 0',
    "deep_reply": "def square(x):\n    y = []\n    for _ in range(900): y = [y]\n    return y",
    "syntax_error": "def square(x) return",
    "wrong_answer": "def square(x): return x + x",
}


@pytest.mark.parametrize("isolation", ["namespaces", "seccomp"])
@pytest.mark.parametrize("name", HOSTILE)
def test_sandbox_hostile_program_is_survived_and_fails(name: str, isolation: str) -> None:
    started = time.monotonic()

    verdict = run(HOSTILE[name], isolation=isolation)

    assert not verdict.passed
    assert verdict.reason
    never_ran = (verdict.reason, verdict.isolation) == ("timeout", "")  # on a machine so busy that it had not begun by then
    where = "seccomp" if isolation == "seccomp" else "namespaces+seccomp"
    assert never_ran or verdict.isolation == where, "failing verdicts say where they ran too"
    assert time.monotonic() - started < LIMITS.wall_seconds + 5


@pytest.mark.parametrize("isolation", ["namespaces", "seccomp"])
def test_sandbox_right_program_passes_under_either_isolation(isolation: str) -> None:
    verdict = run("def square(x): return x * x", isolation=isolation)

    assert verdict == Verdict(True, "", "seccomp" if isolation == "seccomp" else "namespaces+seccomp")


def test_sandbox_right_program_that_exits_early_fails() -> None:
    assert not run("import os\ndef square(x):\n    if x < 0: os._exit(0)\n    return x * x").passed


@pytest.mark.parametrize("isolation", ["namespaces", "seccomp"])
def test_sandbox_environment_is_empty(isolation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "hunter2")
    code = "import os\ndef square(x):\n    return x * x if 'hunter2' not in str(dict(os.environ)) else 'leak'"

    assert run(code, isolation=isolation).passed
    assert not run("import os\ndef square(x): return x * x if os.environ['SECRET_KEY'] else 0", isolation=isolation).passed


@pytest.mark.parametrize("isolation", ["namespaces", "seccomp"])
def test_sandbox_socket_is_refused(isolation: str) -> None:
    code = "import socket\ns = socket.create_connection(('127.0.0.1', PORT), timeout=1)\ndef square(x): return x * x"
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        verdict = run(code.replace("PORT", str(server.getsockname()[1])), isolation=isolation)

    assert not verdict.passed
    assert "Error" in verdict.reason


@pytest.mark.parametrize("isolation", ["namespaces", "seccomp"])
def test_sandbox_files_outside_are_safe(isolation: str, tmp_path) -> None:
    victim = tmp_path / "victim.txt"
    victim.write_text("precious")
    for path in (tmp_path, *tmp_path.parents):
        if path != path.parent and os.stat(path).st_uid == os.getuid() and path.name != "tmp":
            path.chmod(0o777)
    victim.chmod(0o666)
    code = f"import os, shutil\ntry: os.remove({str(victim)!r})\nexcept Exception: pass\ntry: open({str(victim)!r}, 'w').close()\nexcept Exception: pass\nshutil.rmtree('/', ignore_errors=True)\ndef square(x): return x * x"

    run(code, isolation=isolation)

    assert victim.read_text() == "precious"
    assert run("def square(x): return x * x").passed


def test_sandbox_namespaces_hide_the_users_files(tmp_path) -> None:
    secret = tmp_path / "key"
    secret.write_text("hunter2")
    assert "FileNotFoundError" in run(f"open({str(secret)!r}).read()\ndef square(x): return x * x").reason


RAW = {  # by the runner's own libc, which no audit hook sees; each answers rightly only where the call was let through
    "socket": "m.libc.syscall(41, 2, 1, 0) >= 0",
    "kill_parent": "m.libc.syscall(62, m.libc.syscall(110), 0) == 0",
    "write_file": "m.libc.syscall(2, b'/tmp/written\\0', 0o101, 0o644) >= 0",
    "create_file": "m.libc.syscall(257, -100, b'/tmp/written\\0', 0o102, 0o644) >= 0",
    "fork": "m.libc.syscall(57) >= 0",
    "trace": "m.libc.syscall(101, 16, m.libc.syscall(110), 0, 0) == 0",
    "memory_of_others": "m.libc.syscall(310, m.libc.syscall(110), None, 0, None, 0, 0) == 0",
    "memfd": "m.libc.syscall(319, b'x', 0) >= 0",
    "message_queue": "m.libc.syscall(68, 0, 0o1600) >= 0",
    "execute": "m.libc.syscall(59, b'/bin/true\\0', None, None) == 0",
    "user_namespace": "m.libc.syscall(272, 0x10000000) == 0",
    "lifted_limit": "m.resource.setrlimit(m.resource.RLIMIT_CPU, (1, 1)) is None",
    "io_uring": "m.libc.syscall(425, 1, None) != -1",
}
ALLOWED = {"namespaces": {"write_file", "create_file"}, "seccomp": set()}
"""What a program may do in a world of its own."""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers of system calls are those of x86-64")
@pytest.mark.parametrize(
    ("name", "isolation"),
    [(name, kind) for name in RAW for kind in ALLOWED if (name, kind) not in (("kill_parent", "namespaces"), ("fork", "namespaces"))],
)
def test_sandbox_raw_system_call_is_refused(name: str, isolation: str) -> None:
    code = f"import __main__ as m\ntry: done = {RAW[name]}\nexcept Exception: done = False\ndef square(x): return x * x if done else 'no'"
    verdict = run(code, isolation=isolation)
    assert verdict.passed == (name in ALLOWED[isolation]), verdict


SHARED = """
import ctypes
l = ctypes.CDLL(None, use_errno=True)
l.shmat.restype = ctypes.c_void_p
l.shmat.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_int]
l.shmdt.argtypes = [ctypes.c_void_p]
held, size = 0, 64 << 20
for _ in range(16):
    segment = l.shmget(0, ctypes.c_size_t(size), 0o1600)
    place = l.shmat(segment, None, 0) if segment >= 0 else None
    if place in (None, 2**64 - 1): break
    ctypes.memset(place, 1, size)
    l.shmdt(place)
    held += size
def square(x): return x * x if held > (256 << 20) else f'held {held}'
"""


@pytest.mark.parametrize(
    "code", [SHARED, SHARED.replace("l.shmget(0, ctypes.c_size_t(size), 0o1600)", "-1") + "import mmap\nx = mmap.mmap(-1, 1 << 30)"]
)
def test_sandbox_memory_limit_counts_shared_memory(code: str) -> None:
    verdict = run(code)
    assert not verdict.passed
    assert verdict.isolation == "namespaces+seccomp"


def test_sandbox_without_namespaces_runs_nothing_unless_asked_by_name(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Path(sandbox_runner.__file__).read_text("utf-8")
    package = tmp_path / "modelyard" / "judges" / "sandbox"
    package.mkdir(parents=True)
    for place in (package.parents[1], package.parent, package):
        (place / "__init__.py").touch()
    shutil.copy(Path(sandbox_runner.__file__).with_name("crossing.py"), package)
    refused = 'if name == "unshare": raise OSError(1, "unshare: Operation not permitted")'
    (package / "sandbox_runner.py").write_text(
        source.replace("    result = int(getattr(libc", f"    {refused}\n    result = int(getattr(libc")
    )
    monkeypatch.setattr(runner, "RUNNER", package / "sandbox_runner.py")
    monkeypatch.setattr(runner, "PROBE", "def f(): return 1")  # the standard library may be root's alone here
    witness = tmp_path / "ran"
    runner.require.cache_clear()
    runner.resolved.cache_clear()

    reading = Program(f"open({str(witness)!r}, 'w')\ndef square(x): return x * x", "square", "", TEST)
    verdict = run_program(reading, LIMITS)

    assert (verdict.passed, verdict.isolation) == (False, "")
    assert "unshare: Operation not permitted" in verdict.reason
    assert not witness.exists()
    programs = [Program("def square(x): return x * x", "square", "", TEST)]
    with pytest.raises(ValueError, match=r"isolation 'namespaces' cannot be had: .*unshare.*isolation seccomp"):
        run_programs(programs, LIMITS)
    for name in ("seccomp", "available"):
        by_name = Limits.model_validate({**LIMITS.model_dump(), "isolation": name})
        assert run_programs(programs, by_name) == [Verdict(True, "", "seccomp")]
    runner.require.cache_clear()
    runner.resolved.cache_clear()


def test_sandbox_exact_values_cross_the_pipe() -> None:
    code = "def square(x): return {(1, 2.5): [True, None, {3}, 'é', 10**5000, float('inf')]}"
    test = "def check(candidate):\n    r = candidate(0)\n    assert r == {(1, 2.5): [True, None, {3}, 'é', 10**5000, float('inf')]}\n    assert type(r[(1, 2.5)][0]) is bool\n"

    assert run(code, test).passed


def test_sandbox_tests_may_use_the_prompts_helpers() -> None:
    assert run("def square(x): return x * x", "def check(candidate):\n    assert candidate(helper(5)) == 25\n").passed


VALUES = {
    "counter": ("from collections import Counter\ndef square(x): return Counter(x)", "assert candidate('abba') == {'a': 2, 'b': 2}"),
    "counter_methods": (
        "from collections import Counter\ndef square(x): return Counter(x)",
        "assert candidate('aab').most_common(1) == [('a', 2)]",
    ),
    "defaultdict": (
        "from collections import defaultdict\ndef square(x):\n    d = defaultdict(int)\n    for c in x: d[c] += 1\n    return d",
        "assert candidate('aa') == {'a': 2}",
    ),
    "list_subclass": ("class L(list): pass\ndef square(x): return L([x])", "assert candidate(3) == [3]"),
    "int_enum": ("import enum\nclass E(enum.IntEnum):\n    ONE = 1\ndef square(x): return E.ONE", "assert candidate(3) == 1"),
    "namedtuple": (
        "from collections import namedtuple\nP = namedtuple('P', 'a b')\ndef square(x): return P(x, x)",
        "assert candidate(1) == (1, 1)",
    ),
    "fraction": ("from fractions import Fraction\ndef square(x): return Fraction(x, 2)", "assert candidate(3) == 1.5"),
    "decimal": ("from decimal import Decimal\ndef square(x): return Decimal('1.5')", "assert candidate(3) * 2 == 3"),
    "range": ("def square(x): return range(x)", "assert list(candidate(3)) == [0, 1, 2] and candidate(3) == range(3)"),
    "deque": ("from collections import deque\ndef square(x): return deque(x)", "assert list(candidate([1, 2])) == [1, 2]"),
    "generator": ("def square(x):\n    yield from range(x)", "assert list(candidate(3)) == [0, 1, 2]"),
    "dict_keys": ("def square(x): return {x: 1}.keys()", "assert candidate(3) == {3}"),
    "match": ("import re\ndef square(x): return re.match('a', x)", "assert candidate('ab')\n    assert not candidate('b')"),
    "function_argument": ("def square(g, x): return g(x)", "assert candidate(lambda v: v + 1, 2) == 3"),
    "function_returned": ("def square(x): return lambda y: x + y", "assert candidate(2)(3) == 5"),
    "in_place": ("def square(x): x.sort()", "x = [3, 1]\n    assert candidate(x) is None\n    assert x == [1, 3]"),
    "expected_error": (
        "def square(x):\n    if x < 0: raise ValueError('negative')\n    return x",
        "try: candidate(-1)\n    except ValueError: pass\n    else: assert False\n    assert candidate(1) == 1",
    ),
    "error_of_its_own": (
        "class Mine(KeyError): pass\ndef square(x): raise Mine(x)",
        "try: candidate(-1)\n    except LookupError: return\n    assert False",
    ),
}


@pytest.mark.parametrize("name", VALUES)
def test_sandbox_right_value_of_the_standard_library_passes(name: str) -> None:
    code, test = VALUES[name]

    assert run(code, f"def check(candidate):\n    {test}\n") == Verdict(True, "", run("def square(x): return x * x").isolation)


@pytest.mark.parametrize(
    "code",
    [
        "class I(int):\n    def __eq__(self, other): return True\n    __hash__ = int.__hash__\ndef square(x): return I(0)",
        "class L(list):\n    def __eq__(self, other): return True\ndef square(x): return L()",
        "class F:\n    def __call__(self): return 4\n    def __eq__(self, other): return True\ndef square(x): return F()",
        "def square(x): raise AssertionError('quiet')",
        "def square(x):\n    while True: yield x",
        "x = []\nx.append(x)\ndef square(_): return x",
        "import modelyard.judges.sandbox.crossing as m\nm.encode = lambda value, functions: {'opaque': True}\ndef square(x): return x",
        "import modelyard.judges.sandbox.crossing as m\nm.encode = lambda value, functions: {'function': 0}\ndef square(x): return x",
    ],
)
def test_sandbox_disguised_wrong_value_fails(code: str) -> None:
    verdict = run(code)

    assert not verdict.passed
    assert verdict.isolation == run("def square(x): return x * x").isolation, "failing verdicts say where they ran too"


MODULES = {
    "dataclass": "from dataclasses import dataclass\n@dataclass\nclass P:\n    a: int\ndef square(x): return P(x).a ** 2",
    "dataclass_of_future_annotations": (
        "from __future__ import annotations\nfrom dataclasses import dataclass, field\n"
        "@dataclass\nclass P:\n    a: int\n    b: list[int] = field(default_factory=list)\ndef square(x): return P(x).a ** 2"
    ),
    "annotations_are_values": "def square(x: int): return x * x if square.__annotations__['x'] is int else 0",
    "type_hints": (
        "from __future__ import annotations\nimport typing\nclass P:\n    a: int\n"
        "def square(x): return x * x if typing.get_type_hints(P) == {'a': int} else 0"
    ),
    "pickled_class": "import pickle\nclass P:\n    pass\ndef square(x):\n    p = P(); p.a = x\n    return pickle.loads(pickle.dumps(p)).a ** 2",
    "named_tuple": "from typing import NamedTuple\nclass P(NamedTuple):\n    a: int\ndef square(x): return P(x).a ** 2",
}


@pytest.mark.parametrize("name", MODULES)
def test_sandbox_program_is_a_module_of_its_own(name: str) -> None:
    verdict = run(MODULES[name], isolation="available")
    assert verdict.passed, verdict.reason


def test_sandbox_programs_side_by_side_have_their_threads_to_themselves() -> None:
    sleeping = "import threading, time\nt = threading.Thread(target=time.sleep, args=(0.7,)); t.start()\ndef square(x):\n    t.join()\n    return x * x"
    programs = [Program(sleeping, "square", "def square(x):\n    pass\n", TEST)] * 4
    verdicts = run_programs(programs, LIMITS.model_copy(update={"isolation": "available"}), workers=4)
    assert [verdict.reason for verdict in verdicts] == [""] * 4


def test_sandbox_that_hides_the_standard_library_is_refused_by_its_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "run_program", lambda *_: Verdict(False, "ModuleNotFoundError: No module named 'heapq'", "seccomp"))
    with pytest.raises(ValueError, match=r"No module named 'heapq'; /.*python3.* cannot be read by another user"):
        runner.require(LIMITS.model_copy(update={"isolation": "seccomp", "processes": 7}))


def test_sandbox_function_named_check_is_no_test() -> None:
    program = Program(
        "def check(n): return n == 70", "check", "", "def check(candidate):\n    assert check(70) == True\n    assert check(1) == False\n"
    )

    assert run_program(program, LIMITS).passed
