"""Compare and swap of a small file: what two processes must not both change.

On the local disk under a lock of the kernel (flock, which Linux also carries over NFS), on S3 with
conditional requests (If-None-Match, If-Match). Where a server knows no conditions, and on other
storage, the swap is a comparison followed by a write: of two that swap within the same moment
both may believe to have won, and the first one notices at its next swap, which fails.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyarrow import fs

from infra.s3 import DEFAULT, StorageConfig, as_os_error, bucket_and_key, s3_client
from infra.storage import locate, read_bytes, write_bytes

_REFUSED = {
    "PreconditionFailed",
    "ConditionalRequestConflict",
    "NoSuchKey",
    "404",
    "409",
    "412",
}
_UNKNOWN = {"NotImplemented", "501"}


def peek(uri: str, storage: StorageConfig = DEFAULT) -> bytes | None:
    """The file's bytes, of one moment; None where there is none.

    Raises:
        OSError: it cannot be read.
    """
    if uri.startswith("s3://"):
        # pyarrow asks for the size first: of a file that is replaced meanwhile it mixes two.
        with as_os_error(uri):
            return _get(s3_client(storage), _place(uri), storage)[0]
    try:
        return read_bytes(uri, storage)
    except FileNotFoundError:
        return None


def swap(uri: str, old: bytes | None, new: bytes | None, storage: StorageConfig = DEFAULT) -> bool:
    """Replace a file, if it holds what the caller believes.

    Args:
        uri: of the file; its folder is made as needed.
        old: what it must hold; None: it must not exist.
        new: what it shall hold; None: it shall not exist.
        storage: how S3 is reached.

    Returns:
        Whether it was done.

    Raises:
        OSError: the storage does not answer.
    """
    filesystem, path = locate(uri, storage)
    if isinstance(filesystem, fs.LocalFileSystem):
        with _locked(Path(path)):
            return _compared(uri, old, new, storage)
    if uri.startswith("s3://"):
        return _swap_s3(uri, old, new, storage)
    return _compared(uri, old, new, storage)


def _compared(uri: str, old: bytes | None, new: bytes | None, storage: StorageConfig) -> bool:
    if peek(uri, storage) != old:
        return False
    if new is not None:
        write_bytes(uri, new, storage)
    elif old is not None:
        filesystem, path = locate(uri, storage)
        filesystem.delete_file(path)
    return True


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    # The lock file stays: who would delete it could delete one that another has just locked.
    descriptor = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _swap_s3(uri: str, old: bytes | None, new: bytes | None, storage: StorageConfig) -> bool:
    from botocore.exceptions import ClientError

    client, place = s3_client(storage), _place(uri)
    with as_os_error(uri):
        held, tag = _get(client, place, storage)
        if held != old:
            return False
        condition = {"IfNoneMatch": "*"} if tag is None else {"IfMatch": tag}
        try:
            if new is not None:
                _conditional(client.put_object, condition, {**place, "Body": new})
            elif old is not None:
                _conditional(client.delete_object, condition, place)
        except ClientError as error:
            if error.response["Error"]["Code"] not in _REFUSED:
                raise
            # A request that was repeated because its first answer was lost meets its own work.
            return _get(client, place, storage)[0] == new
    return True


def _place(uri: str) -> dict[str, Any]:
    bucket, key = bucket_and_key(uri)
    return {"Bucket": bucket, "Key": key}


def _get(
    client: Any, place: dict[str, Any], storage: StorageConfig
) -> tuple[bytes | None, str | None]:
    from botocore.exceptions import HTTPClientError

    for left in reversed(range(storage.max_attempts)):
        try:
            found = client.get_object(**place)
            return found["Body"].read(), found["ETag"]
        except client.exceptions.NoSuchKey:
            return None, None
        except HTTPClientError:
            # boto3 repeats requests, but not the reading of an answer that is cut off.
            if not left:
                raise
    raise AssertionError("max_attempts is at least 1")


def _conditional(
    request: Callable[..., Any], condition: dict[str, str], arguments: dict[str, Any]
) -> None:
    from botocore.exceptions import ClientError

    try:
        request(**arguments, **condition)
    except ClientError as error:
        if error.response["Error"]["Code"] not in _UNKNOWN:
            raise
        request(**arguments)
