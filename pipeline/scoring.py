"""The committed rows of an output against accepted answers, file by file."""

import posixpath
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from infra.s3 import DEFAULT, StorageConfig, patiently
from pipeline.answer_store import AnswerStore
from pipeline.config import absolute_path
from pipeline.drift import is_list, is_text
from pipeline.multiple_choice import OPTIONS, carried_options
from pipeline.output import Output
from pipeline.rowfiles import in_parallel, read, write_tasks
from pipeline.schema import OUTPUT
from pipeline.scores import NO_GROUP, ROLES, Collected, Row, Scored, Wanted
from sgl import metrics
from sgl.errors import ConfigurationError

_ANSWERS = "answers"


def score_output(path: str, wanted: Wanted, storage: StorageConfig = DEFAULT) -> Scored:
    """Score the committed rows of an output.

    Args:
        path: of the directory, or its URI.
        wanted: see there.
        storage: how S3 is reached.

    Raises:
        ConfigurationError: there is no output, a column or measure that there is not, or nothing
            that could be scored.
    """
    collected = Collected(wanted)
    with reading(path, wanted, storage) as found:
        for _, rows in found:
            for row in rows:
                collected.add(row)
        scored = collected.finished(found.damaged)
    check_groups(wanted, scored.names)
    return scored


def check_groups(wanted: Wanted, names: Collection[str]) -> None:
    """Refuse a measure for a group that is not there.

    Args:
        wanted: see there.
        names: of the groups that were scored.

    Raises:
        ConfigurationError: names the group.
    """
    if unknown := sorted(set(wanted.metrics).difference(names)):
        raise ConfigurationError(
            f"--metric {unknown[0]}=...: no scored record has '{unknown[0]}' in column "
            f"'{wanted.by}'; there are {', '.join(sorted(names))}"
        )


@contextmanager
def reading(
    path: str, wanted: Wanted, storage: StorageConfig = DEFAULT, besides: Sequence[str] = ()
) -> Iterator["Reading"]:
    """The committed rows of an output beside what they are scored against.

    Args:
        path: of the directory, or its URI.
        wanted: see there.
        storage: how S3 is reached.
        besides: columns to read too, where the output has them.

    Raises:
        ConfigurationError: there is no output, or a column or measure that there is not.
    """
    others = (metrics.CIDER_D, metrics.BY_KIND)
    for name in {wanted.metric, *wanted.metrics.values()}.difference(others):
        metrics.metric_named(name, others)
    with ExitStack() as stack:
        output, files = opened(path, storage)
        columns = columns_of(output, files)
        reference: AnswerStore | None = None
        if wanted.reference not in columns:
            reference = _answers_of(wanted.reference, storage, columns)
            stack.enter_context(reference)
        names = _needed(wanted, columns, reference)
        names += [name for name in besides if name in columns and name not in names]
        yield Reading(_Tables(output, files, names), wanted, reference)


class Reading:
    """Tables of an output, and their rows as they are scored; see `reading`."""

    def __init__(self, tables: "_Tables", wanted: Wanted, reference: AnswerStore | None) -> None:
        self._tables, self._wanted, self._reference = tables, wanted, reference

    def __iter__(self) -> Iterator[tuple[pa.Table, Iterator[Row]]]:
        for table in self._tables:
            yield table, _rows(table, self._wanted, self._reference)

    @property
    def damaged(self) -> int:
        """Data files that could not be read so far."""
        return self._tables.damaged


def opened(path: str, storage: StorageConfig) -> tuple[Output, list[str]]:
    """An output and the names of its committed data files.

    Raises:
        ConfigurationError: there is none, or no such file.
    """
    record = Output(path, "", storage).record()
    if record is None:
        raise ConfigurationError(f"{path}: no output of sgl run (it has no _job.json)")
    output = Output(path, record.fingerprint, storage)
    files = [name for task in write_tasks(output) if task.committed for name in task.data]
    if not files:
        raise ConfigurationError(f"{path}: no rows are committed yet")
    return output, files


def columns_of(output: Output, files: Sequence[str]) -> dict[str, pa.DataType]:
    """Name and type of every column; files of one output have the same."""
    for name in files:
        try:
            schema = next(patiently(partial(_schemas, output, name), output.storage))
        except (pa.ArrowInvalid, FileNotFoundError):
            continue
        return {field.name: field.type for field in schema}
    raise ConfigurationError(f"{output.path}: none of its data files can be read")


def _schemas(output: Output, name: str) -> Iterator[pa.Schema]:
    filesystem, path = output.located(posixpath.join(output.rows, name))
    yield pq.read_schema(path, filesystem=filesystem)


def _needed(
    wanted: Wanted, columns: Mapping[str, pa.DataType], reference: AnswerStore | None
) -> list[str]:
    for option, name in (("--by", wanted.by), ("--cluster", wanted.cluster)):
        if name is not None and name not in columns:
            raise ConfigurationError(
                f"{option}: no column '{name}'; it carries {carried_names(columns)}"
            )
    if reference is None:
        type_ = columns[wanted.reference]
        if not is_text(type_.value_type if is_list(type_) else type_):
            raise ConfigurationError(
                f"--reference: column '{wanted.reference}' holds {type_}; "
                "it must hold texts or lists of texts"
            )
    names = ["id", "route", *ROLES, wanted.by, wanted.cluster]
    names += [OPTIONS] if OPTIONS in columns else []
    names += [wanted.reference] if reference is None else []
    return list(dict.fromkeys(name for name in names if name is not None))


def carried_names(columns: Mapping[str, pa.DataType]) -> str:
    """What the input brought along, among an output's own columns of figures."""
    return ", ".join(name for name in columns if name not in OUTPUT.names) or "none but its own"


def _answers_of(
    path: str, storage: StorageConfig, columns: Mapping[str, pa.DataType]
) -> AnswerStore:
    if path == _ANSWERS:
        raise ConfigurationError(
            "the output has no column 'answers': its input had no accepted answers; name another "
            f"column or another output by --reference; it carries {carried_names(columns)}"
        )
    try:
        output, files = opened(absolute_path(path), storage)
    except ConfigurationError as error:
        raise ConfigurationError(
            f"--reference: '{path}' is no column (it carries {carried_names(columns)}) "
            "and no output of sgl run with rows"
        ) from error
    store = AnswerStore()
    for table in _Tables(output, files, ["id", "answer"]):
        store.add(zip(table["id"].to_pylist(), table["answer"].to_pylist(), strict=True))
    return store


class _Tables:
    """Some columns of the data files, one file after the other; counts those that are damaged."""

    def __init__(self, output: Output, files: Sequence[str], columns: Sequence[str]) -> None:
        self._output, self._files, self._names = output, files, columns
        self.damaged = 0

    def __iter__(self) -> Iterator[pa.Table]:
        output = self._output
        for table in in_parallel(
            lambda name: read(output, output.rows, name, self._names), self._files
        ):
            if table is None:
                self.damaged += 1
            else:
                yield table


def _rows(table: pa.Table, wanted: Wanted, reference: AnswerStore | None) -> Iterator[Row]:
    ids = table["id"].to_pylist()
    if reference is None:
        accepted = [texts_in(cell) for cell in table[wanted.reference].to_pylist()]
    else:
        known = reference.find(ids)
        accepted = [texts_in(known.get(name)) for name in ids]
    empty: list[Any] = [None] * table.num_rows
    given = OPTIONS in table.column_names
    columns = [
        table["route"].to_pylist(),
        zip(*(table[role].to_pylist() for role in ROLES), strict=True),
        accepted,
        [carried_options(cell) for cell in (table[OPTIONS].to_pylist() if given else empty)],
        map(_named, table[wanted.by].to_pylist()) if wanted.by else [""] * table.num_rows,
        map(_named, table[wanted.cluster].to_pylist()) if wanted.cluster else empty,
    ]
    return (Row(*cells) for cells in zip(*columns, strict=True))


def texts_in(cell: str | list[str | None] | None) -> list[str]:
    """Of a cell of accepted answers, or of answer options; of a null one none."""
    if isinstance(cell, str):
        return [cell]
    return [text for text in cell or [] if text is not None]


def _named(value: Any) -> str:
    return NO_GROUP if value is None else str(value)
