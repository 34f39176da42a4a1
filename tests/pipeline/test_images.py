import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.images import decode, load_image
from sgl.errors import ImageError
from tests.pipeline.inputs import picture, png

LIMIT = 10_000


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "GIF"])
def test_lossless_formats_give_their_pixels(kind: str) -> None:
    image = Image.fromarray(picture(90))
    assert np.array_equal(decode(encoded(image, kind), LIMIT), picture(90))


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_lossy_formats_come_close(kind: str) -> None:
    pixels = decode(encoded(Image.fromarray(picture(90)), kind), LIMIT)
    assert pixels.shape == (4, 6, 3)
    assert np.abs(pixels.astype(int) - 90).max() <= 4


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "1", "LA"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    image = Image.fromarray(picture(255)).convert(mode)
    assert np.array_equal(decode(encoded(image, "PNG"), LIMIT), picture(255))


def test_the_exif_orientation_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(Image.fromarray(picture(9)), "JPEG", exif=exif)
    assert decode(data, LIMIT).shape == (6, 4, 3)


def test_an_animation_gives_its_first_frame() -> None:
    frames = [Image.fromarray(picture(shade)) for shade in (10, 200)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert np.array_equal(decode(data, LIMIT), picture(10))


def test_the_pixel_limit_is_checked_before_decoding() -> None:
    # A bitmap header that promises far more than follows: decoding it would fail otherwise.
    whole = encoded(Image.new("RGB", (10, 10)), "BMP")
    bomb = whole[:18] + (60_000).to_bytes(4, "little") * 2 + whole[26:]
    with pytest.raises(ImageError, match="60000 x 60000 pixels"):
        decode(bomb, LIMIT)
    assert decode(png(0, 100, 100), LIMIT).size == 3 * LIMIT
    with pytest.raises(ImageError, match="max_image_pixels"):
        decode(png(0, 100, 101), LIMIT)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "0 bytes"),
        (b"no picture at all", "not an image"),
        (encoded(Image.fromarray(picture(1)), "PPM"), "not an image"),
        (png(3, 64, 64)[:-30], "truncated"),
        (encoded(Image.effect_noise((64, 64), 50), "JPEG")[:-200], "truncated"),
    ],
)
def test_what_is_no_good_picture_is_refused(data: bytes, says: str) -> None:
    with pytest.raises(ImageError, match=says):
        decode(data, LIMIT)


def test_references_of_every_kind_find_the_same_picture(tmp_path: Path) -> None:
    (tmp_path / "a b.png").write_bytes(png(7))
    inline = "data:image/png;base64," + base64.b64encode(png(7)).decode()
    for reference in (
        {"bytes": png(7), "uri": "elsewhere.png", "base": None},
        {"bytes": None, "uri": "a b.png", "base": str(tmp_path)},
        {"bytes": None, "uri": str(tmp_path / "a b.png"), "base": "/elsewhere"},
        {"bytes": None, "uri": (tmp_path / "a b.png").as_uri(), "base": None},
        {"bytes": None, "uri": inline, "base": None},
    ):
        assert np.array_equal(load_image(reference, LIMIT), picture(7))


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        (None, "no image"),
        ("", "no image"),
        ("gone.png", "^gone.png: no such file$"),
        (".", "^.: cannot be read$"),
        ("https://example.org/a.png", "not fetched"),
        ("nosuchscheme://a.png", "cannot be read"),
        ("data:image/png;base64,@@", "base64 is broken"),
        ("data:image/png", "without data"),
    ],
)
def test_what_cannot_be_fetched_is_refused_in_the_users_words(
    uri: str | None, says: str, tmp_path: Path
) -> None:
    with pytest.raises(ImageError, match=says) as refused:
        load_image({"bytes": None, "uri": uri, "base": str(tmp_path)}, LIMIT)
    assert str(tmp_path) not in str(refused.value)


def test_a_null_reference_is_refused() -> None:
    with pytest.raises(ImageError, match="no image"):
        load_image(None, LIMIT)
