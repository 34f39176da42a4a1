"""Encoded picture -> RGB pixels, or an ImageError that tells the user what is wrong.

What a picture looks like is taken as a viewer shows it: the first frame of an animation, turned as
its EXIF orientation says, on a white page where it is transparent. Colour profiles are left alone:
pixels are taken as sRGB, as the models' own preprocessing takes them.
"""

import contextlib
import io

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
    if not data:
        raise ImageError("the image is empty (0 bytes)")
    # Decoders raise whatever their parsing trips over (OSError, SyntaxError, struct.error,
    # EOFError, ...); any of it means that these bytes are no picture we can read.
    try:
        image: Image.Image = Image.open(io.BytesIO(data), formats=ACCEPTED_FORMATS)
    except Exception as error:
        raise ImageError(
            f"not an image that can be read; accepted are {', '.join(ACCEPTED_FORMATS)}"
        ) from error
    width, height = image.size
    if width * height > max_pixels:
        raise ImageTooLargeError(
            f"the image has {width} x {height} pixels, more than input.max_image_pixels "
            f"({max_pixels})"
        )
    try:
        image.load()
        return np.asarray(_upright(_rgb(image)))
    except ImageError:
        raise
    except Exception as error:
        raise ImageError("the image is truncated or damaged") from error


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
