"""Learning rate by step, never by the clock."""

import math


def learning_rate_factor(step: int, steps: int, warmup: int = 100, floor: float = 0.02) -> float:
    """Linear warm-up, then a cosine down to `floor`."""
    cosine = 0.5 * (1 + math.cos(math.pi * step / steps))
    return min(1.0, (step + 1) / warmup) * (floor + (1 - floor) * cosine)
