"""What the endpoint is given by what is around it: pictures, the caller's account, prices."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt


class Pictures(Protocol):
    """Whoever fetches and decodes pictures."""

    async def get(self, references: Sequence[str]) -> list[npt.NDArray[np.uint8]]:
        """One RGB array (height, width, 3) per address, in order.

        Raises:
            ApiError: there are too many, or they are too large together.
            ImageError: one cannot be had.
        """
        ...


class Caller(Protocol):
    """Whoever sent a request, as the guard knows them: `state["client"]` of its scope."""

    def charge(self, tokens: int) -> None:
        """So many tokens of prompts and answers were spent for them."""
        ...

    def hold(self, size: int) -> None:
        """The request under way takes so many bytes more."""
        ...


@dataclass(frozen=True, slots=True)
class Prices:
    """US dollars for a second of one device; None is unknown."""

    small_usd_per_s: float | None = None
    large_usd_per_s: float | None = None
