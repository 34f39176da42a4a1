"""The files of a report: the page, JSON and Markdown, each on request."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from infra.s3 import DEFAULT, StorageConfig
from jobs.report_gallery import gallery_of
from jobs.report_html import page
from jobs.report_markdown import markdown
from pipeline.config import absolute_path
from pipeline.report.compare import compare
from pipeline.report.gathering import facts_of
from sgl.metrics import DEFAULT as DEFAULT_METRIC


@dataclass(frozen=True)
class Places:
    """Where the report goes; None leaves a form out."""

    html: Path | None
    json: Path | None
    markdown: Path | None


def write_report(
    outputs: Sequence[str],
    places: Places,
    *,
    metric: str = DEFAULT_METRIC,
    gallery: int = 0,
    storage: StorageConfig = DEFAULT,
) -> list[Path]:
    """Read outputs and write what they came to.

    Args:
        outputs: directories, or their URIs; several are compared with the first.
        places: of the files.
        metric: name of the measure of answers.
        gallery: records of each kind to show with their pictures.
        storage: how S3 is reached.

    Returns:
        The files.

    Raises:
        ConfigurationError: there is no output, nothing in it yet, or no such measure.
        OSError: a file cannot be written.
    """
    every = [facts_of(absolute_path(one), metric, gallery, storage) for one in outputs]
    comparison = compare(every) if len(every) > 1 else None
    written = []
    if places.html is not None:
        galleries = [gallery_of(one, storage) for one in every]
        places.html.write_text(page(every, galleries, comparison), newline="")
        written.append(places.html)
    if places.json is not None:
        data: dict[str, Any] = {"runs": [one.plain() for one in every]}
        data |= {"comparison": asdict(comparison)} if comparison else {}
        places.json.write_text(json.dumps(data, indent=1, allow_nan=False) + "\n")
        written.append(places.json)
    if places.markdown is not None:
        places.markdown.write_text(markdown(every, comparison))
        written.append(places.markdown)
    return written
