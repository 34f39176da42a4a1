"""What a request asks beyond one plain question, as the text of one cell.

Its JSON is made and read here alone: no input has this column.
"""

import json
from dataclasses import dataclass

from sgl.types import Role, Sampling, Turn


@dataclass(frozen=True, slots=True)
class Conversation:
    """Beyond the question; see sgl.types.ImageQuestion.

    Attributes:
        turns: a whole conversation; none where the question says it all.
        stop: texts that end the answer.
        sampling: None is greedy.
    """

    turns: tuple[Turn, ...] = ()
    stop: tuple[str, ...] = ()
    sampling: Sampling | None = None


PLAIN = Conversation()
"""Nothing beyond the question."""


def packed(conversation: Conversation) -> str | None:
    """The cell; null where there is nothing beyond the question."""
    if conversation == PLAIN:
        return None
    sampling = conversation.sampling
    cell = {
        "turns": [[turn.role.value, *turn.parts] for turn in conversation.turns],
        "stop": conversation.stop,
        "sampling": sampling and [sampling.temperature, sampling.top_p, sampling.seed],
    }
    return json.dumps(cell, ensure_ascii=False, separators=(",", ":"))


def unpacked(cell: str | None) -> Conversation:
    """What a cell says."""
    if cell is None:
        return PLAIN
    read = json.loads(cell)
    return Conversation(
        turns=tuple(Turn(Role(role), tuple(parts)) for role, *parts in read["turns"]),
        stop=tuple(read["stop"]),
        sampling=read["sampling"] and Sampling(*read["sampling"]),
    )
