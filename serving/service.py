"""All that answering a request takes; one for each process."""

import time
from dataclasses import dataclass

from serving.asks import Ask
from serving.completions import (
    Choice,
    Completion,
    FinishReason,
    Message,
    SglReport,
)
from serving.config import LimitsConfig
from serving.gateway import Gateway
from serving.metrics import Metrics
from serving.models import Catalogue
from serving.pieces import Outcome
from serving.replies import report_of, usage_of
from serving.surroundings import Pictures, Prices
from sgl.types import Criterion


@dataclass(frozen=True)
class Service:
    """Parts of the endpoint.

    Attributes:
        catalogue: names of models.
        gateway: the cascade.
        pictures: fetches and decodes.
        limits: of one request.
        criterion: of the small model's exit score.
        prices: of device time.
        metrics: of this process.
    """

    catalogue: Catalogue
    gateway: Gateway
    pictures: Pictures
    limits: LimitsConfig
    criterion: Criterion
    prices: Prices
    metrics: Metrics

    def report(self, outcome: Outcome, ask: Ask) -> SglReport:
        """Our own part of an answer."""
        return report_of(outcome, ask, self.criterion, self.prices)

    def completion(self, outcome: Outcome, ask: Ask) -> Completion:
        """A whole answer."""
        choice = Choice(message=Message(content=outcome.text), finish_reason=finish_of(outcome))
        return Completion(
            id=ask.question.id,
            created=int(time.time()),
            model=ask.choice.name,
            choices=[choice],
            usage=usage_of(outcome, self.prices),
            sgl=self.report(outcome, ask),
        )


def finish_of(outcome: Outcome) -> FinishReason:
    """Why an answer ends, in OpenAI's words."""
    return "stop" if outcome.ended else "length"
