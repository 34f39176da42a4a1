"""From a YAML file, `--set` and flags to a checked ServeConfig."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from pydantic import ValidationError

from pipeline.config import absolute_path
from pipeline.settings_file import assign, assign_all, explained, read_settings
from serving.config import PairConfig, ServeConfig
from sgl.errors import ConfigurationError

Names: TypeAlias = Callable[[PairConfig], PairConfig]
"""Makes paths of models' names that are neither paths nor ids of a hub."""


def load_config(
    path: str | None,
    assignments: Sequence[str] = (),
    flags: Mapping[str, Any] | None = None,
    names: Names | None = None,
) -> ServeConfig:
    """The settings of an endpoint; flags win over `--set`, which wins over the file.

    Args:
        path: of a YAML file; None starts from nothing.
        assignments: "a.b=value", the value in YAML.
        flags: dotted name -> value; None values are passed over.
        names: of models, looked up before paths are made absolute, so that no folder that happens
            to be there counts as one.

    Raises:
        ConfigurationError: names the setting and the remedy.
    """
    data = {} if path is None else read_settings(path)
    assign_all(data, assignments)
    for name, value in (flags or {}).items():
        if value is not None:
            assign(data, name, value)
    return checked(data, names)


def checked(data: Mapping[str, Any], names: Names | None = None) -> ServeConfig:
    """A ServeConfig of plain data, paths absolute.

    Raises:
        ConfigurationError: names the setting and the remedy.
    """
    try:
        config = ServeConfig.model_validate(data)
    except ValidationError as error:
        raise ConfigurationError(explained(error, ServeConfig)) from error
    if names is not None:
        config = config.model_copy(update={"models": names(config.models)})
    return _absolute(config)


def _absolute(config: ServeConfig) -> ServeConfig:
    """As replicas need it, whose current directory is another one."""
    update: dict[str, Any] = {
        "policies": {name: absolute_path(path) for name, path in config.policies.items()},
        "keys": config.keys and absolute_path(config.keys),
    }
    if config.pricing and config.pricing.file:
        file = absolute_path(config.pricing.file)
        update["pricing"] = config.pricing.model_copy(update={"file": file})
    models = {
        role: model.model_copy(update={"path": absolute_path(model.path)})
        for role, model in (("small", config.models.small), ("large", config.models.large))
        if Path(model.path).expanduser().exists()
    }
    update["models"] = config.models.model_copy(update=models)
    return config.model_copy(update=update)
