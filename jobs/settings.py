"""From a YAML file, `--set` and flags to a checked JobConfig; every mistake in one clear line."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from actors.config import ModelConfig, StrictModel
from infra.s3 import StorageConfig
from pipeline.config import JobConfig, Mode
from pipeline.policy import check_policy, decided_by, read_policy, settings_of
from pipeline.settings_file import assign, assign_all, explained, read_settings
from pipeline.submit_config import SubmitConfig
from sgl.calibration import NOBODY_EXITS
from sgl.errors import ConfigurationError
from testbed import model_path

TESTBED = "testbed"
"""As a model's path: the trained pair that ships with this repository."""
_CALIBRATED = (
    *("mode", "threshold", "pruning", "probe", "promise"),
    *("input.sample", "input.sample_seed"),
)
_NOTHING = object()

Models = TypeVar("Models", bound=StrictModel)


def load_job(
    path: str | None,
    assignments: Sequence[str] = (),
    flags: Mapping[str, Any] | None = None,
    policy: str | None = None,
    *,
    undecided: bool = False,
    elsewhere: bool = False,
) -> JobConfig:
    """One job; flags win over `--set`, which wins over the file.

    Args:
        path: of a YAML file; None starts from nothing.
        assignments: "a.b=value", the value in YAML.
        flags: dotted name -> value; None values are passed over.
        policy: file of a calibrated policy, which decides mode, threshold and pruning. What the
            YAML file says of them is passed over and told; flags and `--set` must not.
        undecided: these are still to be chosen, by a calibration, and so is what watches them;
            what is written of them is passed over and told.
        elsewhere: the job runs where other folders are than here, and other variables. Whether a
            model that is not here is the policy's is left to where it is, and so is the storage.

    Raises:
        ConfigurationError: names the setting and the remedy.
    """
    data = {} if path is None else read_settings(path)
    chosen = None if policy is None else read_policy(Path(policy))
    if chosen:
        _pass_over(data, sorted(decided_by(chosen)), "--policy decides it")
    assign_all(data, assignments)
    for name, value in (flags or {}).items():
        if value is not None:
            assign(data, name, value)
    if undecided:
        _pass_over(data, _CALIBRATED, "a calibration chooses it, and draws its own sample")
        data |= {"mode": Mode.CASCADE.value, "threshold": NOBODY_EXITS}
    if chosen is None:
        return checked(data, elsewhere=elsewhere)
    job = checked(settings_of(chosen, data), elsewhere=elsewhere)
    check_policy(chosen, job, _unseen(job) if elsewhere else ())
    return job


def _unseen(job: JobConfig) -> list[str]:
    """The settings of models whose folders are not on this machine."""
    folders = {role: Path(job.model(role).path) for role in ("small", "large") if job.uses(role)}
    return [
        f"models.{role}.path"
        for role, folder in folders.items()
        if folder.is_absolute() and not folder.exists()
    ]


class Whereabouts(StrictModel):
    """What of a job's settings also counts for one that is there already.

    Attributes:
        submit: which cluster.
        storage: how its output is reached from here.
    """

    submit: SubmitConfig = SubmitConfig()
    storage: StorageConfig = StorageConfig()


def whereabouts(
    path: str | None, assignments: Sequence[str], flags: Mapping[str, Any]
) -> Whereabouts:
    """Which cluster the settings of a job name, whatever else they say; as `load_job`.

    Raises:
        ConfigurationError: names the setting and the remedy.
    """
    data = {} if path is None else read_settings(path)
    assign_all(data, assignments)
    for name, value in flags.items():
        if value is not None:
            assign(data, name, value)
    try:
        named = {name: data[name] for name in Whereabouts.model_fields if name in data}
        return Whereabouts.model_validate(named)
    except ValidationError as error:
        raise ConfigurationError(explained(error, Whereabouts)) from error


def checked(data: Mapping[str, Any], *, elsewhere: bool = False) -> JobConfig:
    """A JobConfig of plain data, the testbed's name resolved, paths absolute.

    Args:
        data: the settings.
        elsewhere: see load_job; the storage stays as it is written.

    Raises:
        ConfigurationError: names the setting and the remedy.
    """
    try:
        job = JobConfig.model_validate(data)
        job = job.model_copy(update={"models": with_testbed(job.models)})
        return job.absolute(elsewhere=elsewhere)  # which looks at the environment's storage, too
    except ValidationError as error:
        raise ConfigurationError(explained(error, JobConfig)) from error


def storage_at(endpoint_url: str | None) -> StorageConfig:
    """The storage behind `--endpoint-url`.

    Raises:
        ConfigurationError: it is no URL.
    """
    try:
        return StorageConfig(endpoint_url=endpoint_url)
    except ValidationError as error:
        raise ConfigurationError(f"--endpoint-url: {error.errors()[0]['msg']}") from error


def _pass_over(data: dict[str, Any], names: Sequence[str], reason: str) -> None:
    """Take settings out, and say which."""
    written = [name for name in names if _take(data, name)]
    if written:
        print(f"sgl: not looked at, as {reason}: {', '.join(written)}", file=sys.stderr)


def _take(data: dict[str, Any], name: str) -> bool:
    *parents, last = name.split(".")
    for parent in parents:
        below = data.get(parent)
        if not isinstance(below, dict):
            return False
        data = below
    return data.pop(last, _NOTHING) is not _NOTHING


def with_testbed(models: Models) -> Models:
    """Both models, the testbed's name made a path."""
    for role in ("small", "large"):
        model: ModelConfig | None = getattr(models, role)
        if model is not None and model.path == TESTBED:
            path = str(model_path(role))
            models = models.model_copy(update={role: model.model_copy(update={"path": path})})
    return models
