"""The layout of an output directory, and the small files in it.

    rows/RUN_WRITE_TASK-N.parquet              one row per record
    checkpoint/FINGERPRINT/RUN_WRITE_TASK.parquet   ids whose rows are committed, one file per task
    checkpoint/FINGERPRINT/....pending.parquet      ids whose rows are being written
    ledger/FINGERPRINT/TIME-RANDOM.json             records whose process died (pipeline/journal.py)
    batch/results.jsonl, batch/errors.jsonl    of requests, once complete (pipeline/batch_files.py)
    runs/RUN.json                              pools and times of each run (pipeline/run_record.py)
    _job.json                                  what the rows are of; written before the first row
    _lease.json                                who is writing; gone when nobody is
    _SUCCESS.json                              the output is complete and audited
    _ALARM.json                                the answers are not what was promised of them

Rows and checkpoint are neighbours because Ray, when it cleans up after a crash, deletes by prefix
whatever lies below the data folder, the checkpoint's own files included.
"""

import posixpath
import re
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from pyarrow import fs
from pydantic import BaseModel, ValidationError

from actors.config import StrictModel
from infra.s3 import StorageConfig
from infra.storage import folders_in, locate, names_in, remove, write_bytes
from infra.swap import peek
from pipeline.probe import Promise
from sgl.errors import ConfigurationError

ROW_FILE = re.compile(r"(?P<base>.+_[0-9a-f]{32}_\d{6})-\d+\.parquet")
"""A data file of a write task, as Ray names it: base, then its number within the task."""

_Small = TypeVar("_Small", bound=BaseModel)


class JobRecord(StrictModel):
    """What an output is of.

    Attributes:
        fingerprint: of everything that changes a row.
        run_id: of the latest run.
        records: of the input.
        identity: what the fingerprint is made of, by name.
        precision: dtype by role, as "auto" was resolved where the rows were computed.
        versions: of the packages that took part; told, no part of the fingerprint.
        job: the settings of the latest run.
    """

    fingerprint: str
    run_id: str
    records: int
    identity: dict[str, str]
    precision: dict[str, str]
    versions: dict[str, str]
    job: dict[str, Any]


class Success(StrictModel):
    """The marker of a complete, audited output.

    Attributes:
        run_id: of the run that completed it.
        fingerprint: see JobRecord.
        finished_at: ISO 8601, UTC.
        records: rows, which are as many as records of the input.
        routes: rows by route, the failed ones included.
        files: a digest of the names and sizes of the data files; see pipeline.status.
    """

    run_id: str
    fingerprint: str
    finished_at: str
    records: int
    routes: dict[str, int]
    files: str


class Alarm(StrictModel):
    """The probe has shown that a promise is broken; it stays so, whoever goes on.

    Attributes:
        fingerprint: see JobRecord.
        run_id: of the run that noticed.
        raised_at: ISO 8601, UTC.
        promise: that is broken.
        records: probed ones that had been compared by then.
        latest: of them, those that speak most against it.
        agreement: mean of these.
        p: p-value of "the promise holds".
    """

    fingerprint: str
    run_id: str
    raised_at: str
    promise: Promise
    records: int
    latest: int
    agreement: float
    p: float


_NAMES: dict[type[BaseModel], str] = {
    JobRecord: "_job.json",
    Success: "_SUCCESS.json",
    Alarm: "_ALARM.json",
}


@dataclass(frozen=True)
class Output:
    """One output directory, as one set of settings sees it; picklable.

    Attributes:
        path: of the directory, or its URI.
        fingerprint: of the settings.
        storage: how S3 is reached.
    """

    path: str
    fingerprint: str
    storage: StorageConfig

    @property
    def rows(self) -> str:
        """The folder of the data files."""
        return posixpath.join(self.path, "rows")

    @property
    def checkpoint(self) -> str:
        """The folder of the ids that are done under these settings."""
        return posixpath.join(self.path, "checkpoint", self.fingerprint)

    @property
    def ledger(self) -> str:
        """The folder of the deaths under these settings."""
        return posixpath.join(self.path, "ledger", self.fingerprint)

    @property
    def runs(self) -> str:
        """The folder of the runs' records."""
        return posixpath.join(self.path, "runs")

    @property
    def batch(self) -> str:
        """The folder of the files in OpenAI's format."""
        return posixpath.join(self.path, "batch")

    @property
    def lease(self) -> str:
        """The file that says who is writing."""
        return posixpath.join(self.path, "_lease.json")

    def located(self, folder: str) -> tuple[fs.FileSystem, str]:
        """The filesystem of the output and the path of one of its folders there."""
        return locate(folder, self.storage)

    def names(self, folder: str) -> dict[str, int]:
        """Names and sizes of the files in one of its folders."""
        return names_in(folder, self.storage)

    def record(self) -> JobRecord | None:
        """What the output is of; None for a new one."""
        return self._read(_NAMES[JobRecord], JobRecord)

    def success(self) -> Success | None:
        """The success marker; None while the output is not complete."""
        return self._read(_NAMES[Success], Success)

    def alarm(self) -> Alarm | None:
        """What was raised under these settings; None where nothing was."""
        alarm = self._read(_NAMES[Alarm], Alarm)
        return alarm if alarm and alarm.fingerprint == self.fingerprint else None

    def tell(self, small: JobRecord | Success | Alarm) -> None:
        """Write one of the small files."""
        name = _NAMES[type(small)]
        data = small.model_dump_json(indent=1).encode()
        write_bytes(posixpath.join(self.path, name), data, self.storage)

    def reopen(self) -> None:
        """Take the success marker away; before anything changes."""
        remove(posixpath.join(self.path, _NAMES[Success]), self.storage)

    def _read(self, name: str, kind: type[_Small]) -> _Small | None:
        data = peek(posixpath.join(self.path, name), self.storage)
        try:
            return None if data is None else kind.model_validate_json(data)
        except ValidationError as error:
            raise ConfigurationError(
                f"output.path: {name} in {self.path} is not of this version; "
                "write another directory"
            ) from error


def open_output(path: str, fingerprint: str, storage: StorageConfig) -> Output:
    """An output directory, which may not exist yet.

    Raises:
        ConfigurationError: its storage is unknown, or cannot be reached.
    """
    output = Output(path, fingerprint, storage.resolved())
    try:
        peek(output.lease, output.storage)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"output.path: it cannot be reached: {error}") from error
    return output


def check_apart(source: str, output: str, storage: StorageConfig) -> None:
    """Refuse an output below the folder of its input: the next run would read it as input.

    Raises:
        ConfigurationError: it is.
    """
    try:
        (_, above), (_, below) = locate(source, storage), locate(output, storage)
    except (OSError, ValueError):
        return  # one of them is unknown, which its own check says better
    if _scheme(source) == _scheme(output) and below.startswith(above.rstrip("/") + "/"):
        raise ConfigurationError(
            f"output.path: {output} lies below input.path, which would take its files for input "
            "the next time; write a directory beside it"
        )


def check_output(output: Output, identity: dict[str, str]) -> None:
    """Refuse a directory that holds rows of other settings, or rows that nobody committed.

    Raises:
        ConfigurationError: names the directory and, where it is known, the settings that differ.
    """
    root = posixpath.dirname(output.checkpoint)
    files = partial(names_in, storage=output.storage)
    others = set(folders_in(root, output.storage)) - {output.fingerprint}
    other = next((name for name in sorted(others) if files(posixpath.join(root, name))), None)
    if other is not None:
        record = output.record()
        known = record.identity if record and record.fingerprint == other else {}
        raise ConfigurationError(
            f"output.path: {output.path} holds rows of other settings"
            f"{_differences(known, identity)} and is never overwritten; write another directory"
        )
    record = output.record()
    ours = record is not None and record.fingerprint == output.fingerprint
    if files(output.rows) and not files(output.checkpoint) and not ours:
        raise ConfigurationError(
            f"output.path: {output.path} holds rows without their checkpoint; "
            "write another directory"
        )


def _scheme(uri: str) -> str:
    scheme, found, _ = uri.partition("://")
    return scheme if found else ""


def _differences(known: dict[str, str], identity: dict[str, str]) -> str:
    told = [
        f"{name} {known.get(name, 'unset')} there, {identity.get(name, 'unset')} here"
        for name in sorted(known.keys() | identity.keys())
        if known and known.get(name) != identity.get(name)
    ]
    return f" ({'; '.join(told)})" if told else ""
