"""A policy: the cascade that calibration chose, what it promises, and for which models.

A file that people can read. `sgl run --policy` takes its threshold and pruning, and refuses it for
a job whose models or settings are not those that it was made with.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError

from actors.config import PruningConfig, StrictModel
from pipeline.config import JobConfig, Mode
from pipeline.fingerprint import identity_of
from sgl.errors import ConfigurationError

_CHOSEN = ("mode", "threshold", "pruning", "probe")
"""What a policy decides itself, or what watches it."""
_UNHEARD = ("output", "input.drop", "input.columns", "input.image_root", "guidance.all_criteria")
"""What changes rows and no answer: what is carried and noted, where the records are looked for."""
_DIFFERENCES = 4


class Guarantee(StrictModel):
    """One promise.

    Attributes:
        target: agreement, max-accuracy-drop, escalation-rate or budget-usd-per-1k.
        value: of the target, as the user wrote it; this is what is promised.
        estimate: what the chosen cascade came to on the records of the test, in the same unit. They
            are those that it was chosen by, so that it is likely to look better than it is.
    """

    target: str
    value: float
    estimate: float


class Policy(StrictModel):
    """What calibration came to.

    Attributes:
        mode: cascade, or small where every record may exit.
        threshold: exit score from which the small model's answer stands.
        pruning: of the large model on the others; a keep ratio of 1 is unpruned.
        guarantees: hold all together for the mean over the records that the sample was drawn from.
        delta: the chance that they do not.
        metric: by which answers were compared.
        records: of the test, which the guarantees rest on.
        cost: mean per record of this policy, and of the large model alone, in `cost_unit`.
        cost_unit: usd, or flops where there were no prices.
        escalation_rate: share of the sample that went on to the large model.
        created_at: ISO 8601, UTC.
        identity: of the models and settings that it is for, by name.
    """

    version: Literal[2] = 2
    mode: Mode
    threshold: float
    pruning: PruningConfig
    guarantees: tuple[Guarantee, ...]
    delta: float = Field(gt=0, lt=1)
    metric: str
    records: int
    cost: dict[str, float]
    cost_unit: str
    escalation_rate: float
    created_at: str
    identity: dict[str, str]


def identity_for(job: JobConfig) -> dict[str, str]:
    """What must be the same for a policy to hold: models, guidance, decoding, preprocessing."""
    if job.models.small and job.models.large:
        job = job.model_copy(update={"mode": Mode.CASCADE, "threshold": job.threshold or 0.0})
    return _without(identity_of(job), (*_CHOSEN, *_UNHEARD))


def _without(identity: Mapping[str, str], names: Sequence[str]) -> dict[str, str]:
    """An identity less some settings, each with all that is below it."""

    def is_meant(setting: str) -> bool:
        return any(setting == one or setting.startswith(f"{one}.") for one in names)

    return {name: value for name, value in identity.items() if not is_meant(name)}


def decided_by(policy: Policy) -> frozenset[str]:
    """Settings that a job has of its policy."""
    promises = _agreement(policy) is not None
    return frozenset({"mode", "threshold", "pruning", *(["promise"] if promises else [])})


def settings_of(policy: Policy, written: Mapping[str, Any]) -> dict[str, Any]:
    """A job's settings with what the policy decides.

    Args:
        policy: of calibration.
        written: the other settings, as the user has them.

    Raises:
        ConfigurationError: they decide the same.
    """
    if both := sorted(decided_by(policy) & written.keys()):
        raise ConfigurationError(
            f"--policy: it decides {', '.join(both)}, which the job writes too; leave one out"
        )
    chosen: dict[str, Any] = {"mode": policy.mode.value}
    if policy.mode is Mode.CASCADE:
        chosen |= {"threshold": policy.threshold, "pruning": policy.pruning.model_dump()}
    if (agreement := _agreement(policy)) is not None:
        chosen["promise"] = {
            "agreement": agreement,
            "delta": policy.delta,
            "metric": policy.metric,
        }
    return {**written, **chosen}


def _agreement(policy: Policy) -> float | None:
    """What it promises, if it promises any."""
    return next((one.value for one in policy.guarantees if one.target == "agreement"), None)


def check_policy(policy: Policy, job: JobConfig, unseen: Sequence[str] = ()) -> None:
    """Refuse a job that is not the one that the policy was made with.

    Args:
        policy: of calibration.
        job: with what the policy decides.
        unseen: settings that cannot be told here.

    Raises:
        ConfigurationError: names the settings that differ.
    """
    # Where every record exits, the large model is asked nothing, and need not be there.
    unasked = ("models.large",) if policy.mode is Mode.SMALL else ()
    here, there = (
        _without(one, (*unasked, *unseen)) for one in (identity_for(job), policy.identity)
    )
    every = sorted(here.keys() | there.keys())
    names = [name for name in every if here.get(name) != there.get(name)]
    if names:
        more = f" and {len(names) - _DIFFERENCES} more" if len(names) > _DIFFERENCES else ""
        raise ConfigurationError(
            f"--policy: it was calibrated with other settings ({', '.join(names[:_DIFFERENCES])}"
            f"{more}), and its guarantee does not hold for these; calibrate again"
        )


def write_policy(policy: Policy, path: Path) -> None:
    """Write a policy as YAML; one that is there already is not overwritten.

    Raises:
        FileExistsError: it is.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    data = policy.model_dump(mode="json")
    with path.open("x", encoding="utf-8") as file:
        yaml.safe_dump(data, file, sort_keys=False, allow_unicode=True)


def read_policy(path: Path) -> Policy:
    """A policy from its file.

    Raises:
        ConfigurationError: there is none, or it is of another version.
    """
    try:
        data: Mapping[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
        return Policy.model_validate(data)
    except OSError as error:
        raise ConfigurationError(f"--policy {path}: cannot be read") from error
    except (yaml.YAMLError, ValidationError) as error:
        raise ConfigurationError(
            f"--policy {path}: is no policy of this version; calibrate again"
        ) from error
