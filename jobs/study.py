"""`sgl evaluate OUTPUT --pruners`: every pruner beside the others at equal average retention."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from pydantic import Field, ValidationError
from rich.console import Console
from rich.table import Table

from actors.config import PrunerName, StrictModel
from actors.equal_retention import equal_ways
from jobs.figures import check_drawable
from jobs.job_options import PRUNERS
from jobs.json_text import json_text, print_json
from jobs.run import run_job
from jobs.sample import sample_job
from jobs.tables import without_width
from pipeline.config import JobConfig
from pipeline.study import Study, StudyLine, study_of
from sgl.errors import ConfigurationError
from sgl.metrics import DEFAULT, metric_named
from sgl.statistics import Estimate

ALL = "all"
ALWAYS: PrunerName = "random"
"""What any pruner has to beat."""


class StudyConfig(StrictModel):
    """What is compared, and on what.

    Attributes:
        pruners: by name.
        records: drawn at random from the job's input.
        metric: by which answers are scored.
        cluster: column that tells which records share an image.
    """

    pruners: tuple[PrunerName, ...]
    records: int = Field(default=600, ge=1)
    metric: str = DEFAULT
    cluster: str | None = None


def study_config(values: Mapping[str, Any]) -> StudyConfig:
    """From the command line; None values are passed over.

    Raises:
        ConfigurationError: names the option.
    """
    try:
        written = {name: value for name, value in values.items() if value is not None}
        return StudyConfig.model_validate(written)
    except ValidationError as error:
        told = [f"--{one['loc'][0]}: {one['msg']}" for one in error.errors()]
        raise ConfigurationError("; ".join(told)) from error


def pruners_named(text: str) -> tuple[PrunerName, ...]:
    """From the command line: all, or names with commas between; random is added.

    Raises:
        ConfigurationError: there is no such pruner.
    """
    names = PRUNERS if text == ALL else tuple(name.strip() for name in text.split(","))
    for name in names:
        if name not in PRUNERS:
            raise ConfigurationError(
                f"--pruners: there is no pruner '{name}'; there are {', '.join(PRUNERS)}"
            )
    return cast("tuple[PrunerName, ...]", tuple(dict.fromkeys((*names, ALWAYS))))


def show_study(job: JobConfig, config: StudyConfig, *, figures: str | None, as_json: bool) -> None:
    """Run the study, or what is left of it, and print what it came to.

    Args:
        job: input, models and output.
        config: what is compared.
        figures: folder for pruners.png and pruners.json; None writes neither.
        as_json: one JSON object instead of a table; progress then goes to standard error.

    Raises:
        ConfigurationError: see run_job; or pictures are wanted that cannot be drawn here.
    """
    if figures:
        check_drawable()
    found, impossible = run_study(job, config, Console(stderr=as_json))
    data = plain(found, impossible)
    if figures:
        _write(data, Path(figures).expanduser())
    if as_json:
        print_json(data)
        return
    console = Console()
    console.print(study_table(found))
    for line in remarks(found, impossible):
        console.print(line, highlight=False, soft_wrap=True)


def run_study(
    job: JobConfig, config: StudyConfig, console: Console
) -> tuple[Study, tuple[str, ...]]:
    """Answer the sample in every way, as far as it is not answered yet, and compare.

    Returns:
        What it came to, and in words the ways that the model cannot be pruned in.

    Raises:
        ConfigurationError: see run_job; or there is no such metric or column.
    """
    metric_named(config.metric)
    ways, impossible = equal_ways(job.model("large"), config.pruners)
    outcome = run_job(sample_job(job, config.records, tuple(ways)), console)
    return study_of(outcome.output, ways, config.metric, config.cluster), tuple(impossible)


def study_table(found: Study) -> Table:
    """One line for each way to prune, by average retention."""
    table = Table(box=None, header_style="bold")
    table.add_column("pruner", no_wrap=True)
    for header in ("retention", found.metric, "of unpruned", "FLOPs", "and small model's"):
        table.add_column(header, justify="right")
    table.add_row("large, unpruned", "100.0%", _cell(found.unpruned), "", "100.0%")
    for line in sorted(found.lines, key=lambda one: (-one.asked, -one.score.value)):
        table.add_row(
            line.pruning.pruner,
            _share(line.retention),
            _cell(line.score),
            "" if line.share is None else _cell(line.share),
            _share(line.flops),
            _share(line.flops_with_small),
        )
    table.add_row("small alone", "", _cell(found.small))
    return table


def remarks(found: Study, impossible: tuple[str, ...]) -> list[str]:
    """What the table does not tell, one line each."""
    images = f"images by '{found.cluster}'" if found.cluster else "every record by itself"
    scored = "accepted answers" if found.labelled else "the unpruned large model's own answers"
    lines = [f"left out: {one}" for one in impossible]
    lines += [f"{n:,} records are left out: {reason}" for reason, n in found.left_out.items()]
    lines += [
        f"failed: {one.failed:,} records of {one.pruning.pruner} at {one.asked:.0%}, with score 0"
        for one in found.lines
        if one.failed
    ]
    shares = [one.share for one in found.lines if one.share]
    if any(share.low == share.high for share in shares):
        lines.append(without_width(found.images, "images" if found.cluster else "records"))
    lines.append("FLOPs: of the unpruned large model's, what choosing the tokens takes included")
    lines.append(
        f"{found.records:,} records, scored against {scored}; in brackets: 95 % intervals, {images}"
    )
    return lines


def plain(found: Study, impossible: tuple[str, ...]) -> dict[str, Any]:
    """For JSON."""
    return {
        "records": found.records,
        "metric": found.metric,
        "reference": "answers" if found.labelled else "unpruned large model",
        "cluster": found.cluster,
        "unpruned": vars(found.unpruned),
        "small_alone": vars(found.small),
        "pruned": [_plain(line) for line in found.lines],
        "impossible": list(impossible),
        "left_out": found.left_out,
    }


def _plain(line: StudyLine) -> dict[str, Any]:
    way = line.pruning
    return {
        "pruner": way.pruner,
        "prune_layer": way.prune_layer,
        "keep_ratio": way.keep_ratio,
        "asked_retention": line.asked,
        "average_retention": line.retention,
        "score": vars(line.score),
        "share_of_unpruned": line.share and vars(line.share),
        "flops_share": line.flops,
        "flops_share_with_small": line.flops_with_small,
        "failed": line.failed,
    }


def _write(data: dict[str, Any], folder: Path) -> None:
    from jobs.pruners_figure import draw_pruners

    folder.mkdir(parents=True, exist_ok=True)
    draw_pruners(data, folder / "pruners.png")
    (folder / "pruners.json").write_text(json_text(data), encoding="utf-8")


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _cell(estimate: Estimate) -> str:
    return f"{estimate.value:.1%} [{estimate.low:.1%}, {estimate.high:.1%}]"
