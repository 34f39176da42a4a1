"""What the endpoint is given by what is around it: pictures, and prices."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from pipeline.handover import Rate


class Pictures(Protocol):
    """Whoever fetches and decodes pictures."""

    async def get(
        self, references: Sequence[str], hold: Callable[[int], None] | None = None
    ) -> list[npt.NDArray[np.uint8]]:
        """One RGB array (height, width, 3) per address, in order.

        Args:
            references: addresses.
            hold: is told how many bytes more the request takes.

        Raises:
            ImageError: one cannot be had.
            ApiError: of `hold`.
        """
        ...


UNPRICED = Rate()
"""One device per replica, of no known price."""


@dataclass(frozen=True, slots=True)
class Prices:
    """What a second of one replica of each pool is."""

    small: Rate = UNPRICED
    large: Rate = UNPRICED
