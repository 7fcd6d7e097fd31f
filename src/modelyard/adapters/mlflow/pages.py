"""All that MLflow finds: its searches answer in pages, and the first looks like everything."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from mlflow.store.entities import PagedList


def every(search: Callable[..., PagedList[Any]], *arguments: Any, **named: Any) -> Iterator[Any]:
    """What ``search`` of a client finds, page by page."""
    token = None
    while True:
        page = search(*arguments, **named, page_token=token)
        yield from page
        token = page.token
        if not token:
            return
