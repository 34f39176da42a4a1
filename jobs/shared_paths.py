"""Paths that every node of a cluster can read, and those that it cannot."""

from collections.abc import Collection
from pathlib import PurePosixPath
from posixpath import normpath

_FILE = "file://"


def is_shared(path: str, folders: Collection[str]) -> bool:
    """Whether all nodes have it: a URI, or below one of these folders."""
    local = path.removeprefix(_FILE)
    if "://" in local:
        return True
    # Told by what is meant, not by how it begins: /shared/../home is not shared.
    return any(PurePosixPath(normpath(local)).is_relative_to(folder) for folder in folders)
