"""The calibrated policies of an endpoint, checked against its models before it starts."""

from pathlib import Path

from pydantic import ValidationError

from pipeline.config import InputConfig, JobConfig, Mode, ModelsConfig, OutputConfig
from pipeline.policy import Policy, check_policy, identity_for, read_policy
from pipeline.pool_config import PoolsConfig
from pipeline.settings_file import explained
from serving.config import ServeConfig
from sgl.errors import ConfigurationError

_NO_POOLS = PoolsConfig()
_UNHEARD = "input."
"""What a policy knows of its records' files; an endpoint has none."""


def policies_of(config: ServeConfig) -> dict[str, Policy]:
    """All policies by name; model files are read.

    Raises:
        ConfigurationError: one cannot be read, or was made with other models or settings.
    """
    if not config.policies:
        return {}
    job = job_of(config)
    return {name: _checked(name, path, job) for name, path in config.policies.items()}


def _checked(name: str, path: str, job: JobConfig) -> Policy:
    try:
        policy = read_policy(Path(path))
        check_policy(_with_input_of(policy, job), job)
    except ConfigurationError as error:
        told = str(error).removeprefix("--policy").lstrip(": ")
        raise ConfigurationError(f"policies.{name}: {told}") from error
    if policy.mode is Mode.LARGE:
        raise ConfigurationError(f"policies.{name}: it has no small model; leave it out")
    return policy


def _with_input_of(policy: Policy, job: JobConfig) -> Policy:
    """The same policy as if it had been made with the input settings of this job."""
    theirs = {k: v for k, v in policy.identity.items() if not k.startswith(_UNHEARD)}
    ours = {k: v for k, v in identity_for(job).items() if k.startswith(_UNHEARD)}
    return policy.model_copy(update={"identity": theirs | ours})


def job_of(config: ServeConfig, pools: PoolsConfig = _NO_POOLS) -> JobConfig:
    """The batch job that answers as this endpoint does.

    Args:
        config: of the endpoint.
        pools: of the job; by default any, where nothing is asked of them.

    Raises:
        ConfigurationError: there is none such.
    """
    try:
        return JobConfig(
            input=InputConfig(path="requests"),
            output=OutputConfig(path="answers"),
            threshold=0.0,
            models=ModelsConfig(small=config.models.small, large=config.models.large),
            guidance=config.guidance,
            pruning=config.pruning,
            decoding=config.decoding,
            pools=pools,
        )
    except ValidationError as error:
        raise ConfigurationError(explained(error, JobConfig)) from error
