"""Numbers by id: even, the same again, and those of one purpose unlike those of another."""

from itertools import combinations

import numpy as np
import pytest

from sgl.chance import MOST, Purpose, hash_of, share_of

NAMES = [f"r{i}" for i in range(4000)]


@pytest.mark.parametrize("purpose", Purpose)
def test_they_are_even_and_the_same_again(purpose: Purpose) -> None:
    shares = np.array([share_of(name, purpose) for name in NAMES])
    assert (shares >= 0).all()
    assert (shares < 1).all()
    assert np.abs(np.histogram(shares, 10, (0, 1))[0] - 400).max() < 100
    assert [hash_of(name, purpose) < MOST for name in NAMES] == [True] * len(NAMES)
    assert share_of("r7", purpose) == shares[7]


@pytest.mark.parametrize(("one", "other"), combinations(Purpose, 2))
def test_no_purpose_tells_of_another(one: Purpose, other: Purpose) -> None:
    """With the same seed, as by default."""
    shares = [[share_of(name, purpose) for name in NAMES] for purpose in (one, other)]
    assert abs(np.corrcoef(shares)[0, 1]) < 0.08


def test_nor_does_a_seed() -> None:
    shares = [[share_of(name, Purpose.PROBE, seed) for name in NAMES] for seed in (0, 1, 2**63 - 1)]
    assert np.abs(np.corrcoef(shares) - np.eye(3)).max() < 0.08


def test_a_sample_that_was_begun_goes_on() -> None:
    """The records of a sample have been these since there were samples."""
    first = sorted(NAMES[:50], key=lambda name: hash_of(name, Purpose.SAMPLE))[:3]
    assert first == ["r12", "r22", "r40"]
