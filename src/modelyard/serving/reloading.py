"""Other weights while the server runs, asked for as vLLM's development mode is: ``/collective_rpc`` with ``reload_weights``.

For a trainer whose samples are drawn here. The directory's model takes the new requests and the old one ends what it took in, so an
answer is of one model throughout; keys and values are an answer's own, and ``/reset_prefix_cache`` has nothing to forget. Whoever may
ask can have any directory read, so these routes are there only where the server was started for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from fastapi import FastAPI
from pydantic import BaseModel

from modelyard.complaint import complaint
from modelyard.serving.conversation import RefusedError
from modelyard.serving.current import Current
from modelyard.serving.served_model import ServedModel


class ReloadedFrom(BaseModel):
    """Arguments of ``reload_weights``."""

    weights_path: str


class ReloadRequest(BaseModel):
    """``POST /collective_rpc``, as far as it is served."""

    method: Literal["reload_weights"]
    kwargs: ReloadedFrom


def attach(app: FastAPI, current: Current, load: Callable[[Path], ServedModel]) -> None:
    """Add the routes to ``app``; ``load`` opens a directory and raises ValueError or OSError where it cannot."""
    one_at_a_time = asyncio.Lock()

    @app.post("/collective_rpc")
    async def reload(request: ReloadRequest) -> dict[str, Any]:
        async with one_at_a_time:
            try:
                model = await asyncio.to_thread(load, Path(request.kwargs.weights_path))
            except (ValueError, OSError) as error:
                raise RefusedError(400, f"weights_path: {complaint(error)}", "invalid_request_error") from None
            await asyncio.to_thread(current.swap, model, "")
        return {"results": [None]}

    @app.post("/reset_prefix_cache")
    async def forget() -> dict[str, Any]:
        return {"success": True}
