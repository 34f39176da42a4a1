"""The main program of one rank: `python -m actors.rank_process <file descriptor>`.

It serves requests from its watcher (`actors.ranks`) until the connection closes, be it because the
watcher is done or because it was killed.
"""

import logging
import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from queue import SimpleQueue
from threading import Thread
from typing import Any

from actors.batching import release_memory
from actors.ranks import Outcome, Rank, RankWorker
from sgl.errors import RecordError


def main() -> None:
    """Build the worker that the first message describes, then run requests for ever."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the watcher, who ends the ranks
    fd = int(sys.argv[1])
    os.set_inheritable(fd, False)
    connection: Connection[Any, Any] = Connection(fd)
    inbox: SimpleQueue[Any] = SimpleQueue()
    Thread(target=_receive, args=(connection, inbox), daemon=True).start()
    build: Callable[[Rank], RankWorker]
    build, rank = inbox.get()
    logging.basicConfig(format=f"rank {rank.index}: %(levelname)s %(name)s: %(message)s")
    try:
        worker = build(rank)
        connection.send(Outcome(worker.introduce()))
    except Exception as error:
        connection.send(Outcome(error=_portable(error)))
        return
    while True:
        connection.send(_outcome(worker, rank, inbox.get()))


def _receive(connection: "Connection[Any, Any]", inbox: "SimpleQueue[Any]") -> None:
    """Hand messages on; end the process with the connection.

    A thread of its own, because the main one may wait for a rank that is no more.
    """
    try:
        while True:
            inbox.put(connection.recv())
    except (EOFError, OSError):
        pass
    except Exception:
        traceback.print_exc()
    os._exit(1)


def _outcome(worker: RankWorker, rank: Rank, request: Any) -> Outcome:
    try:
        value, agreed = worker.run(request)
    except Exception as error:
        outcome = Outcome(error=_portable(error), collectives=worker.collectives)
    else:
        return Outcome(value if rank.index == 0 else None, agreed, None, worker.collectives)
    # Outside the except block, whose traceback would keep the failed batch's tensors alive.
    release_memory()
    return outcome


def _portable(error: Exception) -> Exception:
    """The error as it can be sent, with its traceback as a note where that tells something."""
    if not isinstance(error, RecordError):
        error.add_note("in a rank:\n" + traceback.format_exc())
    error.__traceback__ = error.__context__ = error.__cause__ = (
        None  # they hold the batch's tensors
    )
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


if __name__ == "__main__":
    main()
