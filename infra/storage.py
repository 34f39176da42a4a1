"""Files by path or URI: the local disk, S3 (infra/s3.py), and the clouds that pyarrow reaches."""

import os
import posixpath
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from pyarrow import fs

from infra.s3 import DEFAULT, StorageConfig, bucket_and_key, patiently, s3_filesystem, upload

_GLOB = frozenset("*?[")
PART = ".part"
"""Ends the name of a file that is still being written."""
_OTHER_SCHEMES = frozenset({"file", "gs", "abfs", "abfss"})
_MARKS = frozenset("?#")
"""Begin what pyarrow would take from a URI for settings: a server to send credentials to, say."""


def locate(uri: str, storage: StorageConfig = DEFAULT) -> tuple[fs.FileSystem, str]:
    """The filesystem of a local path or a URI, and the path within it.

    What follows s3:// is bucket and key as they are, without escapes.

    Raises:
        ValueError: the scheme is unknown, or the URI holds credentials or parameters.
    """
    scheme, found, path = uri.partition("://")
    check_uri(uri)
    if not found:
        return fs.LocalFileSystem(), uri
    if scheme == "s3":
        bucket, key = bucket_and_key(uri)
        return s3_filesystem(storage, bucket), f"{bucket}/{key}" if key else bucket
    if scheme == "gs":
        # pyarrow's own looks for credentials for a quarter of an hour where there are none.
        patience = timedelta(seconds=storage.request_timeout_s)
        return fs.GcsFileSystem(retry_time_limit=patience), path.rstrip("/")
    filesystem, within = fs.FileSystem.from_uri(uri)
    return filesystem, within


def check_uri(uri: str) -> None:
    """Refuse what no storage is addressed by, without asking one.

    Raises:
        ValueError: see locate.
    """
    scheme, found, path = uri.partition("://")
    if not found:
        return
    if scheme == "s3":
        bucket_and_key(uri)
        return
    if scheme not in _OTHER_SCHEMES:
        raise ValueError(f"a URI begins with s3://, {'://, '.join(sorted(_OTHER_SCHEMES))}://")
    if _MARKS & set(path) or "@" in path.partition("/")[0]:
        raise ValueError(f"a {scheme}:// URI holds no parameters and no credentials")


def read_bytes(uri: str, storage: StorageConfig = DEFAULT) -> bytes:
    """The whole file.

    Raises:
        OSError: it cannot be read; FileNotFoundError where it does not exist.
    """
    filesystem, path = locate(uri, storage)

    def read() -> Iterator[bytes]:
        with filesystem.open_input_stream(path) as stream:
            yield stream.read()

    return next(patiently(read, storage))


def write_bytes(uri: str, data: bytes, storage: StorageConfig = DEFAULT) -> None:
    """Make a file, or replace it at once: at any moment there is the old one or the new one.

    Folders are made as needed. On the local disk the data are forced out before the name is given.

    Raises:
        OSError: it cannot be written.
    """
    filesystem, path = locate(uri, storage)
    if isinstance(filesystem, fs.LocalFileSystem):
        with _replacing(Path(path)) as file:
            file.write(data)
    else:
        with filesystem.open_output_stream(path) as stream:
            stream.write(data)


@contextmanager
def replacing(uri: str, storage: StorageConfig = DEFAULT) -> Iterator[BinaryIO]:
    """A file to write piece by piece; it has its name when the block ends, not if that raises.

    As write_bytes, for what is too large for the memory: what goes elsewhere is kept on the local
    disk until it is whole.

    Raises:
        OSError: it cannot be written.
    """
    filesystem, path = locate(uri, storage)
    if isinstance(filesystem, fs.LocalFileSystem):
        with _replacing(Path(path)) as file:
            yield file
        return
    with tempfile.TemporaryFile(prefix="sgl-upload-") as file:
        yield file
        file.seek(0)
        if uri.startswith("s3://"):
            upload(file, uri, storage)
        else:
            with filesystem.open_output_stream(path) as stream:
                shutil.copyfileobj(file, stream)


@contextmanager
def _replacing(target: Path) -> Iterator[BinaryIO]:
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}{PART}")
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def remove(uri: str, storage: StorageConfig = DEFAULT) -> None:
    """Take a file away, if it is there.

    Raises:
        OSError: it cannot be.
    """
    filesystem, path = locate(uri, storage)
    if filesystem.get_file_info(path).type == fs.FileType.File:
        filesystem.delete_file(path)


def names_in(uri: str, storage: StorageConfig = DEFAULT) -> dict[str, int]:
    """Names and sizes of the files that lie in a folder itself, hidden ones included, sorted.

    Empty where there is no such folder.
    """
    found = _entries(uri, storage)
    files = {info.base_name: info.size for info in found if info.type == fs.FileType.File}
    return dict(sorted(files.items()))


def folders_in(uri: str, storage: StorageConfig = DEFAULT) -> list[str]:
    """Names of the folders that lie in a folder itself, sorted."""
    found = _entries(uri, storage)
    return sorted(info.base_name for info in found if info.type == fs.FileType.Directory)


def _entries(uri: str, storage: StorageConfig) -> list[fs.FileInfo]:
    """What lies in a folder itself, in no order; nothing where there is no such folder."""
    filesystem, path = locate(uri, storage)
    try:
        return list(filesystem.get_file_info(fs.FileSelector(path, allow_not_found=True)))
    except FileNotFoundError:
        # pyarrow looks twice: a folder that is made between the two looks is an error to it.
        return []


def rooted_files(uri: str, storage: StorageConfig = DEFAULT) -> tuple[str, list[str]]:
    """The files that a path, a directory or a glob stands for, and the folder that all are below.

    Hidden files and folders (leading "." or "_") are left out of directories. A glob's last parts
    may hold wildcards; its folders are searched recursively. What exists by the very name is no
    glob.

    Raises:
        FileNotFoundError: there is no such file or directory.
    """
    filesystem, path = locate(uri, storage)
    path = path.rstrip("/") or "/"
    info = filesystem.get_file_info(path)
    if info.type == fs.FileType.File:
        return posixpath.dirname(path), [path]
    if info.type != fs.FileType.NotFound:
        return path, sorted(_walk(filesystem, path))
    if not _GLOB & set(path):
        raise FileNotFoundError(uri)
    root = _fixed_part(path)
    return root, sorted(file for file in _walk(filesystem, root) if _matches(file, path))


def _fixed_part(pattern: str) -> str:
    parts = PurePosixPath(pattern).parts
    fixed = next(i for i, part in enumerate(parts) if _GLOB & set(part))
    return str(PurePosixPath(*parts[:fixed]))


def _matches(path: str, pattern: str) -> bool:
    # Part by part, so that "*" does not run across folders.
    left, right = PurePosixPath(path).parts, PurePosixPath(pattern).parts
    return len(left) == len(right) and all(map(fnmatchcase, left, right))


def _walk(filesystem: fs.FileSystem, root: str) -> Iterator[str]:
    for info in filesystem.get_file_info(fs.FileSelector(root, recursive=True)):
        below = posixpath.relpath(info.path, root)
        hidden = any(part.startswith((".", "_")) for part in below.split("/"))
        if info.type == fs.FileType.File and not hidden:
            yield info.path
