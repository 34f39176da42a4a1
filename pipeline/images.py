"""Encoded picture -> RGB pixels, or an ImageError that tells the user what is wrong.

What a picture looks like is taken as a viewer shows it: the first frame of an animation, turned as
its EXIF orientation says, on a white page where it is transparent. Colour profiles are left alone:
pixels are taken as sRGB, as the models' own preprocessing takes them.
"""

import contextlib
import io
import math
import re
import time
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from PIL import Image

from sgl.errors import ImageError, ImageTooLargeError

ACCEPTED_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_MAX_SCANS = 100
"""Of one JPEG. Encoders make about ten; each costs a pass over all pixels (14 ms for 40 million),
and sixty bytes are enough for one."""
_MAX_SEGMENTS = 4000
"""Of one JPEG. A hundred scans with tables of their own and the longest colour profile and metadata
make less than a thousand; one of four bytes costs a step of Python."""
_PIECE = 1 << 20
"""Bytes that are searched at a time, between which other threads may run."""
_MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])", re.DOTALL)
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
_BARE = frozenset({0x01, 0xD8})
"""Markers that no length follows."""
_TOO_LONG = "the picture takes too long to decode"

# Our own limit is checked from the header; Pillow's would warn or refuse at another figure.
Image.MAX_IMAGE_PIXELS = None


def decode(data: bytes, max_pixels: int) -> npt.NDArray[np.uint8]:
    """RGB pixels of an encoded picture, of whatever format its bytes are, not its name.

    Returns:
        (height, width, 3) uint8.

    Raises:
        ImageTooLargeError: more than `max_pixels`, by its header.
        ImageError: no picture, a format that is not accepted, or broken.
    """
    return pixels_of(opened(data, max_pixels))


def opened(
    data: bytes,
    max_pixels: int,
    *,
    formats: tuple[str, ...] = ACCEPTED_FORMATS,
    max_seconds: float | None = None,
) -> Image.Image:
    """An encoded picture whose header has been read and judged, and nothing behind it.

    Args:
        data: the file.
        max_pixels: of the picture.
        formats: that are accepted, of `ACCEPTED_FORMATS`.
        max_seconds: from now on, after which reading on fails, also in `pixels_of`.

    Raises:
        ImageTooLargeError: more than `max_pixels`.
        ImageError: no picture, a format that is not accepted, or not worth decoding.
    """
    if not data:
        raise ImageError("the image is empty (0 bytes)")
    ends = math.inf if max_seconds is None else time.monotonic() + max_seconds
    file = io.BytesIO(data) if max_seconds is None else _TimedFile(data, ends)
    # Decoders raise whatever their parsing trips over (OSError, SyntaxError, struct.error,
    # EOFError, ...); any of it means that these bytes are no picture we can read.
    try:
        image: Image.Image = Image.open(file, formats=formats)
    except Exception as error:
        raise ImageError(
            f"not an image that can be read; accepted are {', '.join(formats)}"
        ) from error
    width, height = image.size
    if width * height > max_pixels:
        raise ImageTooLargeError(
            f"the image has {width} x {height} pixels, more than max_image_pixels ({max_pixels})"
        )
    if image.format in ("JPEG", "MPO"):
        _check_segments(data, ends)
    return image


def pixels_of(image: Image.Image) -> npt.NDArray[np.uint8]:
    """RGB pixels of an opened picture.

    Returns:
        (height, width, 3) uint8.

    Raises:
        ImageError: it is broken.
    """
    try:
        image.load()
        return np.asarray(_upright(_rgb(image)))
    except ImageError:
        raise
    except Exception as error:
        raise ImageError("the image is truncated or damaged") from error


class _TimedFile(io.BytesIO):
    """A file that can be read for a while.

    Decoders read it bit by bit, so that one which is kept busy by what it reads comes to an end.
    """

    def __init__(self, data: bytes, ends: float) -> None:
        super().__init__(data)
        self._ends = ends

    def read(self, size: int | None = -1, /) -> bytes:
        if time.monotonic() > self._ends:
            raise TimeoutError(_TOO_LONG)
        return super().read(size)


def _check_segments(data: bytes, ends: float) -> None:
    """Refuse a JPEG of too many segments or scans, up to its end or the file's.

    Args:
        data: the file.
        ends: when to stop looking, of `time.monotonic`.

    Raises:
        ImageError: it has more, or they cannot be counted in time.
    """
    scans = 0
    for segments, kind in enumerate(_segments(data, ends), 1):
        scans += kind == _START_OF_SCAN
        if segments > _MAX_SEGMENTS:
            raise ImageError(f"the image is a JPEG of more than {_MAX_SEGMENTS} segments")
        if scans > _MAX_SCANS:
            raise ImageError(f"the image is a JPEG of more than {_MAX_SCANS} scans")


def _segments(data: bytes, ends: float) -> Iterator[int]:
    """The kinds of a JPEG's segments."""
    position = 0
    while position < len(data):
        if time.monotonic() > ends:
            raise ImageError(_TOO_LONG)
        # A marker has two bytes, of which the second may be the next piece's first.
        found = _MARKER.search(data, position, position + _PIECE + 1)
        if found is None:
            position += _PIECE
            continue
        kind = found[1][0]
        if kind == _END_OF_IMAGE:
            break
        yield kind
        position = found.end()
        if kind not in _BARE:
            # What is said to be shorter than the length itself is broken, and libjpeg stops there.
            position += max(int.from_bytes(data[position : position + 2], "big"), 2)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        return _from_16_bits(image)
    if image.mode in ("I", "F"):
        raise ImageError(
            "the image has 32 bits per pixel, of which none says what is white; "
            "store it with 8 or 16"
        )
    if not image.has_transparency_data:
        return image.convert("RGB")
    shown = image.convert("RGBA")
    page = Image.new("RGBA", shown.size, "white")
    return Image.alpha_composite(page, shown).convert("RGB")


def _from_16_bits(image: Image.Image) -> Image.Image:
    # Pillow's own conversion clips: everything above 255 turns white.
    grey = np.asarray(image.convert("I"))
    return Image.fromarray(((grey + 128) // 257).clip(0, 255).astype(np.uint8)).convert("RGB")


def _upright(image: Image.Image) -> Image.Image:
    orientation = None
    # Damaged metadata are no reason to refuse good pixels.
    with contextlib.suppress(Exception):
        orientation = image.getexif().get(_ORIENTATION)
    turn = _TURNS.get(orientation) if isinstance(orientation, int) else None
    return image if turn is None else image.transpose(turn)
