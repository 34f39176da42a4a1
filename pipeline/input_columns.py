"""Which of an input's columns mean what: names that datasets use, and names that nothing has."""

import posixpath
from collections.abc import Sequence

import pyarrow as pa

from pipeline.config import ColumnsConfig, InputConfig
from pipeline.formats import TYPED
from sgl.errors import ConfigurationError

_FILE_NAME = "file_name"
_DEFAULT_NAMES = ColumnsConfig()


def with_image_folder(config: InputConfig, schemas: Sequence[tuple[str, pa.Schema]]) -> InputConfig:
    """Hugging Face's image folder: a manifest called metadata names its pictures `file_name`."""
    stems = {posixpath.splitext(posixpath.basename(file))[0] for file, _ in schemas}
    names = {name for _, schema in schemas for name in schema.names}
    if (
        stems != {"metadata"}
        or config.columns.image in names
        or "image" in _renamed(config.columns)
        or _FILE_NAME not in names
    ):
        return config
    columns = config.columns.model_copy(update={"image": _FILE_NAME})
    return config.model_copy(update={"columns": columns})


def with_answers(config: InputConfig, schemas: Sequence[tuple[str, pa.Schema]]) -> InputConfig:
    """Datasets with one right answer call it `answer`, which would be an output column's name."""
    names = {name for _, schema in schemas for name in schema.names} - set(config.drop)
    answers = config.columns.answers_among(names)
    columns = config.columns.model_copy(update={"answers": answers})
    return config.model_copy(update={"columns": columns})


def _renamed(columns: ColumnsConfig) -> list[str]:
    """What the user has named otherwise; settings that were saved and read name everything."""
    return [role for role, name in columns if name != getattr(_DEFAULT_NAMES, role)]


def check_names(
    config: InputConfig, schemas: Sequence[tuple[str, pa.Schema]], file_format: str
) -> None:
    """Refuse names that no file knows, and files of fixed columns that lack a needed one.

    Raises:
        ConfigurationError: names the setting, the column, and those that there are.
    """
    columns = config.columns
    known = {name for _, schema in schemas for name in schema.names}
    listed = ", ".join(sorted(known)) or "none"
    needed = ("question",) if config.text_only else ("question", "image")
    for role in (*needed, *_renamed(columns)):
        name = getattr(columns, role)
        if name not in known:
            waived = role == "image" and not config.text_only
            hint = "; input.text_only answers without one" if waived else ""
            raise ConfigurationError(
                f"input.columns.{role}: the input has no column '{name}'; it has {listed}{hint}"
            )
    for setting in ("drop", "options"):
        if unknown := [name for name in getattr(config, setting) if name not in known]:
            raise ConfigurationError(
                f"input.{setting}: the input has no column '{unknown[0]}'; it has {listed}"
            )
    if file_format not in TYPED:
        return
    for role in ("id", *needed):
        name = getattr(columns, role)
        lacking = [file for file, schema in schemas if name not in schema.names]
        if name in known and lacking:
            raise ConfigurationError(
                f"input.columns.{role}: {lacking[0]} has no column '{name}', which other files have"
            )
