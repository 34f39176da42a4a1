"""The measured seconds of a plan: of outputs and files, of a probe run now, or of the demo."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sgl.errors import ConfigurationError

if TYPE_CHECKING:
    from infra.s3 import StorageConfig
    from pipeline.config import JobConfig
    from pipeline.plan.measured import Measured

DEMO = Path(__file__).with_name("plan_sample.json")
"""Of the demo's pair, on cores of a CPU: what there is without any measurement of one's own."""
PROBE_RECORDS = 1000
ASSUMED = (
    "no --measured and no --probe: the seconds are those of the demo's tiny pair on CPU cores, and "
    "each device is taken for one of them. This shows what a plan tells, and says nothing of your "
    "models: measure them with --probe job.yaml on one such device"
)


def measured_samples(places: Sequence[str], storage: "StorageConfig") -> "list[Measured]":
    """Of outputs of `sgl run`, and of files.

    Raises:
        ConfigurationError: a place is neither, or tells too little.
    """
    from pipeline.config import absolute_path
    from pipeline.plan.measured import measured

    return [measured(absolute_path(place), storage) for place in places]


def demo_sample() -> "Measured":
    """The one that ships with the package."""
    from pipeline.plan.measured import measured

    return measured(str(DEMO))


def probe_job(path: str, records: int, policy: str | None = None) -> "JobConfig":
    """A job over some of its records, drawn at random, with an output of its own beside its own.

    Args:
        path: of the job's settings.
        records: at most so many.
        policy: see `sgl run`.

    Raises:
        ConfigurationError: names the setting and the remedy.
    """
    from jobs.settings import load_job

    job = load_job(path, flags={"input.sample": records}, policy=policy)
    data = job.model_dump(exclude_unset=True)
    data["output"]["path"] = f"{job.output.path.rstrip('/')}-probe-{records}"
    return job.model_validate(data)


def probed(job: "JobConfig") -> "Measured":
    """Run such a job, told on the standard error; the same again reads what is there.

    Raises:
        ConfigurationError: it is no cascade, or its output tells too little.
    """
    from rich.console import Console

    from jobs.run import run_job
    from pipeline.config import Mode
    from pipeline.plan.measured import of_output

    if job.mode is not Mode.CASCADE:
        raise ConfigurationError(f"--probe: the job's mode is '{job.mode}'; a cascade is planned")
    return of_output(run_job(job, Console(stderr=True)).output)
