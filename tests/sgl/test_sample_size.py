"""How large a sample has to be."""

import numpy as np
import pytest

from sgl.bounds import BINARY
from sgl.sample_size import records_needed


def test_more_records_are_needed_for_less_room() -> None:
    losses = np.zeros(1000)
    losses[:10] = 1
    sizes = [records_needed(losses, limit, 0.05, BINARY) for limit in (0.1, 0.05, 0.02)]
    assert None not in sizes
    assert sizes == sorted(sizes)  # type: ignore[type-var]
    assert records_needed(losses, 0.01, 0.05, BINARY) is None
    # No loss at all: the rule of three, and the part that only orders.
    assert records_needed(np.zeros(10), 0.01, 0.05, BINARY) == pytest.approx(299 / 0.7, rel=0.1)
