"""Exit codes of every command and of the pipeline.

| code | meaning |
| --- | --- |
| 0 | done, or promoted |
| 1 | failed: a server, a disk, a store that does not answer, a question whose answer is no |
| 2 | bad input: an option, a file, a config, or values that do not fit together |
| 3 | HOLD: a gate holds the model back until a person decides |
| 4 | BLOCK: a gate refuses the model |
"""

from __future__ import annotations

import errno

DONE, FAILED, BAD_INPUT, HOLD, BLOCK = range(5)
PATHS = (FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError, PermissionError)
"""What the operating system says of a path that somebody named wrongly; its other errors are failures."""


NAMES = (errno.ENAMETOOLONG, errno.ELOOP)
"""The same of names that no file can have."""


def code_of(error: BaseException) -> int:
    """The exit code of a program that ``error`` ended."""
    if isinstance(error, ConnectionError):  # also where it is a ValueError to those who asked
        return FAILED
    misnamed = isinstance(error, OSError) and error.errno in NAMES
    return BAD_INPUT if misnamed or isinstance(error, (ValueError, *PATHS)) else FAILED
