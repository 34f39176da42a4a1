"""Whose request it is: API keys, checked against a file that may change while the endpoint runs."""

import hmac
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from serving.api_errors import ApiError
from serving.key_file import KeyEntry, KeyFile, hash_of, parsed
from sgl.errors import ConfigurationError

logger = logging.getLogger(__name__)

_LOOK_EVERY_S = 1.0


class UnauthorizedError(ApiError):
    """No key, or none that counts; it never says more of it."""

    def __init__(self, message: str) -> None:
        super().__init__(401, message, code="invalid_api_key")

    def headers(self) -> Mapping[str, str]:
        """How to ask."""
        return {"www-authenticate": 'Bearer realm="sgl"'}


class Keys:
    """The keys of a file, read again within a second when it changes.

    A file that is broken or cannot be read is told once, and the last good one counts on until it
    can. So the way to revoke all keys is a file without any, not none.

    Args:
        path: of the file.
        clock: in seconds.

    Raises:
        ConfigurationError: it cannot be read now.
    """

    def __init__(self, path: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = Path(path)
        self._clock = clock
        self._looked_at = clock()
        self._trouble = ""
        try:
            # In this order: what is written in between is read again.
            self._seen = _signature(self._path)
            self._file = self._read()
        except OSError as error:
            raise ConfigurationError(
                f"keys: {path} cannot be read; make it by: sgl key NAME --file {path}"
            ) from error

    def owner(self, headers: Sequence[tuple[bytes, bytes]]) -> KeyEntry:
        """Whose key a request carries.

        Args:
            headers: as ASGI has them, names in lower case.

        Raises:
            UnauthorizedError: nobody's.
        """
        self._look()
        given = [value for name, value in headers if name == b"authorization"]
        scheme, _, key = given[0].strip().partition(b" ") if len(given) == 1 else (b"", b"", b"")
        if scheme.lower() != b"bearer" or not key:
            raise UnauthorizedError("no API key; send it as: Authorization: Bearer KEY")
        digest = hash_of(key.strip().decode("latin-1"))
        found: KeyEntry | None = None
        # All of them, however early one fits: the time says nothing of which.
        for entry in self._file.keys:
            if hmac.compare_digest(entry.sha256, digest):
                found = entry
        if found is None:
            raise UnauthorizedError("this API key is not known, or has been revoked")
        if found.has_expired(datetime.now(UTC)):
            raise UnauthorizedError("this API key has expired")
        return found

    def _look(self) -> None:
        now = self._clock()
        if now - self._looked_at < _LOOK_EVERY_S:
            return
        self._looked_at = now
        seen = _signature(self._path)
        if seen is not None and seen == self._seen:
            return
        try:
            self._file = self._read()
        except OSError as error:
            # Not seen: the next look tries again, as what is in the way may leave no trace.
            self._tell(str(error))
            return
        except ConfigurationError as error:
            self._tell(str(error))
        else:
            self._trouble = ""
            logger.info("API keys read again: %d", len(self._file.keys))
        self._seen = seen

    def _tell(self, trouble: str) -> None:
        """Once, however often it is met."""
        if trouble != self._trouble:
            logger.error("the last good API keys count on: %s", trouble)
        self._trouble = trouble

    def _read(self) -> KeyFile:
        return parsed(self._path.read_bytes(), str(self._path))


def _signature(path: Path) -> tuple[int, int, int, int] | None:
    """Changes with the file; None where there is none.

    A file that is replaced is another one, whatever its time says; of one that is written in place
    nobody can set back the time of change.
    """
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size
