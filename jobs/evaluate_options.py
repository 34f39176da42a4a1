"""Options of `sgl evaluate`: an output that is there, or a study of pruners that makes one."""

import argparse
from collections.abc import Sequence

from jobs.job_options import PRUNERS, SOURCES, add_sources, job_of
from sgl.errors import ConfigurationError

_OF_A_STUDY = (*SOURCES, "records")
_OF_AN_OUTPUT = ("by", "reference", "endpoint_url", "criteria", "frontier")


def add_evaluate(parser: argparse.ArgumentParser) -> None:
    """All of them."""
    parser.set_defaults(command=_evaluate)
    parser.add_argument("output", metavar="OUTPUT", help="output directory of sgl run, or its URI")
    parser.add_argument(
        "--metric",
        action="append",
        default=[],
        metavar="NAME",
        help="measure, see docs/EVALUATION.md; with --by also GROUP=NAME; may be repeated; "
        "default: exact_match",
    )
    parser.add_argument("--by", metavar="COLUMN", help="figures by this column too, as in kind")
    parser.add_argument(
        "--cluster", metavar="COLUMN", help="records with one value of it share an image"
    )
    parser.add_argument(
        "--reference",
        metavar="COLUMN|OUTPUT",
        help="accepted answers, or another output to agree with; default: the column answers",
    )
    parser.add_argument(
        "--criteria", action="store_true", help="compare what records could exit by"
    )
    parser.add_argument(
        "--frontier",
        action="store_true",
        help="cost and quality of every cascade; OUTPUT is that of sgl calibrate",
    )
    parser.add_argument(
        "--figures", metavar="DIR", help="of a comparison: write its picture and its JSON there"
    )
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument("--endpoint-url", metavar="URL", help="of an S3 server other than AWS")
    study = parser.add_argument_group(
        "a study of pruners, whose rows OUTPUT takes; the same command goes on where it stopped"
    )
    study.add_argument(
        "--pruners",
        metavar="NAMES",
        help=f"all, or some of {', '.join(PRUNERS)}, with commas between; random is always there",
    )
    study.add_argument(
        "--records", type=int, metavar="N", help="of the sample, drawn at random; default: 600"
    )
    add_sources(study)


def _evaluate(options: argparse.Namespace) -> int:
    if options.pruners is not None:
        return _study(options)
    _refuse(options, _OF_A_STUDY, "needs --pruners, which asks for a study")
    if options.frontier:
        return _frontier(options)
    from jobs.evaluate import show_evaluation, wanted_of
    from jobs.settings import storage_at

    wanted = wanted_of(options.metric, options.by, options.cluster, options.reference)
    storage = storage_at(options.endpoint_url)
    if options.criteria:
        from jobs.criteria import show_criteria

        return show_criteria(options, wanted, storage)
    _refuse(options, ("figures",), "draws a comparison; write --pruners, --criteria or --frontier")
    show_evaluation(options.output, wanted, as_json=options.json, storage=storage)
    return 0


def _frontier(options: argparse.Namespace) -> int:
    reason = "not with --frontier, which takes all records together, and the column answers or, "
    _refuse(options, ("by", "reference", "criteria"), f"{reason}without it, the large model's own")
    if len(options.metric) > 1:
        raise ConfigurationError("--metric: one only with --frontier")
    from jobs.frontier import show_frontier
    from jobs.settings import storage_at

    show_frontier(options, storage_at(options.endpoint_url))
    return 0


def _refuse(options: argparse.Namespace, names: Sequence[str], reason: str) -> None:
    written = [name for name in names if getattr(options, name)]
    if written:
        option = written[0].replace("assignments", "set").replace("_", "-")
        raise ConfigurationError(f"--{option}: {reason}")


def _study(options: argparse.Namespace) -> int:
    _refuse(options, _OF_AN_OUTPUT, "is not looked at in a study of pruners; leave it out")
    from jobs.study import pruners_named, show_study, study_config

    if len(options.metric) > 1:
        raise ConfigurationError("--metric: a study has one; leave the others out")
    # A threshold is wanted of every cascade; in a study nothing exits.
    options.threshold = 1.0
    written = {"records": options.records, "cluster": options.cluster}
    written |= {"metric": options.metric[0] if options.metric else None}
    config = study_config(written | {"pruners": pruners_named(options.pruners)})
    show_study(job_of(options), config, figures=options.figures, as_json=options.json)
    return 0
