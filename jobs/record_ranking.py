"""A record's ranking, of the run or computed again, and the tokens that are kept by it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from actors.equal_retention import way_at
from jobs.explained import told_apart
from jobs.record_pictures import (
    Grids,
    InputRecord,
    Mask,
    TokenLayout,
    kept_of,
    tokens_in,
    was_guided,
)
from jobs.token_map import Floats
from pipeline.config import JobConfig
from pipeline.output import JobRecord
from pipeline.schema import IMPORTANCE
from sgl.equal_retention import RETENTIONS
from sgl.errors import ConfigurationError, SglError
from sgl.types import Failure, Guidance, ImageQuestion

_TOLERANCE = 1e-3
"""Between exit scores of the same record; batches of another make-up round otherwise."""


@dataclass(frozen=True)
class Ranking:
    """How important each visual token is to the small model.

    Attributes:
        importance: (V,).
        grids: of those tokens.
        origin: where it is from, in words.
    """

    importance: Floats
    grids: Grids
    origin: str


@dataclass(frozen=True)
class Kept:
    """Tokens that the large model keeps.

    Attributes:
        told: how they came about.
        tokens: (W,) which of its tokens.
        grids: of all of them.
    """

    told: str
    tokens: Mask
    grids: Grids


def ranking_of(
    row: Mapping[str, Any],
    source: InputRecord,
    small: TokenLayout | None,
    again: Callable[[], Guidance | Failure] | None,
    remarks: list[str],
) -> Ranking | None:
    """The run's ranking of a record, or a new one; None where there is neither.

    Args:
        row: of the output.
        source: with pictures.
        small: of the small model; None where the job has none.
        again: runs it on the record; None where that is not wanted.
        remarks: gets why there is none.

    Raises:
        SglError, OSError: the checkpoint cannot be read.
    """
    cell = row.get(IMPORTANCE.name)
    if small is None:
        remarks.append("no importance map: mode large has no small model that ranks")
    elif cell:
        grids, importance = small.grids(source.pictures), np.array(cell, dtype=np.float32)
        if tokens_in(grids) == len(importance):
            return Ranking(importance, grids, "as the run wrote it")
        remarks.append("no importance map: the pictures are not those of the run any more")
    elif again is None:
        remarks.append(
            "no importance map: the row has none (output.write_importance writes them); "
            "--recompute runs the small model on this record again"
        )
    else:
        return _recomputed(row, again(), remarks)
    return None


def _recomputed(
    row: Mapping[str, Any], result: Guidance | Failure, remarks: list[str]
) -> Ranking | None:
    if isinstance(result, Failure):
        told = f"{result.type}: {result.message}"
        remarks.append(f"no importance map: the small model fails on this record, {told}")
        return None
    origin = f"recomputed now, not of the run; {_compared(row, result)}"
    return Ranking(result.importance, result.grids, origin)


def guided_again(
    row: Mapping[str, Any], source: InputRecord, job: JobConfig, record: JobRecord
) -> Guidance | Failure:
    """Run the small model on one record, in the run's precision, on one device.

    Raises:
        ConfigurationError: it cannot be loaded.
    """
    from actors.small_vlm import SmallVLM

    own: dict[str, Any] = {"device": "auto", "tensor_parallel": None, "batch_size": 1}
    if precision := record.precision.get("small"):
        own["dtype"] = precision
    beyond = source.conversation
    question = ImageQuestion(
        row["id"],
        row["question"] or "",
        source.pictures,
        source.max_new_tokens,
        beyond.turns,
        beyond.stop,
        beyond.sampling,
    )
    try:
        model = SmallVLM(job.model("small").model_copy(update=own), job.guidance, job.decoding)
    except SglError as error:
        raise ConfigurationError(f"--recompute: {error}") from error
    (result,) = model.run([question])
    return result


def _compared(row: Mapping[str, Any], guidance: Guidance) -> str:
    score = row.get("exit_score")
    if score is None:
        return f"exit score {guidance.exit_score:.4g}"
    if guidance.answer == row["small_answer"] and abs(guidance.exit_score - score) < _TOLERANCE:
        return "answer and exit score are those of the row"
    now, then = told_apart(guidance.exit_score, score)
    return f"it now says {guidance.answer!r} with exit score {now}, in the run {then}"


def kept_sets(
    row: Mapping[str, Any],
    ranking: Ranking,
    source: InputRecord,
    large: TokenLayout | None,
    remarks: list[str],
) -> list[Kept]:
    """What the large model keeps at the paper's retentions and, where it pruned so, as it ran.

    Args:
        row: of the output.
        ranking: of its tokens.
        source: with pictures.
        large: of the large model; None where the job has none.
        remarks: gets what is not drawn.

    Raises:
        SglError, OSError: the checkpoint cannot be read, or is of other pictures.
    """
    _tell_overviews(ranking.grids, remarks)
    if large is None:
        remarks.append("no kept tokens: mode small has no large model that is pruned")
        return []
    grids, layers = large.grids(source.pictures), large.layers
    kept = [_at(retention, ranking, grids, layers) for retention in RETENTIONS]
    if was_guided(row) and row["kept_tokens"] < tokens_in(grids):
        layer = int(layers * row["prune_layer"])
        told = f"as it ran, {row['average_retention']:.0%}"
        kept.append(_chosen(told, ranking, grids, row["kept_tokens"], layer, layers))
    elif row.get("pruner") and not was_guided(row):
        remarks.append(
            f"not drawn as it ran: pruner {row['pruner']} chose its tokens, and no row tells which"
        )
    return kept


def _tell_overviews(grids: Grids, remarks: list[str]) -> None:
    overviews = tokens_in([grid for grid in grids if grid.thumbnail])
    if 0 < overviews < tokens_in(grids):
        remarks.append(
            f"tiles are drawn; {overviews} of the {tokens_in(grids)} tokens are of overviews, "
            "which are not"
        )


def _at(retention: float, ranking: Ranking, grids: Grids, layers: int) -> Kept:
    from sgl.ranking import keep_count

    way = way_at("guided", retention, layers)
    assert way is not None, "guided pruning has a layer at every retention"
    kept = keep_count(tokens_in(grids), way.keep_ratio)
    layer = int(layers * way.prune_layer)
    return _chosen(f"{retention:.0%} average retention", ranking, grids, kept, layer, layers)


def _chosen(told: str, ranking: Ranking, grids: Grids, kept: int, layer: int, layers: int) -> Kept:
    """The guided pruner's choice; `layer` is the first with fewer tokens."""
    where = f"{kept} of {tokens_in(grids)} tokens from layer {layer} of {layers}"
    tokens = kept_of(ranking.importance, ranking.grids, grids, kept)
    return Kept(f"{told}: {where}", tokens, grids)
