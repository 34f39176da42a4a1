"""The gallery of a report: sampled rows with their pictures, and what the models looked at.

An output holds no pixels: pictures are read again from the input, where it is still there.
"""

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
from pydantic import ValidationError

from infra.s3 import StorageConfig
from jobs.token_map import Floats, Pixels, draw_heat, draw_kept, kept_tokens, scaled
from pipeline.config import JobConfig
from pipeline.images import decode
from pipeline.references import Fetcher
from pipeline.report.examples import Row
from pipeline.report.facts import Facts
from pipeline.rowfiles import read
from pipeline.schema import IMPORTANCE
from pipeline.scoring import opened
from pipeline.source import drawn, id_columns, open_source
from pipeline.web import Web
from sgl.errors import SglError
from sgl.types import TokenGrid

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
    job, remark = _job_of(facts, storage)
    pictures: dict[str, Pixels] = {}
    if job is not None:
        pictures, remark = _pictures(job, set(rows))
    maps = _importance(facts, rows.values(), storage) if pictures else {}
    if pictures and not maps:
        no_maps = "no importance maps: the run did not write them (output.write_importance)"
        remark = f"{remark}; {no_maps}" if remark else no_maps
    grids = _Grids(facts) if maps else None
    drawn_ = {
        name: tuple(_drawings(row, pictures.get(name), maps.get(name), grids))
        for name, row in rows.items()
    }
    cards = {
        kind: [Card(row, drawn_[row["id"]]) for row in facts.samples[kind]]
        for kind in CAPTIONS
        if facts.samples.get(kind)
    }
    return Gallery(cards, remark)


def _job_of(facts: Facts, storage: StorageConfig) -> tuple[JobConfig | None, str]:
    output, _ = opened(facts.output, storage)
    record = output.record()
    try:
        return JobConfig.model_validate(record.job if record else {}), ""
    except ValidationError:
        return None, "no pictures: the settings of this output are not of this version"


def _pictures(job: JobConfig, wanted: set[str]) -> tuple[dict[str, Pixels], str]:
    """The first picture of each record that still has one."""
    try:
        references = dict(_references(job, wanted))
    except (SglError, OSError) as error:
        logger.info("the input cannot be read again", exc_info=error)
        return {}, "no pictures: the input is gone, or cannot be read any more"
    web = Web(job.input.http) if job.input.http else None
    fetcher = Fetcher(job.input.max_image_bytes, web, job.storage)
    found = {}
    for name, images in references.items():
        try:
            data = fetcher.fetch(images[0] if images else None)
            found[name] = decode(data, job.input.max_image_pixels)
        except (SglError, OSError) as error:
            logger.info("the picture of %s cannot be read again", name, exc_info=error)
    missing = len(wanted - found.keys())
    return found, f"{missing} pictures are gone, or cannot be read any more" if missing else ""


def _references(job: JobConfig, wanted: set[str]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Image references of some records; only parts of the input that hold one are read whole."""
    source = drawn(open_source(job.input, job.storage))
    left = set(wanted)
    for part in source.parts:
        if not left:
            return
        ids = (one["id"] for one in source.tables(part, id_columns(source, part)))
        if not any(left & set(some.to_pylist()) for some in ids):
            continue
        for table in source.tables(part):
            if not left:
                return
            chosen = table.filter(pc.is_in(table["id"], pa.array(sorted(left), pa.string())))
            left -= set(chosen["id"].to_pylist())
            yield from zip(chosen["id"].to_pylist(), chosen["image"].to_pylist(), strict=True)


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


class _Grids:
    """Where the small model's visual tokens lie; needs its checkpoint's settings, no weights."""

    def __init__(self, facts: Facts) -> None:
        self._path = facts.settings.small.path
        self._family: Any = None

    def of(self, pixels: Pixels) -> tuple[TokenGrid, ...]:
        """Grids of a record with this picture alone."""
        if self._family is None:
            from sgl.loading import load_encoder

            self._family = load_encoder(self._path or "").family
        (layout,) = self._family.layouts([pixels.shape[:2]])
        grids: tuple[TokenGrid, ...] = layout.grids
        return grids


def _drawings(
    row: Mapping[str, Any], pixels: Pixels | None, importance: Floats | None, grids: _Grids | None
) -> Iterator[Picture]:
    if pixels is None:
        return
    small = scaled(pixels, _LONGEST)
    lay = _laid_out(grids, pixels, importance)
    if lay is None or importance is None:
        yield Picture("picture", _uri(small))
        return
    if (kept := row.get("kept_tokens")) is not None and row["route"] == "large":
        told = f"kept by the large model: {kept} of {row['visual_tokens']} visual tokens"
        chosen = kept_tokens(importance, _carried(kept, row["visual_tokens"], len(importance)))
        yield Picture(told, _uri(draw_kept(small, lay, chosen)))
    else:
        yield Picture("picture", _uri(small))
    yield Picture("importance to the small model", _uri(draw_heat(small, lay, importance)))


def _laid_out(
    grids: _Grids | None, pixels: Pixels, importance: Floats | None
) -> tuple[TokenGrid, ...] | None:
    """Grids that fit a ranking; None where they do not, as of a record with several pictures."""
    if grids is None or importance is None:
        return None
    try:
        found = grids.of(pixels)
    except (SglError, OSError) as error:
        logger.info("the small model's visual tokens cannot be laid out", exc_info=error)
        return None
    return found if sum(one.rows * one.columns for one in found) == len(importance) else None


def _carried(kept: int, of: int, tokens: int) -> int:
    """As many of the small model's tokens as the large one kept of its own, by share."""
    return kept if of == tokens else max(1, round(kept / of * tokens))


def _uri(pixels: Pixels) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
