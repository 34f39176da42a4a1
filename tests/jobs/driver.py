"""A driver in a process of its own, for tests that kill it: python -m tests.jobs.driver JOB LOG."""

import sys
from pathlib import Path

from rich.console import Console

from jobs.run import run_job
from pipeline.build import Loaders
from pipeline.config import JobConfig
from tests.pipeline.fakes import FakeLarge, FakeSmall, Load


def main(job: str, log: str) -> None:
    folder = Path(log)
    loaders = Loaders(Load(FakeSmall, folder), Load(FakeLarge, folder))  # type: ignore[arg-type]
    run_job(JobConfig.model_validate_json(job), Console(), loaders)


if __name__ == "__main__":
    main(*sys.argv[1:])
