"""`sgl report`: what outputs came to, as one page that opens offline, as JSON and as Markdown."""

import argparse
import posixpath
from collections.abc import Sequence
from pathlib import Path

GALLERY = 6
_FORMS = ("html", "json", "markdown")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `sgl report` takes."""
    parser.set_defaults(command=run)
    parser.add_argument(
        "outputs",
        nargs="+",
        metavar="OUTPUT",
        help="output directory of sgl run, or its URI; several are compared with the first",
    )
    parser.add_argument(
        "--html",
        metavar="FILE",
        help="default, where no file is named: OUTPUT-report.html in this directory",
    )
    parser.add_argument("--json", metavar="FILE", help="the same figures, for programs")
    parser.add_argument("--markdown", metavar="FILE", help="in short, for a pull request")
    parser.add_argument("--metric", metavar="NAME", help="of answers; default: exact_match")
    parser.add_argument(
        "--gallery",
        type=int,
        default=GALLERY,
        metavar="N",
        help=f"records of each kind to show with their pictures; default: {GALLERY}",
    )
    parser.add_argument("--endpoint-url", metavar="URL", help="of an S3 server other than AWS")


def run(options: argparse.Namespace) -> int:
    """Write what was asked for and say where."""
    from rich.console import Console

    from jobs.report_files import Places, write_report
    from jobs.settings import storage_at
    from sgl.metrics import DEFAULT

    named = [getattr(options, form) and Path(getattr(options, form)) for form in _FORMS]
    places = Places(*named) if any(named) else Places(_page_of(options.outputs), None, None)
    written = write_report(
        options.outputs,
        places,
        metric=options.metric or DEFAULT,
        gallery=options.gallery,
        storage=storage_at(options.endpoint_url),
    )
    for path in written:
        Console().print(str(path), highlight=False, soft_wrap=True, markup=False)
    return 0


def _page_of(outputs: Sequence[str]) -> Path:
    names = (posixpath.basename(one.rstrip("/")) or "output" for one in outputs)
    return Path(f"{'-'.join(names)}-report.html")
