"""One image reference -> RGB pixels, or an ImageError that tells the user what is wrong."""

import base64
import binascii
import io
import posixpath
from typing import Any
from urllib.parse import unquote_to_bytes

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from infra.s3 import DEFAULT, StorageConfig
from infra.storage import read_bytes
from sgl.errors import ImageError

ACCEPTED_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
_SHOWN_REFERENCE = 120

# Our own limit is checked from the header; Pillow's would warn or refuse at another figure.
Image.MAX_IMAGE_PIXELS = None


def load_image(
    reference: dict[str, Any] | None, max_pixels: int, storage: StorageConfig = DEFAULT
) -> npt.NDArray[np.uint8]:
    """Fetch and decode.

    Args:
        reference: `bytes`, else `uri` and the folder `base` of a relative one.
        max_pixels: larger pictures are refused from their header.
        storage: how S3 is reached.

    Returns:
        (height, width, 3) uint8, EXIF orientation applied, first frame of an animation.

    Raises:
        ImageError: missing, unreadable, too large or of a kind that is not accepted.
    """
    return decode(fetch(reference, storage), max_pixels)


def has_image(reference: dict[str, Any] | None) -> bool:
    """Whether a reference points to anything."""
    return reference is not None and (
        reference.get("bytes") is not None or bool(reference.get("uri"))
    )


def fetch(reference: dict[str, Any] | None, storage: StorageConfig = DEFAULT) -> bytes:
    """The encoded file behind a reference.

    Raises:
        ImageError: there is none, or it cannot be read.
    """
    if reference is None or not has_image(reference):
        raise ImageError("the record has no image")
    if reference.get("bytes") is not None:
        return bytes(reference["bytes"])
    uri = reference["uri"]
    if uri.startswith("data:"):
        return _from_data_uri(uri)
    if uri.startswith(("http://", "https://")):
        raise ImageError(f"{_shown(uri)}: images are not fetched over http(s)")
    try:
        located = uri if "://" in uri else posixpath.join(reference["base"] or "", uri)
        return read_bytes(located, storage)
    except FileNotFoundError as error:
        raise ImageError(f"{_shown(uri)}: no such file") from error
    except (OSError, ValueError) as error:
        raise ImageError(f"{_shown(uri)}: cannot be read") from error


def decode(data: bytes, max_pixels: int) -> npt.NDArray[np.uint8]:
    """RGB pixels of an encoded picture.

    Raises:
        ImageError: no picture, a format that is not accepted, too large, or broken.
    """
    if not data:
        raise ImageError("the image is empty (0 bytes)")
    # Decoders raise whatever their parsing trips over (OSError, SyntaxError, struct.error,
    # EOFError, ...); any of it means that these bytes are no picture we can read.
    try:
        image = Image.open(io.BytesIO(data), formats=ACCEPTED_FORMATS)
    except Exception as error:
        raise ImageError(
            f"not an image that can be read; accepted are {', '.join(ACCEPTED_FORMATS)}"
        ) from error
    width, height = image.size
    if width * height > max_pixels:
        raise ImageError(
            f"the image has {width} x {height} pixels, more than input.max_image_pixels "
            f"({max_pixels})"
        )
    try:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except Exception as error:
        raise ImageError("the image is truncated or damaged") from error


def _from_data_uri(uri: str) -> bytes:
    header, comma, payload = uri.partition(",")
    if not comma:
        raise ImageError("a data: URI without data")
    try:
        raw = unquote_to_bytes(payload)
        return base64.b64decode(raw, validate=True) if header.endswith(";base64") else raw
    except binascii.Error as error:
        raise ImageError("a data: URI whose base64 is broken") from error


def _shown(uri: str) -> str:
    return uri if len(uri) <= _SHOWN_REFERENCE else uri[:_SHOWN_REFERENCE] + "..."
