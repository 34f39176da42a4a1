"""Between the table's cells and the vocabulary of sgl: records in, guidance through, costs out."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.conversation import unpacked
from sgl.types import Answer, Certainty, Criterion, Guidance, ImageQuestion, TokenGrid, Usage


@dataclass(frozen=True)
class Rate:
    """What a second of one replica is.

    Attributes:
        devices: per replica: GPUs, a share of one where replicas share it, or CPU cores.
        usd_per_hour: of one device; None where no price is known.
    """

    devices: float = 1.0
    usd_per_hour: float | None = None

    def device_seconds(self, usage: Usage) -> float:
        """Seconds of all the replica's devices that a record used."""
        return usage.device_s * self.devices

    def usd(self, usage: Usage) -> float | None:
        """Price of them."""
        if self.usd_per_hour is None:
            return None
        return self.device_seconds(usage) * self.usd_per_hour / 3600


def questions(table: pa.Table, rows: Sequence[int]) -> list[ImageQuestion]:
    """The records of some rows; their pixels are views into the table, not copies."""
    images = table["images"]
    cells = table.select(["id", "question", "max_new_tokens"])
    records = []
    for row in rows:
        record = {name: cells[name][row].as_py() for name in cells.column_names}
        beyond = unpacked(table["conversation_json"][row].as_py())
        records.append(
            ImageQuestion(
                images=_pixels(images[row].values),
                turns=beyond.turns,
                stop=beyond.stop,
                sampling=beyond.sampling,
                **record,
            )
        )
    return records


def _pixels(images: pa.StructArray) -> tuple[npt.NDArray[np.uint8], ...]:
    heights, widths, pixels = (images.field(name) for name in ("height", "width", "pixels"))
    return tuple(
        np.frombuffer(pixels[i].as_buffer(), np.uint8).reshape(
            heights[i].as_py(), widths[i].as_py(), 3
        )
        for i in range(len(images))
    )


def guided_cells(guidance: Guidance, rate: Rate) -> dict[str, Any]:
    """Output columns that the small model settles, whatever the route."""
    usage = guidance.usage
    return {
        "exit_score": guidance.exit_score,
        "criterion": guidance.criterion.value,
        **asdict(guidance.certainty),
        "small_answer": guidance.answer,
        "visual_tokens": usage.visual_tokens,
        "small_prompt_tokens": usage.prompt_tokens,
        "small_completion_tokens": usage.completion_tokens,
        "small_gpu_s": rate.device_seconds(usage),
        "consistency_gpu_s": None
        if usage.consistency_s is None
        else usage.consistency_s * rate.devices,
        "cost_usd": rate.usd(usage),
        "small_flops": usage.flops,
        "flops": usage.flops,
        "small_batch_rows": usage.batch_records,
        "small_padded_tokens": usage.padded_tokens,
    }


def pack_guidance(guidance: Guidance) -> dict[str, Any]:
    """The `guidance` cell: what no output column holds."""
    return {
        "token_ids": list(guidance.token_ids),
        "importance": guidance.importance,
        "grids": [
            {
                "image": grid.image,
                "rows": grid.rows,
                "columns": grid.columns,
                "box": list(grid.box),
                "thumbnail": grid.thumbnail,
            }
            for grid in guidance.grids
        ],
        "ended": guidance.ended,
        "visual_tokens": guidance.usage.visual_tokens,
        "kept_tokens": guidance.usage.kept_tokens,
        "flops": guidance.usage.flops,
        "device_s": guidance.usage.device_s,
    }


def unpack_guidance(table: pa.Table, row: int) -> Guidance | None:
    """The small model's part of one row, complete; None where it never ran."""
    cell = table["guidance"][row]
    if not cell.is_valid:
        return None
    read = {name: table[name][row].as_py() for name in _GUIDED}
    packed = {name: cell[name].as_py() for name in cell if name != "importance"}
    return Guidance(
        id=read["id"],
        answer=read["small_answer"],
        token_ids=tuple(packed["token_ids"]),
        certainty=Certainty(**{name: read[name] for name in _CERTAINTY}),
        criterion=Criterion(read["criterion"]),
        exit_score=read["exit_score"],
        importance=cell["importance"].values.to_numpy(zero_copy_only=False).astype(np.float32),
        grids=tuple(
            TokenGrid(
                image=grid["image"],
                rows=grid["rows"],
                columns=grid["columns"],
                box=tuple(grid["box"]),
                thumbnail=grid["thumbnail"],
            )
            for grid in packed["grids"]
        ),
        usage=Usage(
            prompt_tokens=read["small_prompt_tokens"],
            visual_tokens=packed["visual_tokens"],
            kept_tokens=packed["kept_tokens"],
            completion_tokens=read["small_completion_tokens"],
            flops=packed["flops"],
            device_s=packed["device_s"],
            batch_records=read["small_batch_rows"],
            padded_tokens=read["small_padded_tokens"],
        ),
        ended=packed["ended"],
    )


_CERTAINTY = tuple(field.name for field in fields(Certainty))
_GUIDED = (
    "id",
    "small_answer",
    *_CERTAINTY,
    "criterion",
    "exit_score",
    "small_prompt_tokens",
    "small_completion_tokens",
    "small_batch_rows",
    "small_padded_tokens",
)


def answered_cells(answer: Answer, spent: dict[str, Any], rate: Rate) -> dict[str, Any]:
    """Output columns of a record that the large model answered.

    Args:
        answer: the large model's.
        spent: the row's `cost_usd` and `flops` so far; null where the small model never ran.
        rate: of the large model's replicas.
    """
    usage, pruning = answer.usage, answer.pruning
    usd = rate.usd(usage)
    return {
        "answer": answer.text,
        "answer_ended": answer.ended,
        "route": answer.route.value,
        "visual_tokens": usage.visual_tokens,
        "kept_tokens": None if pruning is None else usage.kept_tokens,
        "pruner": None if pruning is None else pruning.pruner,
        "prune_layer": None if pruning is None else pruning.prune_layer,
        "keep_ratio": None if pruning is None else pruning.keep_ratio,
        "average_retention": None if pruning is None else pruning.average_retention,
        "large_prompt_tokens": usage.prompt_tokens,
        "large_completion_tokens": usage.completion_tokens,
        "large_gpu_s": rate.device_seconds(usage),
        "cost_usd": None if usd is None else usd + (spent["cost_usd"] or 0.0),
        "large_flops": usage.flops,
        "large_batch_rows": usage.batch_records,
        "large_padded_tokens": usage.padded_tokens,
        "flops": usage.flops + (spent["flops"] or 0.0),
    }
