"""Values and calls over a pipe between the tests of a benchmark and the program under test.

JSON, length-prefixed. Values of the standard library cross as themselves (``Counter``, ``Fraction``, ``range``), subclasses
as the built-in that they extend, functions as calls in the other direction; what a call changes of its arguments and what
it raises, as in one process. Anything else is an object that is true or false and equal to nothing. Reading builds only
values of the standard library, so a hostile sender can lie about its values and do nothing else. Standard library only:
:mod:`modelyard.judges.sandbox.sandbox_runner` imports it in a bare interpreter. Left out: attributes of subclasses.
"""

from __future__ import annotations

import builtins
import collections
import decimal
import fractions
import itertools
import json
import os
import select
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any

REPLY_BYTES = 1 << 20
LONGEST_ITERATOR = 100_000


class Opaque:
    """A value that does not cross: known is whether it is true, and it equals nothing but itself."""

    def __init__(self, true: bool) -> None:
        self.true = true

    def __bool__(self) -> bool:
        return self.true


SEQUENCES: dict[str, type] = {kind.__name__: kind for kind in (list, tuple, set, frozenset, collections.deque)}
MAPPINGS: dict[str, type[dict[Any, Any]]] = {kind.__name__: kind for kind in (collections.Counter, collections.OrderedDict, dict)}
VIEWS: dict[str, type] = {kind.__name__: kind for kind in map(type, ({0: 0}.keys(), {0: 0}.values(), {0: 0}.items()))}


def encode(value: Any, functions: list[Callable[..., Any]]) -> Any:
    """JSON of a value; what is called on the other side is kept in ``functions``. Raises TypeError for an iterator without end."""

    def each(items: Any) -> list[Any]:
        return [encode(item, functions) for item in items]

    if value is None or type(value) is bool:
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return {"int": hex(int(value))}
    if isinstance(value, float):
        return {"float": float.hex(value) if value == value else "nan"}
    if isinstance(value, complex):
        return {"complex": each([value.real, value.imag])}
    if isinstance(value, bytes | bytearray):
        return {"bytes": value.hex()}
    if isinstance(value, fractions.Fraction | decimal.Decimal):
        return {"Fraction" if isinstance(value, fractions.Fraction) else "Decimal": str(value)}
    if isinstance(value, range):
        return {"range": each([value.start, value.stop, value.step])}
    for name, kind in SEQUENCES.items():
        if isinstance(value, kind):
            return {name: each(value)}
    for name, kind in MAPPINGS.items():
        if isinstance(value, kind):
            return {name: [each(pair) for pair in value.items()]}
    for name, kind in VIEWS.items():
        if isinstance(value, kind):
            return {name: each(value)}
    if isinstance(value, Iterator):
        items = list(itertools.islice(value, LONGEST_ITERATOR + 1))
        if len(items) > LONGEST_ITERATOR:
            raise TypeError(f"an iterator of more than {LONGEST_ITERATOR} items cannot leave the sandbox")
        return {"iterator": each(items)}
    if callable(value):
        functions.append(value)
        return {"function": len(functions) - 1}
    return {"opaque": bool(value)}


def decode(value: Any, function: Callable[[int], Callable[..., Any]]) -> Any:
    """Inverse of :func:`encode`; safe on hostile input because it builds only values of the standard library."""
    if not isinstance(value, dict):
        return value
    ((kind, body),) = value.items()
    simple: dict[str, Callable[[Any], Any]] = {
        "int": lambda body: int(body, 16),
        "float": float.fromhex,
        "bytes": bytes.fromhex,
        "Fraction": fractions.Fraction,
        "Decimal": decimal.Decimal,
        "opaque": lambda body: Opaque(bool(body)),
        "function": function,
    }
    if kind in simple:
        return simple[kind](body)
    if kind in MAPPINGS:
        return MAPPINGS[kind]({decode(k, function): decode(v, function) for k, v in body})
    items = [decode(item, function) for item in body]
    if kind in ("complex", "range"):
        return {"complex": complex, "range": range}[kind](*items)
    made: dict[str, Callable[[list[Any]], Any]] = {
        **SEQUENCES,
        "iterator": iter,
        "dict_keys": lambda items: dict.fromkeys(items).keys(),
        "dict_values": lambda items: dict(enumerate(items)).values(),
        "dict_items": lambda items: dict(items).items(),
    }
    return made[kind](items)


def take_over(old: Any, new: Any) -> None:
    """Make a mutable argument what the call has made of it."""
    if isinstance(old, list | bytearray):
        old[:] = new
    elif isinstance(old, set | dict | collections.deque):
        old.clear()
        (old.extend if isinstance(old, collections.deque) else old.update)(new)


class Peer:
    """One end of the pipe: calls functions of the other side and answers its calls."""

    def __init__(self, incoming: int, outgoing: int, deadline: float | None) -> None:
        self.incoming, self.outgoing, self.deadline = incoming, outgoing, deadline
        self.functions: list[Callable[..., Any]] = []

    def remote(self, number: int) -> Callable[..., Any]:
        """Function ``number`` of the other side."""
        return lambda *args, **kwargs: self.call(int(number), list(args), kwargs)

    def call(self, number: int, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """Its value; raises what it raised there, and changes what it changed of ``args`` there."""
        send(
            self.outgoing, {"call": number, "args": [encode(one, self.functions) for one in args], "kwargs": encode(kwargs, self.functions)}
        )
        while "call" in (message := receive(self.incoming, self.deadline)):
            self.answer(message)
        for place, changed in message.get("changed", []):
            take_over(args[place], decode(changed, self.remote))
        if "raised" in message:
            raise error_of(message["raised"], str(message["text"]))
        return decode(message["value"], self.remote)

    def answer(self, message: dict[str, Any]) -> None:
        """Run a function of this side for the other."""
        reply: dict[str, Any] = {}
        known = len(self.functions)
        args = [decode(one, self.remote) for one in message["args"]]
        try:
            result = self.functions[message["call"]](*args, **decode(message["kwargs"], self.remote))
            reply = {"value": encode(result, self.functions)}
        except Exception as error:
            reply = {"raised": [kind.__name__ for kind in type(error).__mro__], "text": f"{type(error).__name__}: {error}"[:500]}
        after = [
            (place, encode(one, [])) for place, one in enumerate(args) if isinstance(one, list | bytearray | set | dict | collections.deque)
        ]
        reply["changed"] = [(place, one) for place, one in after if one != message["args"][place]]
        if "value" not in reply:
            del self.functions[known:]
        send(self.outgoing, reply)


def error_of(names: list[str], text: str) -> Exception:
    """The first built-in exception among a class's bases, by name."""
    kinds = (getattr(builtins, str(name), None) for name in names)
    kind = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Exception)), RuntimeError)
    try:
        return kind(text)
    except TypeError:  # UnicodeDecodeError and its like want more than a text
        return RuntimeError(text)


def send(fd: int, message: Any) -> None:
    """Write one length-prefixed message."""
    data = json.dumps(message).encode()
    data = struct.pack(">I", len(data)) + data
    while data:
        data = data[os.write(fd, data) :]


def receive(fd: int, deadline: float | None) -> Any:
    """Read one message.

    Raises TimeoutError at the deadline (monotonic seconds), EOFError when the other side is gone, ValueError past the size limit.
    """
    (length,) = struct.unpack(">I", _exactly(fd, 4, deadline))
    if length > REPLY_BYTES:
        raise ValueError(f"a reply of {length} bytes is over the limit of {REPLY_BYTES}")
    return json.loads(_exactly(fd, length, deadline))


def _exactly(fd: int, count: int, deadline: float | None) -> bytes:
    data = b""
    while len(data) < count:
        wait = None if deadline is None else max(0.0, deadline - time.monotonic())
        if wait == 0.0 or not select.select([fd], [], [], wait)[0]:
            raise TimeoutError
        piece = os.read(fd, count - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data
