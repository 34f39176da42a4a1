"""Files by path or URI: the local disk, and whatever pyarrow reaches (s3://, gs://)."""

import posixpath
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from pyarrow import fs

_GLOB = frozenset("*?[")


def locate(uri: str) -> tuple[fs.FileSystem, str]:
    """The filesystem of a local path or a URI, and the path within it.

    Raises:
        ValueError: the scheme is unknown.
    """
    if "://" in uri:
        filesystem, path = fs.FileSystem.from_uri(uri)
        return filesystem, path
    return fs.LocalFileSystem(), uri


def read_bytes(uri: str) -> bytes:
    """The whole file.

    Raises:
        OSError: it cannot be read; FileNotFoundError where it does not exist.
    """
    filesystem, path = locate(uri)
    with filesystem.open_input_stream(path) as stream:
        return bytes(stream.read())


def list_files(uri: str) -> list[str]:
    """The files that a path, a directory or a glob stands for, sorted.

    Hidden files and folders (leading "." or "_") are left out of directories. A glob's last parts
    may hold wildcards; its folders are searched recursively.

    Raises:
        FileNotFoundError: there is no such file or directory.
    """
    filesystem, path = locate(uri)
    if _GLOB & set(path):
        root = _fixed_part(path)
        found = _walk(filesystem, root)
        return sorted(file for file in found if _matches(file, path))
    info = filesystem.get_file_info(path)
    if info.type == fs.FileType.File:
        return [path]
    if info.type == fs.FileType.NotFound:
        raise FileNotFoundError(uri)
    return sorted(_walk(filesystem, path))


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
