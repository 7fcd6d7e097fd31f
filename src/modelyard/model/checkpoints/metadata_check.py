"""A checkpoint is read without running what it says: torch keeps a distributed checkpoint's table of contents (``.metadata``) as a pickle.

torch reads the tensors themselves with ``weights_only``, but the table with plain ``pickle.load``, and a pickle can call anything. :func:`check`
goes through the same bytes first with an unpickler that knows only the dozen names a table of contents is made of.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

TABLE = ".metadata"
CHECKPOINT = "torch.distributed.checkpoint.metadata"
KNOWN = {
    ("collections", "OrderedDict"),
    ("pathlib", "PosixPath"),
    ("torch", "Size"),
    ("torch.serialization", "_get_layout"),
    ("torch.distributed.checkpoint.filesystem", "_StorageInfo"),
    *(
        (CHECKPOINT, name)
        for name in (
            "BytesStorageMetadata",
            "ChunkStorageMetadata",
            "Metadata",
            "MetadataIndex",
            "StorageMeta",
            "TensorProperties",
            "TensorStorageMetadata",
            "_MEM_FORMAT_ENCODING",
        )
    ),
}


class _Careful(pickle.Unpickler):
    """Finds nothing but :data:`KNOWN` and torch's dtypes."""

    def find_class(self, module: str, name: str) -> Any:
        """Look a name up. Raises ValueError for one that is not expected."""
        import torch

        if (module, name) in KNOWN or (module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)):
            return super().find_class(module, name)
        raise ValueError(f"names {module}.{name}, which no table of contents needs")


def check(directory: Path) -> None:
    """Make sure that torch may read the table of contents of the checkpoint at ``directory``.

    Raises:
        ValueError: it is missing, damaged or would run something; one line that names the file.
    """
    path = directory / TABLE
    if not path.is_file():
        raise ValueError(f"{path}: no such file; {directory} is no distributed checkpoint")
    try:
        with open(path, "rb") as file:
            _Careful(file).load()
    except ValueError as error:
        raise ValueError(f"{path}: {error}; it is not read") from None
    except Exception as error:  # whatever damaged bytes make the unpickler do
        raise ValueError(f"{path}: damaged ({type(error).__name__})") from None
