"""Work that rank 0 does alone: its result, its error and its signs of life reach every rank."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import torch.distributed as dist

from modelyard import progress

T = TypeVar("T")
Beat = Callable[[], None]
"""To be called whenever work gets on."""
TICK_SECONDS = 30.0
"""How often ranks that wait for rank 0 hear of it, before a collective of theirs runs out of time."""


_alone = False
"""Whether this is rank 0 at work that the others wait for."""


def on_first_rank(work: Callable[[], T]) -> T:
    """Do ``work`` on rank 0 alone and give its result to every rank. Every rank calls it.

    An error of it is raised on all: on rank 0 as it is, elsewhere as a ValueError with the same words where it is one, as a RuntimeError otherwise.
    """
    return beating_on_first_rank(lambda beat: work())


def beating_on_first_rank(work: Callable[[Beat], T]) -> T:
    """As :func:`on_first_rank` for work that takes long: it is given a function to call for a sign of life, which the others hear of now and
    then. What such work gives to the first rank again is simply done: the others wait for the whole."""
    global _alone
    if not dist.is_initialized() or dist.get_world_size() == 1 or _alone:
        return work(_beat)
    if dist.get_rank() > 0:
        return _heard()
    told = time.monotonic()

    def beat() -> None:
        nonlocal told
        _beat()
        if time.monotonic() - told > TICK_SECONDS:
            _tell("tick", None)
            told = time.monotonic()

    _alone = True
    try:
        result = work(beat)
    except Exception as error:
        _tell("refusal" if isinstance(error, ValueError) else "failure", str(error))  # words: an exception may not travel
        raise
    finally:
        _alone = False
    _tell("result", result)
    return result


def _beat() -> None:
    progress.beat(stop=False)  # the others would wait for a rank that stops here


def _tell(kind: str, what: object) -> None:
    dist.broadcast_object_list([(kind, what)], src=0)


def _heard() -> T:  # type: ignore[type-var]
    """What rank 0 tells in the end."""
    while True:
        box: list[tuple[str, T]] = [("", None)]  # type: ignore[list-item]
        dist.broadcast_object_list(box, src=0)
        _beat()
        kind, what = box[0]
        if kind == "result":
            return what
        if kind in ("refusal", "failure"):
            raise (ValueError if kind == "refusal" else RuntimeError)(what)
