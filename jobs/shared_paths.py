"""Paths that every node of a cluster can read, and those that it cannot."""

import re
from collections.abc import Collection
from pathlib import Path, PurePosixPath
from posixpath import normpath

from actors.config import ModelConfig
from sgl.errors import ConfigurationError

_FILE = "file://"
_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$")


def is_shared(path: str, folders: Collection[str]) -> bool:
    """Whether all nodes have it: a URI, or below one of these folders."""
    local = path.removeprefix(_FILE)
    if "://" in local:
        return True
    # Told by what is meant, not by how it begins: /shared/../home is not shared.
    return any(PurePosixPath(normpath(local)).is_relative_to(folder) for folder in folders)


def local_folder(model: ModelConfig) -> str | None:
    """The folder of a model; None for a hub's id and the testbed."""
    return model.path if model.path.startswith(("/", ".", "~")) else None


def check_hub_id(role: str, model: ModelConfig) -> None:
    """Refuse what would be taken for a hub's id and is none; a stranger's might be downloaded.

    Raises:
        ConfigurationError: the path is neither a folder, by how it begins, nor an id.
    """
    if local_folder(model) is not None:
        return
    path = model.path
    if "://" in path or Path(path).is_dir() or not _HUB_ID.match(path):
        raise ConfigurationError(
            f"models.{role}.path: {path} is no hub's id, or a folder of this machine; write an id, "
            "as in owner/name, or a folder's path on the cluster"
        )
