"""How one request is counted: when it begins, when its first text goes out, and how it ends."""

import logging
import time

from serving.asks import Ask
from serving.metrics import Metrics
from serving.models import Part
from serving.pieces import Outcome
from serving.replies import cost_of
from serving.surroundings import Prices

logger = logging.getLogger(__name__)
GONE = "499"
"""The status of a request whose client did not wait for its answer; nobody is sent it."""
_UNKNOWN = "none"


class Tally:
    """The counts of one request.

    Args:
        metrics: of this process.
        prices: of device time.
    """

    def __init__(self, metrics: Metrics, prices: Prices) -> None:
        self._metrics = metrics
        self._prices = prices
        self._begun = time.monotonic()
        self._model = self._route = _UNKNOWN
        self._texts = False
        metrics.count("num_requests_running")

    def understood(self, ask: Ask) -> None:
        """It asks for a model that there is."""
        self._model = ask.choice.label

    def decided(self, route: str) -> None:
        """A model answers."""
        self._route = route

    def text(self) -> None:
        """Some of a streamed answer goes out."""
        if self._texts:
            return
        self._texts = True
        waited = time.monotonic() - self._begun
        self._metrics.observe("time_to_first_token_seconds", waited, self._route)

    def answered(self, outcome: Outcome, ask: Ask) -> None:
        """There is an answer, and nothing is still to come."""
        if ask.choice.part is Part.PAIR:
            self._count_decision(outcome)
        self._count_models(outcome)
        waited = time.monotonic() - self._begun
        self._metrics.observe("e2e_request_latency_seconds", waited, self._route)

    def refused(self, status: int, code: str | None) -> None:
        """It is answered by an error, perhaps after some of an answer."""
        self._metrics.count("refused", str(status), code or _UNKNOWN)

    def ended(self, status: str, request_id: str) -> None:
        """It is over; to be called once, however it ended."""
        told = {"model": self._model, "route": self._route, "status": status}
        logger.info("request %s ended: %s", request_id, told, extra={"request_id": request_id})
        self._metrics.count("num_requests_running", by=-1)
        self._metrics.count("requests", self._model, self._route, status)

    def _count_decision(self, outcome: Outcome) -> None:
        degraded = outcome.decision.degraded
        if degraded is not None:
            self._metrics.count("degraded", degraded)
        else:
            self._metrics.count("escalations" if outcome.large else "exits")

    def _count_models(self, outcome: Outcome) -> None:
        count, observe = self._metrics.count, self._metrics.observe
        guidance, answer = outcome.guidance, outcome.answer
        for pool, one, timed, rate in (
            ("small", guidance, outcome.decision.small, self._prices.small),
            ("large", answer, outcome.large, self._prices.large),
        ):
            if one is None or timed is None:
                continue
            count("prompt_tokens", pool, by=one.usage.prompt_tokens)
            count("generation_tokens", pool, by=one.usage.completion_tokens)
            count("device_seconds", pool, by=rate.device_seconds(one.usage))
            observe("request_queue_time_seconds", timed.queued_s, pool)
        if guidance is not None:
            observe("exit_score", guidance.exit_score)
        if answer is not None and answer.pruning is not None:
            observe("average_retention", answer.pruning.average_retention)
        if (usd := cost_of(outcome, self._prices).usd) is not None:
            count("cost_usd", by=usd)
