"""A record's pictures, found again in the input, and where a model's visual tokens lie on them.

An output holds no pixels: pictures are read again from the input, where it is still there.
"""

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ValidationError

from actors.config import ModelConfig
from jobs.token_map import Floats, Pixels, kept_tokens
from pipeline.config import JobConfig
from pipeline.conversation import PLAIN, Conversation, unpacked
from pipeline.images import decode
from pipeline.output import JobRecord
from pipeline.probe import UNPRUNED
from pipeline.references import Fetcher, has_image
from pipeline.source import drawn, id_columns, open_source
from pipeline.web import Web
from sgl.errors import SglError
from sgl.types import Route, TokenGrid

logger = logging.getLogger(__name__)

_READ = ("id", "image", "max_new_tokens", "conversation_json")
Grids = tuple[TokenGrid, ...]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class InputRecord:
    """What the input still has of a record.

    Attributes:
        pictures: in prompt order; none where one of them cannot be had any more.
        max_new_tokens: of this record; None is the job's.
        problem: why they cannot be had; empty where all are there.
        conversation: what is asked beyond the question.
    """

    pictures: tuple[Pixels, ...]
    max_new_tokens: int | None
    problem: str
    conversation: Conversation = PLAIN


def job_of(record: JobRecord | None) -> JobConfig | None:
    """The settings of the job that wrote an output; None where they are not of this version."""
    try:
        return JobConfig.model_validate(record.job if record else {})
    except ValidationError:
        return None


def input_records(job: JobConfig, wanted: Collection[str]) -> dict[str, InputRecord]:
    """Some records of a job's input, with their pictures; those that are not there are left out.

    Args:
        job: its input settings say where, and what may be read.
        wanted: ids.

    Raises:
        SglError, OSError: the input is gone, or cannot be read any more.
    """
    web = Web(job.input.http) if job.input.http else None
    fetcher = Fetcher(job.input.max_image_bytes, web, job.storage)
    rows = {row["id"]: row for row in _rows(job, wanted)}
    return {name: _record(row, fetcher, job.input.max_image_pixels) for name, row in rows.items()}


def _record(row: Mapping[str, Any], fetcher: Fetcher, max_pixels: int) -> InputRecord:
    references = [one for one in row["image"] or [] if has_image(one)]
    try:
        pictures = tuple(decode(fetcher.fetch(one), max_pixels) for one in references)
    except (SglError, OSError) as error:
        logger.info("a picture of %s cannot be read again", row["id"], exc_info=error)
        return InputRecord((), row["max_new_tokens"], str(error))
    return InputRecord(pictures, row["max_new_tokens"], "", unpacked(row["conversation_json"]))


def _rows(job: JobConfig, wanted: Collection[str]) -> Iterator[dict[str, Any]]:
    """Only parts of the input that hold one of the records are read whole."""
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
            yield from chosen.select(_READ).to_pylist()


class TokenLayout:
    """Where a model's visual tokens lie; needs its checkpoint's settings, no weights.

    Args:
        model: read on first use.
    """

    def __init__(self, model: ModelConfig) -> None:
        self._model = model
        self._read: Any = None

    def grids(self, pictures: Sequence[Pixels]) -> Grids:
        """Of a record with these pictures.

        Raises:
            SglError, OSError: the checkpoint cannot be read, or does not take such a picture.
        """
        layouts = self._family.layouts([one.shape[:2] for one in pictures]) if pictures else []
        return tuple(grid for layout in layouts for grid in layout.grids)

    @property
    def layers(self) -> int:
        """L, of its decoder; raises as `grids` does."""
        return int(self._family.config.text_config.num_hidden_layers)

    @property
    def _family(self) -> Any:
        if self._read is None:
            from sgl.loading import load_encoder

            self._read = load_encoder(self._model.path, revision=self._model.revision).family
        return self._read


def layouts_of(job: JobConfig) -> dict[str, TokenLayout]:
    """By role, of the models that the job uses."""
    return {role: TokenLayout(job.model(role)) for role in ("small", "large") if job.uses(role)}


def was_guided(row: Mapping[str, Any]) -> bool:
    """Whether the small model's ranking chose the tokens that a row's large model kept.

    Rows from before there was a choice of pruners do not name any.
    """
    chosen = row.get("pruner") in (None, UNPRUNED.pruner)
    return chosen and row["route"] == Route.LARGE.value and row.get("kept_tokens") is not None


def tokens_in(grids: Sequence[TokenGrid]) -> int:
    """V."""
    return sum(grid.rows * grid.columns for grid in grids)


def kept_of(importance: Floats, ranked: Grids, pruned: Grids, kept: int) -> Mask:
    """(W,) which tokens a large model keeps, as the guided pruner chooses them.

    Args:
        importance: (V,) of the small model's tokens.
        ranked: their grids.
        pruned: grids of the large model's W tokens, of the same pictures.
        kept: how many.
    """
    from sgl.resampling import resample

    return kept_tokens(resample(importance, ranked, pruned), kept)
