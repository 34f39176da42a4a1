"""The same models without an endpoint, one record at a time: what serving is held against."""

import multiprocessing
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from types import TracebackType

from actors.large_vlm import GuidedQuestion, LargeVLM
from actors.small_vlm import SmallVLM
from serving.config import ServeConfig
from sgl.types import Failure, ImageQuestion
from testbed.records import Record


class BareEngine:
    """Both models in a process of their own, with as many threads as a replica has.

    Args:
        config: of the endpoint that it is held against.
        records: that can be asked.
    """

    def __init__(self, config: ServeConfig, records: Sequence[Record]) -> None:
        context = multiprocessing.get_context("spawn")
        self._ours, theirs = context.Pipe()
        questions = [ImageQuestion(one.id, one.question.text, (one.image,)) for one in records]
        self._process = context.Process(target=_work, args=(theirs, config, questions), daemon=True)

    def __enter__(self) -> "BareEngine":
        self._process.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.join()

    def ask(self, model: str, place: int) -> tuple[str, float]:
        """The answer to a record, and the seconds that it took.

        Args:
            model: "small" or "large".
            place: of the record.
        """
        self._ours.send((model, place))
        answer: tuple[str, float] = self._ours.recv()
        return answer


def _work(connection: Connection, config: ServeConfig, questions: Sequence[ImageQuestion]) -> None:
    from benchmarks.record import use_threads

    use_threads(1)
    small = SmallVLM(config.models.small, config.guidance, config.decoding)
    large = LargeVLM(config.models.large, config.pruning, config.decoding)
    while True:
        model, place = connection.recv()
        question = questions[place]
        begun = time.perf_counter()
        if model == "small":
            (guidance,) = small.run([question])
            taken = time.perf_counter() - begun
            assert not isinstance(guidance, Failure), guidance
            text = guidance.answer
        else:
            (answer,) = large.run([GuidedQuestion(question)])
            taken = time.perf_counter() - begun
            assert not isinstance(answer, Failure), answer
            text = answer.text
        connection.send((text, taken))
