"""Options of the commands that run a job, and the job that they come to."""

import argparse
from typing import TYPE_CHECKING, Any, get_args

from actors.config import PrunerName
from jobs.price_option import add_price_option, price_flags
from jobs.set_option import add_set_option
from sgl.types import Criterion

if TYPE_CHECKING:
    from pipeline.config import JobConfig

PRUNERS = get_args(PrunerName)
SETTINGS = {
    "input": "input.path",
    "output": "output.path",
    "limit": "input.limit",
    "mode": "mode",
    "small": "models.small.path",
    "large": "models.large.path",
    "threshold": "threshold",
    "criterion": "guidance.criterion",
    "pruner": "pruning.pruner",
    "prune_layer": "pruning.prune_layer",
    "keep_ratio": "pruning.keep_ratio",
    "log_format": "logs.format",
    "max_usd": "budget.usd",
    "max_gpu_hours": "budget.gpu_hours",
    "address": "submit.address",
    "verify": "submit.verify",
    "shared_paths": "submit.shared_paths",
    "code": "submit.code",
}
"""Options, and the settings that they stand for."""
SOURCES = ("config", "assignments", "input", "limit", "small", "large")
"""Options of `add_sources`, as the parsed ones are named."""


def add_sources(parser: argparse._ActionsContainer) -> None:
    """Which records, which models, and all other settings by name."""
    parser.add_argument("--config", metavar="FILE", help="job settings, YAML")
    add_set_option(parser)
    parser.add_argument("--input", metavar="PATH", help="file, directory, glob or URI of records")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N records")
    parser.add_argument("--small", metavar="MODEL", help="folder, hub id, or 'testbed'")
    parser.add_argument("--large", metavar="MODEL", help="folder, hub id, or 'testbed'")


def add_cascade(parser: argparse.ArgumentParser) -> None:
    """Where the rows go, what the cascade exits by, what devices cost, and how it is told."""
    parser.add_argument("--output", metavar="DIR", help="where rows and checkpoint go")
    parser.add_argument(
        "--criterion",
        choices=[one.value for one in Criterion],
        help="what the exit score is; default: mean, the paper's",
    )
    add_price_option(parser)
    parser.add_argument(
        "--log-format",
        choices=("text", "json"),
        help="json: an object per line, with the run's id",
    )


def add_choices(parser: argparse.ArgumentParser) -> None:
    """What a calibration would choose."""
    parser.add_argument("--mode", choices=("cascade", "small", "large"), help="default: cascade")
    parser.add_argument(
        "--threshold",
        type=float,
        metavar="T",
        help="exit score, 0 to 1, from which the small model's answer stands",
    )
    parser.add_argument(
        "--pruner", choices=PRUNERS, help="who chooses the visual tokens; default: guided"
    )
    parser.add_argument(
        "--prune-layer",
        type=float,
        metavar="F",
        help="share of the large model's layers below the pruning",
    )
    parser.add_argument(
        "--keep-ratio", type=float, metavar="R", help="share of the visual tokens kept above it"
    )


def add_run(parser: argparse.ArgumentParser) -> None:
    """Everything that one run takes, wherever it runs."""
    add_sources(parser)
    add_cascade(parser)
    add_choices(parser)
    parser.add_argument(
        "--max-usd", type=float, metavar="X", help="stop when the output has cost so much"
    )
    parser.add_argument(
        "--max-gpu-hours", type=float, metavar="X", help="likewise, in hours of its devices"
    )
    parser.add_argument("--policy", metavar="FILE", help="of sgl calibrate: threshold and pruning")
    parser.add_argument("--retry-errors", action="store_true", help="do failed records again too")


def flags_of(options: argparse.Namespace) -> dict[str, Any]:
    """Settings of the options that stand for one, by dotted name; None where it was not given."""
    flags = {name: getattr(options, option, None) for option, name in SETTINGS.items()}
    return flags | (price_flags(options) if "prices" in options else {})


def job_of(
    options: argparse.Namespace,
    policy: str | None = None,
    *,
    undecided: bool = False,
    elsewhere: bool = False,
) -> "JobConfig":
    """The job of parsed options; see jobs.settings.load_job.

    Raises:
        ConfigurationError: names the setting and the remedy.
    """
    from jobs.settings import load_job

    return load_job(
        options.config,
        options.assignments,
        flags_of(options),
        policy,
        undecided=undecided,
        elsewhere=elsewhere,
    )
