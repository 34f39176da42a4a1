"""S3, and whatever speaks its protocol: one pyarrow filesystem and one boto3 client per setting.

Credentials are never settings. Both libraries look for them the standard way (environment, shared
profile, web identity, container or instance role), each process on its own machine.
"""

import os
import random
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import islice
from typing import Any, BinaryIO, TypeVar
from urllib.parse import urlsplit

from pyarrow import fs
from pydantic import BaseModel, ConfigDict, Field, field_validator

_Item = TypeVar("_Item")

_UNREAD = "Failed to flush response stream"
"""pyarrow has room for as many bytes as it asked for. Where a server's error text is longer, it
never learns what the error was, and does not try again."""
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,62}")
"""A bucket's name becomes part of a host's, so that nothing but a name passes."""
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 10.0


class StorageConfig(BaseModel):
    """How S3 is reached; the local disk has nothing to set.

    Attributes:
        endpoint_url: of a server other than AWS; None means AWS_ENDPOINT_URL_S3, else
            AWS_ENDPOINT_URL, else AWS.
        region: None means AWS_REGION, else AWS_DEFAULT_REGION, else the bucket's own.
        anonymous: unsigned requests, for public buckets.
        max_attempts: of one request, with exponential back-off in between: throttling (503), lost
            connections and time-outs are tried again.
        connect_timeout_s: for a connection.
        request_timeout_s: for an answer; a transfer that stalls for so long has failed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    endpoint_url: str | None = None
    region: str | None = None
    anonymous: bool = False
    max_attempts: int = Field(default=10, ge=1)
    connect_timeout_s: float = Field(default=5.0, gt=0)
    request_timeout_s: float = Field(default=60.0, gt=0)

    @field_validator("endpoint_url")
    @classmethod
    def _is_an_endpoint(cls, url: str | None) -> str | None:
        parts = urlsplit(url or "http://none")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("write http://HOST:PORT or https://HOST")
        if parts.username or parts.password:
            raise ValueError("holds credentials; leave them to the environment")
        return url

    def resolved(self) -> "StorageConfig":
        """With what this process's environment says, for processes that have another one."""
        said = os.environ.get
        endpoint = said("AWS_ENDPOINT_URL_S3") or said("AWS_ENDPOINT_URL") or None
        region = said("AWS_REGION") or said("AWS_DEFAULT_REGION") or None
        return self.model_copy(
            update={
                "endpoint_url": self.endpoint_url or endpoint,
                "region": self.region or region,
            }
        )


DEFAULT = StorageConfig()


class S3FileSystem(fs.S3FileSystem):
    """pyarrow's, which forgets its retries when it is sent to another process."""

    def __init__(self, storage: StorageConfig, bucket: str) -> None:
        self._made_of = (storage, bucket)
        parts = urlsplit(storage.endpoint_url or "")
        region = storage.region
        if region is None and not parts.netloc:
            region = fs.resolve_s3_region(bucket)
        super().__init__(
            anonymous=storage.anonymous,
            region=region,
            endpoint_override=parts.netloc + parts.path.rstrip("/") or None,
            scheme=parts.scheme or "https",
            connect_timeout=storage.connect_timeout_s,
            request_timeout=storage.request_timeout_s,
            retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=storage.max_attempts),
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return s3_filesystem, self._made_of


def s3_filesystem(storage: StorageConfig, bucket: str) -> S3FileSystem:
    """The filesystem of a bucket; picklable, and made once per process.

    Raises:
        OSError: the bucket's region cannot be found out.
    """
    resolved = storage.resolved()
    # Only AWS has a region to find out for each bucket.
    wanted = bucket if not (resolved.region or resolved.endpoint_url) else ""
    return _filesystem(resolved, wanted)


@lru_cache(maxsize=16)
def _filesystem(storage: StorageConfig, bucket: str) -> S3FileSystem:
    return S3FileSystem(storage, bucket)


def bucket_and_key(uri: str) -> tuple[str, str]:
    """The parts of an s3:// URI, as they are, without escapes.

    Raises:
        ValueError: it holds credentials, or what cannot be a bucket's name.
    """
    bucket, _, key = uri.removeprefix("s3://").rstrip("/").partition("/")
    if "@" in bucket or ":" in bucket:
        raise ValueError("an s3:// URI holds no credentials; leave them to the environment")
    if not _BUCKET.fullmatch(bucket):
        raise ValueError("an s3:// URI begins with the name of a bucket")
    return bucket, key


def s3_client(storage: StorageConfig) -> Any:
    """A boto3 client, for the conditional requests that pyarrow does not have."""
    return _client(storage.resolved())


@lru_cache(maxsize=4)
def _client(storage: StorageConfig) -> Any:
    import boto3
    from botocore import UNSIGNED
    from botocore.config import Config

    config = Config(
        retries={"mode": "standard", "max_attempts": storage.max_attempts},
        connect_timeout=storage.connect_timeout_s,
        read_timeout=storage.request_timeout_s,
        # Other servers seldom have a host name for each bucket.
        s3={"addressing_style": "path" if storage.endpoint_url else "auto"},
        signature_version=UNSIGNED if storage.anonymous else None,
    )
    return boto3.client(
        "s3",
        endpoint_url=storage.endpoint_url,
        region_name=storage.region or ("us-east-1" if storage.endpoint_url else None),
        config=config,
    )


@contextmanager
def as_os_error(uri: str) -> Iterator[None]:
    """What boto3 raises within the block, as what pyarrow and the disk raise."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (BotoCoreError, ClientError) as error:
        raise OSError(f"{uri}: {error}") from error


def upload(file: BinaryIO, uri: str, storage: StorageConfig) -> None:
    """Make an object of a file, from its place on; there is all of it then, or nothing of it.

    pyarrow's stream is no way to: one that is closed by an error leaves what it has so far.

    Raises:
        OSError: it cannot be written.
    """
    from boto3.s3.transfer import TransferConfig

    bucket, key = bucket_and_key(uri)
    with as_os_error(uri):
        one_thread = TransferConfig(use_threads=False)
        s3_client(storage).upload_fileobj(file, bucket, key, Config=one_thread)


def patiently(make: Callable[[], Iterable[_Item]], storage: StorageConfig) -> Iterator[_Item]:
    """Items whose making reads from S3, made again where pyarrow's own retries do not reach.

    Args:
        make: begins anew at every call, with the same items.
        storage: how often to try, with exponential back-off in between.
    """
    done, failures = 0, 0
    while True:
        try:
            for item in islice(make(), done, None):
                yield item
                done += 1
            return
        except OSError as error:
            failures += 1
            if _UNREAD not in str(error) or failures >= storage.max_attempts:
                raise
            pause = min(_FIRST_PAUSE_S * 2**failures, _LONGEST_PAUSE_S)
            time.sleep(pause * random.uniform(0.5, 1))
