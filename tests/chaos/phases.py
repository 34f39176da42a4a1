"""The moments of a driver's life that its requests to S3 tell apart, each with what it leaves."""

from collections.abc import Sequence
from enum import Enum

from pipeline.rowfiles import WriteTask
from tests.s3 import Stop

_PUT = ("PUT", "POST")
_DELETE = ("DELETE",)


class Phase(Enum):
    """At each, the request in brackets is the last: not carried out, unless it says so."""

    LEASED = "lease taken, nothing else done"
    TOLD = "_job.json written, no write task begun"
    PENDING = "pending checkpoint written, no data file"
    DATA_WRITTEN = "data file written, not committed"
    COPIED = "between copy and delete of the rename"
    COMMITTED = "rename done, nobody told"
    AUDITED = "audited, no success marker"
    MARKED = "success marker written, lease held"
    RECONCILING = "reconciling: data file deleted, its pending checkpoint not"

    @property
    def at_start(self) -> bool:
        """Whether it comes before any work."""
        return self in (Phase.LEASED, Phase.TOLD, Phase.RECONCILING)

    @property
    def recurs(self) -> bool:
        """Whether it comes with every write task."""
        return self in (Phase.PENDING, Phase.DATA_WRITTEN, Phase.COPIED, Phase.COMMITTED)

    @property
    def looks_like_reconciling(self) -> bool:
        """Whether a driver that tidies up after a death makes such requests too."""
        return self in (Phase.COPIED, Phase.COMMITTED)

    def stop(self, skip: int = 0) -> Stop:
        """The request at which the world ends."""
        methods, part, carried_out = _STOPS[self]
        return Stop(methods, part, skip, carried_out)

    def left_behind(self, tasks: Sequence[WriteTask]) -> bool:
        """Whether write tasks are in the state that a death at this phase leaves."""
        match self:
            case Phase.PENDING | Phase.RECONCILING:
                return any(t.pending and not t.data and not t.committed for t in tasks)
            case Phase.DATA_WRITTEN:
                return any(t.pending and t.data and not t.committed for t in tasks)
            case Phase.COPIED:
                return any(t.pending and t.data and t.committed for t in tasks)
            case Phase.COMMITTED:
                return any(t.data and t.committed and not t.pending for t in tasks)
            case Phase.AUDITED | Phase.MARKED:
                return all(t.data and t.committed and not t.pending for t in tasks)
            case _:
                return True


_STOPS = {
    Phase.LEASED: (_PUT, "/_job.json", False),
    Phase.TOLD: (_PUT, ".pending.parquet", False),
    Phase.PENDING: (_PUT, "-0.parquet", False),
    Phase.DATA_WRITTEN: (("COPY",), "/checkpoint/", False),
    Phase.COPIED: (_DELETE, ".pending.parquet", False),
    Phase.COMMITTED: (_DELETE, ".pending.parquet", True),
    Phase.AUDITED: (_PUT, "/_SUCCESS.json", False),
    Phase.MARKED: (_DELETE, "/_lease.json", False),
    Phase.RECONCILING: (_DELETE, "-0.parquet", True),
}
