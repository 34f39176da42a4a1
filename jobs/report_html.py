"""The report as one file that opens offline: a page with its own charts, pictures and figures.

The page asks nobody for anything: its Content-Security-Policy forbids every request and every
script but the ones that were put into it here.
"""

import base64
import hashlib
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from jobs import report_figures as figures
from jobs.report_gallery import CAPTIONS, Gallery
from pipeline.report.compare import Comparison
from pipeline.report.facts import Facts

PAGE = Path(__file__).with_name("report_page")
_CHARTS = (
    "points",
    "histogram",
    "timeline",
    "retention",
    "money",
    "quality",
    "summary",
    "settings",
)
"""Facts that the page's charts are drawn from; all others are in its text."""


def page(
    every: Sequence[Facts],
    galleries: Sequence[Gallery],
    comparison: Comparison | None = None,
) -> str:
    """The whole file.

    Args:
        every: of each output.
        galleries: likewise.
        comparison: of several outputs.
    """
    scripts = [_text("vendor/echarts.min.js"), _text("report.js")]
    hashes = " ".join(f"'sha256-{_digest(one)}'" for one in scripts)
    policy = (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    template = _environment().get_template("page.html.j2")
    return template.render(
        policy=policy,
        style=Markup(_text("style.css")),
        scripts=[Markup(one) for one in scripts],
        data=Markup(_embedded([_for_charts(one) for one in every])),
        runs=list(zip(every, galleries, strict=True)),
        comparison=comparison,
        captions=CAPTIONS,
        figures=figures,
    )


def _for_charts(facts: Facts) -> dict[str, Any]:
    plain = facts.plain()
    return {name: plain[name] for name in _CHARTS} | {
        "name": facts.name,
        "quality_name": figures.quality_name(facts),
        "right_name": figures.right_name(facts),
        "prices": figures.prices_of(facts),
    }


def _embedded(data: Any) -> str:
    """JSON that cannot end the element it stands in, whatever texts are in it."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


@cache
def _environment() -> Environment:
    found = Environment(
        loader=FileSystemLoader(PAGE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {
        "percent": figures.percent,
        "interval": figures.interval,
        "number": figures.number,
        "seconds": figures.seconds,
    }
    return found


@cache
def _text(name: str) -> str:
    # As written: a line ending that changes would change the digest.
    return (PAGE / name).read_bytes().decode()


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
