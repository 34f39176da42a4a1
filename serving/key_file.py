"""The file of API keys: their names, hashes and limits, and never a key.

A key is 256 random bits, so that its plain SHA-256 gives nothing away: there is no dictionary to
try, which is what slow and salted hashes stand against.
"""

import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime

import yaml
from pydantic import Field, ValidationError, field_validator

from actors.config import StrictModel
from infra.swap import peek, swap
from sgl.errors import ConfigurationError

PREFIX = "sgl-"
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
_RANDOM_BYTES = 32
_HEADING = "# API keys, written by sgl key. Only hashes: a lost key is made again, not found.\n"


class KeyEntry(StrictModel):
    """One key.

    Attributes:
        name: of its owner, for logs.
        sha256: of the key, in hexadecimal.
        requests_per_minute: None takes the endpoint's `limits.requests_per_minute`.
        tokens_per_minute: likewise.
        expires: the last day on which it counts, in UTC; None is never.
    """

    name: str = Field(pattern=NAME)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", repr=False)
    requests_per_minute: float | None = Field(default=None, gt=0)
    tokens_per_minute: float | None = Field(default=None, gt=0)
    expires: date | None = None

    def has_expired(self, now: datetime) -> bool:
        """Whether its last day is over."""
        return self.expires is not None and now.astimezone(UTC).date() > self.expires


class KeyFile(StrictModel):
    """All keys; a file that is empty has not been written to its end."""

    keys: tuple[KeyEntry, ...]

    @field_validator("keys")
    @classmethod
    def _names_differ(cls, keys: tuple[KeyEntry, ...]) -> tuple[KeyEntry, ...]:
        names = [key.name for key in keys]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"'{min(twice)}' is there twice")
        return keys


def hash_of(key: str) -> str:
    """What stands in the file for a key."""
    return hashlib.sha256(key.encode()).hexdigest()


def parsed(data: bytes, path: str) -> KeyFile:
    """The keys that a file holds.

    Raises:
        ConfigurationError: it is broken; says no more of it than where.
    """
    try:
        return KeyFile.model_validate(yaml.safe_load(data))
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path}: not YAML") from error
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ConfigurationError(f"{path}: {where}: {first['msg']}") from error


def add_key(
    path: str,
    name: str,
    *,
    requests_per_minute: float | None = None,
    tokens_per_minute: float | None = None,
    expires: date | None = None,
) -> str:
    """Make a key and write its hash; the file is made where there is none.

    Returns:
        The key, which is nowhere else.

    Raises:
        ConfigurationError: the name is taken or impossible, a limit is, or the file is broken.
    """
    key = PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)
    values = {
        "name": name,
        "sha256": hash_of(key),
        "requests_per_minute": requests_per_minute,
        "tokens_per_minute": tokens_per_minute,
        "expires": expires,
    }
    try:
        entry = KeyEntry.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise ConfigurationError(f"{first['loc'][0]}: {first['msg']}") from error
    while True:
        old = peek(path)
        known = KeyFile(keys=()) if old is None else parsed(old, path)
        if name in {one.name for one in known.keys}:
            raise ConfigurationError(f"{path}: there is a key '{name}'; revoke it, or take another")
        if _written(path, old, KeyFile(keys=(*known.keys, entry))):
            return key


def revoke_key(path: str, name: str) -> None:
    """Take a key out of the file.

    Raises:
        ConfigurationError: there is no such file or key, or the file is broken.
    """
    while True:
        old = peek(path)
        known = KeyFile(keys=()) if old is None else parsed(old, path)
        left = tuple(one for one in known.keys if one.name != name)
        if len(left) == len(known.keys):
            raise ConfigurationError(f"{path}: there is no key '{name}'")
        if _written(path, old, KeyFile(keys=left)):
            return


def _written(path: str, old: bytes | None, file: KeyFile) -> bool:
    entries = [key.model_dump(mode="json", exclude_none=True) for key in file.keys]
    text = _HEADING + yaml.safe_dump({"keys": entries}, sort_keys=False)
    with _for_the_owner_alone():
        return swap(path, old, text.encode())


@contextmanager
def _for_the_owner_alone() -> Iterator[None]:
    """What is made meanwhile is readable by nobody else from its first byte on."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)
