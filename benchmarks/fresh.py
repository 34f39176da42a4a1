"""A function in a fresh process, on some of the cores, open to be watched from outside."""

import multiprocessing
import os
from collections.abc import Callable, Collection
from multiprocessing.connection import Connection
from typing import Any, Generic, TypeVar

Result = TypeVar("Result")


class Fresh(Generic[Result]):
    """A function that runs in a new interpreter.

    Args:
        work: importable.
        arguments: of it; they must pickle.
        cores: that the process and its descendants may use; None means all.
    """

    def __init__(
        self,
        work: Callable[..., Result],
        *arguments: Any,
        cores: Collection[int] | None = None,
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self._receiver, sender = context.Pipe(duplex=False)
        self._name = work.__name__
        self._process = context.Process(target=_run, args=(sender, cores, work, arguments))
        self._process.start()
        sender.close()

    @property
    def pid(self) -> int:
        """Of the process."""
        assert self._process.pid is not None
        return self._process.pid

    def result(self) -> Result:
        """What the function returns; the process has ended then.

        Raises:
            ChildProcessError: it has raised, or died; its last words are on the terminal.
        """
        try:
            result: Result = self._receiver.recv()
        except EOFError as error:
            raise ChildProcessError(f"{self._name} has ended without a result") from error
        finally:
            self._process.join()
        return result


def _run(
    sender: Connection,
    cores: Collection[int] | None,
    work: Callable[..., Any],
    arguments: tuple[Any, ...],
) -> None:
    if cores is not None:
        os.sched_setaffinity(0, cores)
    sender.send(work(*arguments))
