"""The command `sgl`. Light to import: Ray and the models load when a command runs.

Exit codes: 0 done, 1 crashed, or models or a storage that do not work, 2 bad configuration, 3
another run writes the output, 4 the run ended and the output is not complete, 5 no cascade could be
shown to meet the target, 6 an alarm that was to stop the run, 7 its budget is spent, 8 a
submitted job was stopped, 130 interrupted, or no longer followed, 141 likewise, as nobody reads.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import IO, TYPE_CHECKING, cast

from jobs import deploy, inspect_record, key, plan, report, serve, submit
from jobs.evaluate_options import add_evaluate
from jobs.job_options import add_cascade, add_run, add_sources, job_of
from pipeline.interrupt import hear_stops
from sgl.errors import (
    AlarmError,
    AuditError,
    BudgetError,
    ClusterLostError,
    ConfigurationError,
    OutputBusyError,
    ReplicaError,
)

if TYPE_CHECKING:
    from rich.console import Console

    from pipeline.config import JobConfig

_ALARMED = 6
_SPENT = 7
EXIT_CODES = {
    ReplicaError: 1,
    ClusterLostError: 1,
    ConfigurationError: 2,
    OutputBusyError: 3,
    AuditError: 4,
    AlarmError: _ALARMED,
    BudgetError: _SPENT,
}
"""Of the errors that end a command; what the system refuses (OSError) is 1."""

_INTERRUPTED = 130
"""As shells have it."""
_WIDE = 200
"""Columns of tables that no one looks at on a terminal."""

_TARGETS = {
    "agreement": "with the unpruned large model's own answers, at least; 0 to 1",
    "max_accuracy_drop": "against it, by accepted answers, at most; 0 to 1",
    "escalation_rate": "share of the records that the large model gets, at most",
    "budget_usd_per_1k": "mean cost of a thousand records, at most",
    "delta": "the chance that is accepted of a target not being met; default: 0.05",
}

_IN_TURNS = {"rounds": 5, "threads": 1}
BENCHMARKS: dict[str, dict[str, int]] = {
    "balance": {"records": 800, "only": 0},
    "capture": _IN_TURNS,
    "engine": _IN_TURNS,
    "fetch": {},
    "guarantee": {"rounds": 1000},
    "memory": {},
    "pipeline": {"rounds": 5},
    "pruning": _IN_TURNS,
    "report": {"records": 1_000_000},
    "serve": {"rounds": 5, "seconds": 4, "overload": 60},
}
"""And the settings that each takes, with their defaults."""

_MEASURES = {
    "balance": "a balanced run beside all fixed splits, where the escalation rate jumps",
    "capture": "what the ranking costs beside a plain prefill and beside eager attention",
    "engine": "the engine beside the paper's way and beside generate, on the testbed's pair",
    "fetch": "peak memory of the fetch stage on large pictures",
    "guarantee": "whether calibration keeps its promise, and what it costs",
    "memory": "memory of the whole pipeline against the number of records",
    "pipeline": "what the pipeline adds to a bare loop of the same engine",
    "pruning": "what pruning saves, of what the counted operations and bytes allow",
    "report": "time and memory of sgl report over a million rows",
    "serve": "the endpoint under load: overhead, scaling, overload, deaths",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    options = make_parser().parse_args(arguments)
    hear_stops()
    try:
        return int(options.command(options))
    except tuple(EXIT_CODES) as error:
        print(f"sgl: {error}", file=sys.stderr)
        return next(code for kind, code in EXIT_CODES.items() if isinstance(error, kind))
    except OSError as error:
        # What is full, read-only, gone or out of reach is no fault of the program.
        print(f"sgl: {error}; the same command goes on", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("sgl: stopped; the same command goes on", file=sys.stderr)
        return _INTERRUPTED


def make_parser() -> argparse.ArgumentParser:
    """What `sgl` takes."""
    parser = argparse.ArgumentParser(
        prog="sgl",
        description="Vision-language models over whole datasets: a small model answers what it "
        "can and guides the pruning of a large one.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_run(commands.add_parser("run", help="answer every record of a dataset"))
    there = "the same on a Ray cluster, and follow it there"
    submit.add_arguments(commands.add_parser("submit", help=there))
    calibrate = "choose threshold and pruning for a stated quality, with a guarantee"
    _add_calibrate(commands.add_parser("calibrate", help=calibrate))
    sizes = "pools, hours and dollars of a job on a cluster, from measured seconds"
    plan.add_arguments(commands.add_parser("plan", help=sizes))
    _add_status(commands.add_parser("status", help="how far an output is"))
    add_evaluate(commands.add_parser("evaluate", help="how right the answers of an output are"))
    report.add_arguments(commands.add_parser("report", help="what outputs came to, as a page"))
    look = "one record: its picture, what was important, kept and said"
    inspect_record.add_arguments(commands.add_parser("inspect", help=look))
    key.add_arguments(commands.add_parser("key", help="make or revoke a key of an endpoint"))
    serve.add_arguments(commands.add_parser("serve", help="answer single questions, over HTTP"))
    cluster = "write what a cluster is told of a job or an endpoint"
    deploy.add_arguments(commands.add_parser("deploy", help=cluster))
    _add_demo(commands.add_parser("demo", help="small, large and cascade on the testbed"))
    _add_bench(commands.add_parser("bench", help="speed and memory, as ratios"))
    return parser


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=_run)
    add_run(parser)


def _add_calibrate(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=_calibrate)
    add_sources(parser)
    add_cascade(parser)
    parser.add_argument("--policy", metavar="FILE", help="write the choice there, for sgl run")
    parser.add_argument(
        "--records", type=int, metavar="N", help="of the sample, drawn at random; default: 1000"
    )
    for name, what in _TARGETS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, metavar="X", help=what)
    parser.add_argument(
        "--pruning",
        action="append",
        default=[],
        metavar="LAYER:KEEP",
        help="a way to prune that is tried, as in 0.4:0.46; may be repeated; default: the paper's",
    )
    parser.add_argument("--metric", metavar="NAME", help="default: exact_match")
    parser.add_argument("--seed", type=int, metavar="N", help="of the draw; default: 0")
    parser.add_argument(
        "--plan", action="store_true", help="only tell how large a sample would have to be"
    )


def _add_status(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=_status)
    parser.add_argument("output", metavar="OUTPUT", help="output directory of sgl run, or its URI")
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument("--endpoint-url", metavar="URL", help="of an S3 server other than AWS")


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=_demo)
    parser.add_argument("--output", metavar="DIR", help="default: a new folder in ./out")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N records")


def _add_bench(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=_bench)
    names = parser.add_subparsers(required=True, metavar="NAME", dest="name")
    for name, settings in BENCHMARKS.items():
        one = names.add_parser(name, help=_MEASURES[name])
        for setting, default in settings.items():
            told = f"default: {default}"
            one.add_argument(f"--{setting}", type=int, default=default, metavar="N", help=told)
        one.add_argument("--output", metavar="DIR", help="write a dated JSON file there")


def _console(job: "JobConfig") -> "Console":
    from rich.console import Console

    from pipeline.logs import JsonLines

    if job.logs.format == "text":
        return Console()
    return Console(file=cast("IO[str]", JsonLines(sys.stdout)), width=_WIDE)


def _calibrate(options: argparse.Namespace) -> int:
    from jobs.calibrate_config import calibration_of, prunings_of

    names = (*_TARGETS, "records", "metric", "seed")
    values = {name: getattr(options, name) for name in names}
    config = calibration_of(values | {"prunings": prunings_of(options.pruning)})
    if options.plan:
        from rich.console import Console

        from jobs.calibrate_tables import sizes_needed

        Console().print(sizes_needed(config))
        return 0
    from jobs.calibrate import calibrate_to

    job = job_of(options, undecided=True)
    return calibrate_to(options.policy, job, config, _console(job))


def _run(options: argparse.Namespace) -> int:
    job = job_of(options, options.policy)
    from jobs.run import report, run_job

    console = _console(job)
    outcome = run_job(job, console, retry_errors=options.retry_errors)
    report(outcome, console)
    if outcome.over_budget:
        return _SPENT
    return _ALARMED if outcome.stopped else 0


def _status(options: argparse.Namespace) -> int:
    from jobs.status import show_status

    show_status(options.output, as_json=options.json, endpoint_url=options.endpoint_url)
    return 0


def _demo(options: argparse.Namespace) -> int:
    from rich.console import Console

    from jobs.demo import run_demo

    run_demo(Console(), output=options.output, limit=options.limit)
    return 0


def _bench(options: argparse.Namespace) -> int:
    from jobs.bench import run_benchmark

    settings = {name: getattr(options, name) for name in BENCHMARKS[options.name]}
    print(run_benchmark(options.name, options.output, **settings))
    return 0


if __name__ == "__main__":
    sys.exit(main())
