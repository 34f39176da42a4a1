"""The fetch stage: image references become pixels, once, in CPU tasks.

A picture that crashes a decoder kills a CPU task and never a model's replica. However large a
block's pictures are, only `IN_FLIGHT_BYTES` of pixels are held here: more go out in several tables.
"""

import logging
import random
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice, takewhile
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.guard import Guard
from pipeline.images import decode
from pipeline.progress import Reporter, is_closed
from pipeline.references import Fetcher, has_image
from pipeline.schema import IMAGE, IMAGES, OUTPUT
from pipeline.stage import check_columns, check_conserved, failed, replace_columns
from pipeline.work import work_of
from sgl.errors import (
    EmptyQuestionError,
    ImageError,
    MalformedRecordError,
    RecordError,
    StorageError,
)
from sgl.types import Failure

logger = logging.getLogger(__name__)

READS = ("id", "question", "image", "max_new_tokens", "read_error", "conversation_json")
WRITES = (*OUTPUT.names[2:], IMAGES.name)
"""Every output column is made here, most of them null; `image` and `read_error` are dropped."""
IN_FLIGHT_BYTES = 64 << 20

_PATIENCE_S = 1800.0
"""How long the storage of pictures may fail without one picture arriving; then the job ends, and
the same command goes on from there."""
_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0

_Pictures: TypeAlias = list[npt.NDArray[np.uint8]]
_Fetched: TypeAlias = _Pictures | Failure | StorageError


@dataclass(frozen=True)
class FetchStage:
    """Arrow table in, Arrow tables out; never raises for a row.

    A storage that fails is waited for, here and not by Ray: an exception would end the job, and a
    process that ends counts against its records.

    Attributes:
        run_id: of this run, for every row.
        threshold: of the cascade; None in the other modes.
        max_image_pixels: see InputConfig.
        text_only: likewise.
        threads: pictures fetched at the same time.
        fetcher: gets the encoded pictures.
        reporter: told of the rows done.
        guard: stands around the decoders.
        stops: take no more records once the budget is spent; they have no row then.
    """

    run_id: str
    threshold: float | None
    max_image_pixels: int
    text_only: bool
    threads: int
    fetcher: Fetcher
    reporter: Reporter
    guard: Guard
    stops: bool = False

    def __call__(self, table: pa.Table) -> Iterator[pa.Table]:
        """Decode the pictures of one block; its rows come out in order, in one table or more."""
        check_columns("fetch", table, READS)
        if self.stops and is_closed(self.reporter):
            yield self._finished(table.slice(0, 0), [])
            return
        start, held = 0, 0
        fetched: list[_Pictures | Failure] = []
        for item in self._in_order(table):
            fetched.append(item)
            held += _bytes(item)
            if held >= IN_FLIGHT_BYTES:
                part = self._finished(table.slice(start, len(fetched)), fetched)
                # Let go of the pictures before waiting for whoever takes the part.
                start, held, fetched = start + len(fetched), 0, []
                del item
                yield part
                del part
        if fetched or not start:
            yield self._finished(table.slice(start), fetched)

    def _in_order(self, table: pa.Table) -> Iterator[_Pictures | Failure]:
        """The records' pictures; those of neighbours are fetched together, suspects alone.

        Raises:
            StorageError: it has failed for too long.
        """
        ids = table["id"].to_pylist()
        admission = self.guard.admit(ids)
        apart = {*admission.failed, *admission.alone}
        row, waited = 0, 0.0
        while row < len(ids):
            if given_up := admission.failed.get(ids[row]):
                row += 1
                yield given_up
                continue
            neighbours = takewhile(lambda i: ids[i] not in apart, range(row, len(ids)))
            # Few at a time: hosts that are slow, each within its limit, are no process that hangs.
            rows = list(islice(neighbours, 2 * self.threads)) or [row]
            # Nobody waits for the next stage under the watch, or its time would count, too.
            with self.guard.watch([ids[i] for i in rows]):
                done = self._fetch_some(table, rows)
            # What is fetched behind a picture that did not come is fetched again.
            while done:
                item = done.popleft()
                if isinstance(item, StorageError):
                    waited += _pause(waited, item)
                    break
                row, waited = row + 1, 0.0
                yield item
                del item

    def _fetch_some(self, table: pa.Table, rows: Sequence[int]) -> deque[_Fetched]:
        """The first of some rows, or all: until they hold as much as may be held.

        At most twice as many are at work as there are threads.
        """
        done: deque[_Fetched] = deque()
        waiting: deque[Future[_Fetched]] = deque()
        held = 0
        with ThreadPoolExecutor(self.threads) as pool:
            for row in rows:
                waiting.append(pool.submit(self._fetch, table, row))
                if len(waiting) >= 2 * self.threads:
                    done.append(waiting.popleft().result())
                    held += _bytes(done[-1])
                if held >= IN_FLIGHT_BYTES:
                    break
            done.extend(future.result() for future in waiting)
        return done

    def _fetch(self, table: pa.Table, row: int) -> _Fetched:
        record = {name: table[name][row] for name in READS}
        name = record["id"].as_py()
        if record["read_error"].is_valid:
            return _failure(name, MalformedRecordError(record["read_error"].as_py()), "read")
        try:
            # Messages without any text have been refused; one with a picture alone needs none.
            if not record["conversation_json"].is_valid:
                _check_question(record["question"].as_py())
            _check_limit(record["max_new_tokens"].as_py())
            return self._pictures(record["image"])
        except RecordError as error:
            return _failure(name, error)
        except StorageError as error:
            return error
        except Exception as error:
            logger.exception("a record failed in the fetch stage")
            message = "the record could not be processed; the job's log has the details"
            return Failure(name, "fetch", type(error).__name__, message)

    def _pictures(self, image: pa.ListScalar) -> _Pictures:
        """Of one record; none only where it has no image and needs none."""
        references = [_read(reference) for reference in image.values or []]
        if not any(map(has_image, references)):
            if self.text_only:
                return []
            raise ImageError("the record has no image")
        pictures = []
        for number, reference in enumerate(references, 1):
            try:
                data = self.fetcher.fetch(reference)
                pictures.append(decode(data, self.max_image_pixels))
            except ImageError as error:
                if len(references) == 1:
                    raise
                raise type(error)(f"image {number} of {len(references)}: {error}") from error
        return pictures

    def _finished(self, table: pa.Table, fetched: Sequence[_Pictures | Failure]) -> pa.Table:
        rows = table.num_rows
        columns = {name: pa.nulls(rows, OUTPUT.field(name).type) for name in OUTPUT.names[2:]}
        failures = [failed(item) if isinstance(item, Failure) else {} for item in fetched]
        columns |= {
            "route": pa.array([cells.get("route") for cells in failures], pa.string()),
            "error": pa.array([c.get("error") for c in failures], OUTPUT.field("error").type),
            "threshold": pa.array([self.threshold] * rows, pa.float64()),
            "run_id": pa.array([self.run_id] * rows, pa.string()),
            IMAGES.name: _packed(fetched),
        }
        out = replace_columns(table.drop_columns(["image", "read_error"]), columns)
        check_conserved("fetch", table, out)
        self.reporter.done("fetch", rows=rows, failed=sum(map(bool, failures)))
        self.reporter.worked("fetch", work_of("fetch", out, range(rows)))
        return out


def _check_question(question: str | None) -> None:
    if not (question or "").strip():
        raise EmptyQuestionError("the question is empty, or no valid UTF-8")


def _check_limit(max_new_tokens: int | None) -> None:
    if max_new_tokens is not None and max_new_tokens < 1:
        raise RecordError(f"max_new_tokens is {max_new_tokens}; 1 is the least")


def _read(reference: pa.StructScalar) -> dict[str, Any] | None:
    """A reference whose bytes are a view into the block, not a copy."""
    if not reference.is_valid:
        return None
    data = reference["bytes"]
    return {
        "bytes": data.as_buffer() if data.is_valid else None,
        "uri": reference["uri"].as_py(),
        "base": reference["base"].as_py(),
    }


def _pause(waited: float, error: StorageError) -> float:
    """Wait for the storage, each time twice as long; how long, in seconds.

    Raises:
        StorageError: that was given, after `_PATIENCE_S`.
    """
    if waited >= _PATIENCE_S:
        raise StorageError(
            f"{error}, and has not for {waited:.0f} s; the same command goes on from here"
        ) from error
    seconds = min(max(waited, _FIRST_PAUSE_S), _LONGEST_PAUSE_S)
    logger.warning("%s; the next try is in %.0f s", error, seconds, exc_info=error.__cause__)
    time.sleep(seconds * random.uniform(0.5, 1))
    return seconds


def _bytes(item: _Fetched) -> int:
    if isinstance(item, Failure | StorageError):
        return 0
    return sum(picture.nbytes for picture in item)


def _failure(name: str, error: RecordError, stage: str = "fetch") -> Failure:
    return Failure(name, stage, type(error).__name__, str(error))


def _packed(fetched: Sequence[_Pictures | Failure]) -> pa.Array:
    """The `images` column: every picture is copied once, into the one buffer of all of them."""
    counts = [0 if isinstance(item, Failure) else len(item) for item in fetched]
    pictures = [one for item in fetched if not isinstance(item, Failure) for one in item]
    ends = np.cumsum([0, *(picture.nbytes for picture in pictures)], dtype=np.int64)
    pixels = np.empty(int(ends[-1]), np.uint8)
    for picture, start, end in zip(pictures, ends[:-1], ends[1:], strict=True):
        pixels[start:end].reshape(picture.shape)[:] = picture
    data = pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), len(pictures), [None, pa.py_buffer(ends), pa.py_buffer(pixels)]
    )
    sizes = [pa.array([p.shape[axis] for p in pictures], pa.int32()) for axis in (0, 1)]
    return pa.ListArray.from_arrays(
        pa.array(np.cumsum([0, *counts]), pa.int32()),
        pa.StructArray.from_arrays([*sizes, data], fields=list(IMAGE)),
        type=IMAGES.type,
        mask=pa.array([isinstance(item, Failure) for item in fetched], pa.bool_()),
    )
