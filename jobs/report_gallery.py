"""The gallery of a report: sampled rows with their pictures, and what the models looked at."""

import base64
import io
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from infra.s3 import StorageConfig
from jobs.record_pictures import (
    Grids,
    TokenLayout,
    input_records,
    job_of,
    kept_of,
    layouts_of,
    tokens_in,
    was_guided,
)
from jobs.token_map import Floats, Pixels, draw_heat, draw_kept, scaled
from pipeline.config import JobConfig
from pipeline.report.examples import Row
from pipeline.report.facts import Facts
from pipeline.rowfiles import read
from pipeline.schema import IMPORTANCE
from pipeline.scoring import opened
from sgl.errors import SglError

logger = logging.getLogger(__name__)

_LONGEST = 420
_QUALITY = 82
CAPTIONS = {
    "rescued": ("Rescued", "the small model was wrong, the large one right"),
    "lost": ("Lost", "the small model was right, the large one wrong"),
    "changed": ("Changed", "the large model gave another answer"),
    "exited": ("Exited", "the small model's answer stands"),
    "escalated": ("Escalated", "the large model's answer stands"),
}


@dataclass(frozen=True)
class Picture:
    """One drawing: what it shows, and the file as a data: URI."""

    caption: str
    uri: str


@dataclass(frozen=True)
class Card:
    """One record of the gallery.

    Attributes:
        row: as the report's facts have it.
        pictures: empty where the input has none any more.
    """

    row: Row
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Gallery:
    """All cards, by kind of record.

    Attributes:
        cards: see CAPTIONS for the kinds.
        remark: why there are no pictures, or no maps; empty where all is there.
    """

    cards: dict[str, list[Card]]
    remark: str


def gallery_of(facts: Facts, storage: StorageConfig) -> Gallery:
    """Draw the samples of a report.

    Args:
        facts: with samples.
        storage: how S3 is reached.
    """
    rows = {row["id"]: row for some in facts.samples.values() for row in some}
    if not rows:
        return Gallery({}, "")
    output, _ = opened(facts.output, storage)
    job = job_of(output.record())
    pictures: dict[str, tuple[Pixels, ...]] = {}
    remark = "no pictures: the settings of this output are not of this version"
    if job is not None:
        pictures, remark = _pictures(job, set(rows))
    maps = _importance(facts, rows.values(), storage) if pictures else {}
    if pictures and not maps:
        no_maps = "no importance maps: the run did not write them (output.write_importance)"
        remark = f"{remark}; {no_maps}" if remark else no_maps
    layouts = layouts_of(job) if job is not None and maps else {}
    drawn_ = {
        name: tuple(_drawings(row, pictures.get(name, ()), maps.get(name), layouts))
        for name, row in rows.items()
    }
    cards = {
        kind: [Card(row, drawn_[row["id"]]) for row in facts.samples[kind]]
        for kind in CAPTIONS
        if facts.samples.get(kind)
    }
    return Gallery(cards, remark)


def _pictures(job: JobConfig, wanted: set[str]) -> tuple[dict[str, tuple[Pixels, ...]], str]:
    """The pictures of each record that still has all of them."""
    try:
        records = input_records(job, wanted)
    except (SglError, OSError) as error:
        logger.info("the input cannot be read again", exc_info=error)
        return {}, "no pictures: the input is gone, or cannot be read any more"
    found = {name: one.pictures for name, one in records.items() if one.pictures}
    missing = len(wanted - found.keys())
    return found, f"{missing} pictures are gone, or cannot be read any more" if missing else ""


def _importance(facts: Facts, rows: Iterable[Row], storage: StorageConfig) -> dict[str, Floats]:
    """Importance maps (V,) of some rows, where their run wrote them."""
    output, names = opened(facts.output, storage)
    wanted: dict[int, set[str]] = {}
    for row in rows:
        wanted.setdefault(row["file"], set()).add(row["id"])
    found = {}
    for place, ids in wanted.items():
        table = read(output, output.rows, names[place], ["id", IMPORTANCE.name])
        if table is None or IMPORTANCE.name not in table.column_names:
            continue
        for row in table.filter(
            pc.is_in(table["id"], pa.array(sorted(ids), pa.string()))
        ).to_pylist():
            if row[IMPORTANCE.name]:
                found[row["id"]] = np.array(row[IMPORTANCE.name], dtype=np.float32)
    return found


def _drawings(
    row: Mapping[str, Any],
    pictures: tuple[Pixels, ...],
    importance: Floats | None,
    layouts: Mapping[str, TokenLayout],
) -> Iterator[Picture]:
    if not pictures:
        return
    small = scaled(pictures[0], _LONGEST)
    ranked = _laid_out(layouts.get("small"), pictures, importance)
    if ranked is None or importance is None:
        yield Picture("picture", _uri(small))
        return
    pruned = _laid_out(layouts.get("large"), pictures) if was_guided(row) else None
    if pruned is not None:
        told = (
            f"kept by the large model: {row['kept_tokens']} of {row['visual_tokens']} visual tokens"
        )
        chosen = kept_of(importance, ranked, pruned, row["kept_tokens"])
        yield Picture(told, _uri(draw_kept(small, pruned, chosen)))
    else:
        yield Picture("picture", _uri(small))
    yield Picture("importance to the small model", _uri(draw_heat(small, ranked, importance)))


def _laid_out(
    layout: TokenLayout | None, pictures: tuple[Pixels, ...], importance: Floats | None = None
) -> Grids | None:
    """Grids of a model, as many tokens as a ranking has; None where it cannot be."""
    if layout is None:
        return None
    try:
        found = layout.grids(pictures)
    except (SglError, OSError) as error:
        logger.info("a model's visual tokens cannot be laid out", exc_info=error)
        return None
    fits = importance is None or tokens_in(found) == len(importance)
    return found if fits else None


def _uri(pixels: Pixels) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
