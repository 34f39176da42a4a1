"""Chance that is the same on every run and machine: by a record's id.

Each purpose has numbers of its own. Were those of a sample and of a probe the same, the probe of a
whole dataset would take the very records that its calibration had seen.
"""

from enum import StrEnum
from hashlib import blake2b

MOST = 2**64
"""No hash reaches it."""


class Purpose(StrEnum):
    """What a number is for. Samples have no name, as they were drawn before there was another."""

    SAMPLE = ""
    PROBE = "probe"
    ORDER = "order"
    EXIT = "exit"
    TOKENS = "tokens"
    GALLERY = "gallery"
    SEED = "seed"


def hash_of(record_id: str, purpose: Purpose, seed: int = 0) -> int:
    """A number from 0 to 2**64 - 1 that looks random.

    Args:
        record_id: of the record.
        purpose: numbers for another one have nothing to do with these.
        seed: likewise; 0 to 2**63 - 1.
    """
    key = seed.to_bytes(8, "little", signed=True)
    digest = blake2b(record_id.encode(), digest_size=8, key=key, person=purpose.encode()).digest()
    return int.from_bytes(digest, "little")


def share_of(record_id: str, purpose: Purpose, seed: int = 0) -> float:
    """The same as a number in [0, 1)."""
    return (hash_of(record_id, purpose, seed) >> 11) / 2**53
