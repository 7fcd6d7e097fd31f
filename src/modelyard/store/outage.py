"""What goes wrong between us and a store, what of it passes, and how long one waits for it.

:func:`patiently` tries again with growing, jittered pauses (AWS's "full jitter", by tenacity) as long as the trouble is one
that passes: no connection, a cut or stalled one, a server that is overloaded or broken. What trying again cannot change ends
at once: credentials that are refused, a bucket that is not there, a full disk. Either way the end is one line that names the
place. The libraries' own retries are switched off (see ``store/storage.py``): two layers of them multiply.
"""

from __future__ import annotations

import errno
import json
import re
import shutil
import time
from collections.abc import Callable
from typing import Any, TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, wait_random_exponential
from tenacity.stop import stop_base

from modelyard.complaint import complaint
from modelyard.log import logger

T = TypeVar("T")

PATIENCE_SECONDS = 120.0
"""How long an outage is waited out, counted from its first failure."""
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.1, 10.0
REFUSED = {
    "AccessDenied", "AccountProblem", "AllAccessDisabled", "ExpiredToken", "ExpiredTokenException", "InvalidAccessKeyId", "InvalidToken",
    "NotSignedUp", "RequestTimeTooSkewed", "SignatureDoesNotMatch", "TokenRefreshRequired", "403", "401", "400",
}  # fmt: skip
"""400: what a HEAD says of an expired token, since it has no room for a code."""
PASSING = {
    "BadDigest", "IncompleteBody", "InternalError", "OperationAborted", "ConditionalRequestConflict", "RequestTimeout", "ServiceUnavailable",
    "SlowDown", "Throttling", "ThrottlingException", "TooManyRequests", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch",
}  # fmt: skip
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
CLOSED = (errno.EACCES, errno.EPERM, errno.EROFS)
FINAL_BOTO = ("NoCredentialsError", "PartialCredentialsError", "ParamValidationError", "InvalidRegionError", "NoRegionError")

_log = logger(__name__)


class StorageError(OSError):
    """A store that could not be read or written; the message is one line naming the place and the cause."""


class StorageRefusedError(StorageError, ValueError):
    """A store that will refuse the next try as well: credentials, a missing bucket, an impossible place."""


def patiently(
    place: str,
    do: Callable[[], T],
    renew: Callable[[], None] | None = None,
    sleep: Callable[[float], None] = time.sleep,
    remote: bool = True,
) -> T:
    """``do()``, again while what goes wrong passes.

    Args:
        place: where, for messages.
        do: one request; must be safe to repeat.
        renew: reads credentials again; called once when they are refused, before the last try.
        sleep: waits so many seconds.
        remote: whether errors without a known cause are the network's (and pass) or the disk's (and do not).

    Raises:
        FileNotFoundError: there is nothing at that place (and the store itself is there).
        FileExistsError: something is there already.
        StorageRefusedError: trying again is pointless.
        StorageError: it went on failing for ``PATIENCE_SECONDS``, or the disk is full.
    """
    patience = _Patience()

    def told(state: RetryCallState) -> None:
        if state.attempt_number == 1:
            _log.warning("%s: %s; trying again for up to %.0f s", place, cause_of(_failure(state)), PATIENCE_SECONDS)

    retrying = Retrying(
        retry=retry_if_exception(lambda error: remote and not _is_known(error) and passes(error)),
        wait=wait_random_exponential(multiplier=FIRST_PAUSE_SECONDS, max=LONGEST_PAUSE_SECONDS),
        stop=patience,
        before_sleep=told,
        sleep=sleep,
        reraise=True,
    )
    try:
        return retrying(_with_renewal(do, renew))
    except FileNotFoundError as error:
        if code_of(error) != "NoSuchBucket":
            raise
        raise StorageRefusedError(f"{place}: there is no such bucket") from error
    except (FileExistsError, StorageError):
        raise
    except Exception as error:
        if not remote or not passes(error):
            raise _final(place, error) from error
        raise StorageError(f"{place}: {cause_of(error)}; gave up after {patience.waited:.0f} s") from error


class _Patience(stop_base):
    """Stops when the first failure lies ``PATIENCE_SECONDS`` back; a request may take longer than that before it fails."""

    def __init__(self) -> None:
        self.since, self.waited = 0.0, 0.0

    def __call__(self, retry_state: RetryCallState) -> bool:
        if retry_state.attempt_number == 1:
            self.since = time.monotonic()
        self.waited = time.monotonic() - self.since
        return self.waited >= PATIENCE_SECONDS


def _with_renewal(do: Callable[[], T], renew: Callable[[], None] | None) -> Callable[[], T]:
    """``do`` that reads its credentials again, once, when they are refused."""

    def request() -> T:
        nonlocal renew
        try:
            return do()
        except Exception as error:
            if renew is None or not is_refusal(error):
                raise
            renew()
            renew = None
            return do()

    return request


def _is_known(error: BaseException) -> bool:
    """Whether it is an answer rather than trouble."""
    return not isinstance(error, Exception) or isinstance(error, (FileNotFoundError, FileExistsError, StorageError))


def _failure(state: RetryCallState) -> BaseException:
    error = state.outcome.exception() if state.outcome else None
    assert error is not None  # tenacity sleeps after failures only
    return error


def code_of(error: BaseException) -> str:
    """The S3 error code behind ``error`` (``SlowDown``), the status of an HTTP answer (``403``), or an empty string."""
    for one in (error, error.__cause__):
        response: Any = getattr(one, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code", ""))
        if status := getattr(response, "status_code", None):
            return str(status)
    return ""


def passes(error: BaseException) -> bool:
    """Whether a remote store may well answer the same request in a while."""
    if code := code_of(error):
        return code in PASSING or (code.isdigit() and (int(code) >= 500 or int(code) in (408, 429)))
    return not is_refusal(error) and not is_no_place(error) and number_of(error) not in FULL and type(error).__name__ not in FINAL_BOTO


def is_no_place(error: BaseException) -> bool:
    """Whether the library refuses the name itself (``hf://x``), before it asks anybody. An answer that was cut is a ValueError too."""
    return isinstance(error, (ValueError, NotImplementedError)) and not isinstance(error, (OSError, UnicodeError, json.JSONDecodeError))


def is_refusal(error: BaseException) -> bool:
    """Whether the credentials are at fault."""
    return code_of(error) in REFUSED or number_of(error) in CLOSED or type(error).__name__ in FINAL_BOTO[:2]


def number_of(error: BaseException) -> int | None:
    """The system's error number; a copied directory's errors (``shutil.Error``) have it in the text of the first."""
    if isinstance(error, shutil.Error):
        found = re.search(r"\[Errno (\d+)\]", str(error))
        return int(found[1]) if found else None
    return getattr(error, "errno", None)


def cause_of(error: BaseException) -> str:
    """The error in a few words, without line breaks: S3's code where it has one, else the type; then the message."""
    if isinstance(error, shutil.Error) and error.args and isinstance(error.args[0], list):
        return str(error.args[0][0][-1])  # why the first of its files could not be copied
    text = complaint(error)[:300]
    name = code_of(error) or type(error).__name__
    return f"{name}: {text}" if text and text != name else name


def _final(place: str, error: Exception) -> StorageError:
    if number_of(error) in FULL:
        return StorageError(f"{place}: no room to write it ({cause_of(error)})")
    if is_refusal(error):
        return StorageRefusedError(f"{place}: access is refused ({cause_of(error)})")
    return StorageRefusedError(f"{place}: {cause_of(error)}")
