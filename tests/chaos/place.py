"""Where the output of a round lies, and how it is looked at past all faults."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from infra.s3 import StorageConfig
from infra.storage import folders_in, names_in
from pipeline.output import Output
from pipeline.rowfiles import PENDING, WriteTask, committed_ids, write_tasks
from tests.s3 import Faults, Server, faulty_proxy, running_server

REGION = "us-east-1"


@dataclass(frozen=True)
class Place:
    """The output directory of one round.

    Attributes:
        name: of the kind of storage.
        path: of the directory, or its URI.
        seen_by_job: how the job reaches it.
        direct: how we do.
        faults: what goes wrong in between; None on the local disk.
    """

    name: str
    path: str
    seen_by_job: StorageConfig
    direct: StorageConfig
    faults: Faults | None = None

    def output(self) -> Output:
        """The output as it is now; its fingerprint is read off its folders."""
        found = folders_in(f"{self.path}/checkpoint", self.direct)
        return Output(self.path, found[0] if found else "none", self.direct)

    def tasks(self) -> list[WriteTask]:
        """Its write tasks, whatever their state."""
        return write_tasks(self.output())

    def commits(self) -> int:
        """Files committed."""
        names = names_in(self.output().checkpoint, self.direct)
        return sum(not name.startswith(".") and not name.endswith(PENDING) for name in names)

    def committed_rows(self) -> int:
        """Rows committed."""
        return sum(len(ids) for ids in committed_ids(self.output()))


def on_disk(folder: Path) -> Place:
    """A directory of the local disk."""
    storage = StorageConfig()
    return Place("local", str(folder), storage, storage)


def on_s3(bucket: str, name: str, server: Server, proxy: Server, faults: Faults) -> Place:
    """A prefix in a bucket, which the job reaches through a proxy."""
    through, direct = (
        StorageConfig(endpoint_url=one.url, region=REGION) for one in (proxy, server)
    )
    return Place("s3", f"{bucket}/{name}", through, direct, faults)


@contextmanager
def running_s3() -> Iterator[tuple[Server, Server, Faults]]:
    """A server, a proxy before it, and what goes wrong there."""
    with ExitStack() as stack:
        server = stack.enter_context(running_server())
        proxy, faults = stack.enter_context(faulty_proxy(server))
        yield server, proxy, faults
