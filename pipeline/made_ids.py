"""Ids of records that come without: the same on every machine, whatever the mount point.

Where a record's picture is referred to, its id is a hash of the reference, below the input's own
folder, and the question. Where the picture lies in the file itself, it is a hash of the record's
place, its question and what the file's metadata say about its content, so that no picture has to be
read to know it. See docs/decisions/0015.
"""

import hashlib
import posixpath
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipeline.files import InputFile


@dataclass(frozen=True)
class Place:
    """Where the records of a chunk come from.

    Attributes:
        file: that they stand in.
        image_root: folder of relative references; None means the file's own.
        content: see Part; None where pictures are referred to.
    """

    file: InputFile
    image_root: str | None = None
    content: str | None = None

    @property
    def base(self) -> str:
        """The folder of relative references."""
        return self.file.folder if self.image_root is None else self.image_root

    def named(self, uri: str) -> str:
        """A reference that tells pictures of different folders apart, wherever these are."""
        if "://" in uri or uri.startswith(("/", "data:")):
            return uri
        below = "" if self.image_root is not None else posixpath.dirname(self.file.name)
        return posixpath.normpath(posixpath.join(below, uri))


def hashed_ids(
    place: Place, numbers: Sequence[int], image: pa.Array, question: pa.Array
) -> pa.Array:
    """32 hex digits per record; file and number where there is no picture or no question.

    Args:
        place: where the records come from.
        numbers: of the records within their file.
        image: lists of references; not looked at where pictures lie in the file.
        question: text.
    """
    texts = question.to_pylist()
    if place.content is not None:
        places = zip(numbers, texts, strict=True)
        ids = [_digest([place.content, str(number), text]) for number, text in places]
    else:
        rows = zip(numbers, image.to_pylist(), texts, strict=True)
        ids = [_reference_id(place, *row) for row in rows]
    return pa.array(ids, pa.string())


def _reference_id(
    place: Place,
    number: int,
    references: list[dict[str, Any] | None] | None,
    question: str | None,
) -> str:
    uris = [None if one is None else one["uri"] for one in references or []]
    if not any(uris) or not (question or "").strip():
        return place.file.label(number)
    return _digest([*(uri and place.named(uri) for uri in uris), question])


def _digest(parts: Iterable[str | None]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = None if part is None else part.encode()
        # Lengths, so that no text can take the place of its neighbour.
        digest.update(b"-" if data is None else b"%d:" % len(data))
        digest.update(data or b"")
    return digest.hexdigest()
