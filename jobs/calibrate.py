"""`sgl calibrate`: the cheapest cascade that keeps a stated quality, as a policy for `sgl run`."""

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from actors.config import PruningConfig
from jobs.calibrate_config import CalibrationConfig, in_users_unit
from jobs.calibrate_tables import comparison, told
from jobs.run import run_job
from jobs.sample import sample_job
from pipeline.config import JobConfig, Mode
from pipeline.observations import Observations, Prices, observe
from pipeline.output import Output
from pipeline.policy import Guarantee, Policy, identity_for, write_policy
from pipeline.run_record import run_records
from sgl import calibration
from sgl.calibration import LARGE_ONLY, Choice, Target
from sgl.errors import ConfigurationError

INFEASIBLE = 5
"""Exit code: the target could not be shown to be met."""


def calibrate_to(
    path: str | None, job: JobConfig, config: CalibrationConfig, console: Console
) -> int:
    """Calibrate and write the policy, if there is one; the exit code."""
    if path and Path(path).exists():
        raise ConfigurationError(
            f"--policy {path}: is there already and is not overwritten; write another name"
        )
    policy = run_calibration(job, config, console)
    if policy is None:
        return INFEASIBLE
    if path:
        write_policy(policy, Path(path))
        console.print(f"sgl run --policy {path}", highlight=False, soft_wrap=True)
    return 0


def run_calibration(job: JobConfig, config: CalibrationConfig, console: Console) -> Policy | None:
    """Answer a sample in every way and choose; prints what it came to.

    Args:
        job: a cascade; its output directory takes the sample's rows, and the same command goes on
            where it was stopped.
        config: targets and evidence.
        console: for progress and tables.

    Returns:
        The policy; None where no cascade cheaper than the large model could be shown to do.

    Raises:
        ConfigurationError: see run_job; or a target needs what the records do not have.
    """
    sample = sample_job(job, config.records, config.prunings, config.seed)
    outcome = run_job(sample, console)
    prices = prices_of(job, outcome.output) if counts_money(job, config) else None
    seen = observe(outcome.output, config.prunings, prices)
    targets = targets_of(seen, config)
    aim = None if config.promises_quality else seen.disagreement(config.metric)
    choice = calibration.calibrate(seen.sample(), targets, config.delta, aim=aim, seed=config.seed)
    policy = policy_of(job, config, seen, choice) if choice.candidate else None
    for line in told(seen, config, choice):
        console.print(line, highlight=False, soft_wrap=True)
    console.print(comparison(seen, config, choice))
    return policy


def counts_money(job: JobConfig, config: CalibrationConfig) -> bool:
    """Whether cost is dollars; else it is FLOPs, which do not depend on how busy a machine is."""
    told = job.pools.small.usd_per_hour is not None or job.pricing is not None
    return told or config.budget_usd_per_1k is not None


def prices_of(job: JobConfig, output: Output) -> Prices:
    """Per device-second: the job's own, or those of the latest run that wrote the sample.

    Raises:
        ConfigurationError: there are none.
    """
    pools = {role: getattr(job.pools, role).usd_per_hour for role in ("small", "large")}
    for record in reversed(run_records(output)):
        for role, pool in record.pools.items():
            pools[role] = pool.usd_per_hour if pools[role] is None else pools[role]
    small, large = pools["small"], pools["large"]
    if small is None or large is None:
        raise ConfigurationError(
            "--budget-usd-per-1k: no prices are known; write pools.small.usd_per_hour and "
            "pools.large.usd_per_hour, and the same command goes on"
        )
    return Prices(small / 3600, large / 3600)


def targets_of(seen: Observations, config: CalibrationConfig) -> list[Target]:
    """As limits of mean losses."""
    made = {
        "agreement": lambda value: (1 - value, seen.disagreement(config.metric)),
        "max_accuracy_drop": lambda value: (value, seen.accuracy_drop(config.metric)),
        "escalation_rate": lambda value: (value, seen.escalations()),
        "budget_usd_per_1k": lambda value: (value / 1000, seen.costs()),
    }
    return [Target(name, *made[name](value)) for name, value in config.targets().items()]


def policy_of(
    job: JobConfig, config: CalibrationConfig, seen: Observations, choice: Choice
) -> Policy:
    """What was chosen, as a file has it."""
    candidate = choice.candidate
    assert candidate is not None, "nothing was chosen"
    sample = seen.sample()
    pruned = candidate.pruned
    return Policy(
        mode=Mode.SMALL if candidate.threshold <= 0 else Mode.CASCADE,
        threshold=candidate.threshold,
        pruning=PruningConfig.model_validate(asdict(pruned)),
        guarantees=tuple(
            Guarantee(
                target=name, value=value, estimate=in_users_unit(name, choice.estimates[name])
            )
            for name, value in config.targets().items()
        ),
        delta=config.delta,
        metric=config.metric,
        records=choice.records,
        cost={
            "policy": float(sample.cost(candidate).mean()),
            "large_only": float(sample.cost(LARGE_ONLY).mean()),
        },
        cost_unit=seen.unit,
        escalation_rate=float(1 - sample.exits(candidate.threshold).mean()),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        identity=identity_for(job),
    )
