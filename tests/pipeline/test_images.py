import io
import time
from itertools import count
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.images import decode, opened, pixels_of
from sgl.errors import ImageError, ImageTooLargeError
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
    with pytest.raises(ImageTooLargeError, match="60000 x 60000 pixels"):
        decode(bomb, LIMIT)
    assert decode(png(0, 100, 100), LIMIT).size == 3 * LIMIT
    with pytest.raises(ImageTooLargeError, match="max_image_pixels"):
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


@pytest.mark.parametrize("shade", [0, 256, 257, 40_000, 65_535])
def test_16_bit_greys_keep_their_shade(shade: int) -> None:
    image = Image.fromarray(np.full((2, 3), shade, np.uint16))
    pixels = decode(encoded(image, "PNG"), LIMIT)
    assert np.array_equal(pixels, np.full((2, 3, 3), round(shade / 257)))


def test_pixels_without_a_known_white_are_refused() -> None:
    image = Image.fromarray(np.full((2, 3), 0.5, np.float32))
    with pytest.raises(ImageError, match="32 bits per pixel"):
        decode(encoded(image, "TIFF"), LIMIT)


def scan_bomb(scans: int) -> bytes:
    """A JPEG whose last scan, of a few dozen bytes, comes again and again."""
    data = encoded(Image.new("RGB", (640, 640), "teal"), "JPEG", progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * scans + b"\xff\xd9"


def test_a_jpeg_of_very_many_scans_is_refused_before_it_is_decoded() -> None:
    assert decode(scan_bomb(50), 640 * 640).shape == (640, 640, 3)
    with pytest.raises(ImageError, match="scans"):
        decode(scan_bomb(100_000), 640 * 640)


COMMENT = b"\xff\xfe\x00\x02"


def commented(comments: int) -> bytes:
    """A JPEG with comments of no text ahead of its end."""
    return (
        encoded(Image.new("RGB", (16, 16), "teal"), "JPEG")[:-2] + COMMENT * comments + b"\xff\xd9"
    )


def test_a_jpeg_of_very_many_segments_is_refused() -> None:
    assert decode(commented(3000), LIMIT).shape == (16, 16, 3)
    with pytest.raises(ImageError, match="more than 4000 segments"):
        decode(commented(5000), LIMIT)


def test_counting_segments_comes_to_an_end_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where there is none to count: a clock that goes by a second with each look at it."""
    looks = count()
    data = commented(0)[:-2] + b"\xff\x00" * (1 << 20)
    monkeypatch.setattr("pipeline.images._PIECE", 1024)
    monkeypatch.setattr(time, "monotonic", lambda: float(next(looks)))
    with pytest.raises(ImageError, match="takes too long"):
        opened(data, LIMIT, max_seconds=1000)


@pytest.mark.parametrize("cut", range(4))
def test_a_marker_between_two_pieces_is_counted(cut: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.images._PIECE", 2)
    data = commented(0)[:-2] + bytes(cut) + b"\xff\xda\x00\x02\x01" * 101 + b"\xff\xd9"
    with pytest.raises(ImageError, match="more than 100 scans"):
        decode(data, LIMIT)


def test_what_follows_a_jpeg_is_no_scan_of_it() -> None:
    video = encoded(Image.new("RGB", (8, 8), "teal"), "JPEG") + b"\xff\xda\x00\x02" * 1000
    assert decode(video, LIMIT).shape == (8, 8, 3)
    thumbnail = b"\xff\xda" * 1000
    exif = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    assert decode(video[:2] + exif + video[2:], LIMIT).shape == (8, 8, 3)


def test_a_decoder_that_reads_for_too_long_comes_to_an_end() -> None:
    image = opened(png(3, 64, 64), LIMIT, max_seconds=0.01)
    time.sleep(0.02)
    with pytest.raises(ImageError, match="damaged"):
        pixels_of(image)
    assert pixels_of(opened(png(3, 64, 64), LIMIT, max_seconds=60)).shape == (64, 64, 3)


def test_formats_can_be_fewer() -> None:
    tiff = encoded(Image.fromarray(picture(90)), "TIFF")
    with pytest.raises(ImageError, match="accepted are PNG, GIF"):
        opened(tiff, LIMIT, formats=("PNG", "GIF"))
