import asyncio
import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, current_thread
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.references import Fetcher
from serving import pictures as pictures_module
from serving.config import ServeConfig
from serving.in_flight import FullError
from serving.pictures import FORMATS, Pictures
from sgl import errors
from sgl.errors import (
    ImageError,
    ImageFetchError,
    ImageNotFoundError,
    ImageTooLargeError,
)
from tests.pipeline import rotten
from tests.pipeline.inputs import picture, png
from tests.pipeline.web_server import body, serving, web
from tests.serving.asgi import config_of

LIMITS = {"max_image_pixels": rotten.MAX_PIXELS, "max_image_bytes": rotten.MAX_BYTES}
CONFIG = config_of(limits=LIMITS)
DATA = png(3)


def inline(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def got(
    *references: str,
    config: ServeConfig = CONFIG,
    hold: Callable[[int], None] | None = None,
    fetches: Any = None,
) -> list[np.ndarray]:
    pictures = Pictures(config, fetches)
    try:
        return asyncio.run(pictures.get(references, hold))
    finally:
        pictures.close()


def test_inline_pictures_come_in_order() -> None:
    shown = got(*(inline(png(shade)) for shade in (1, 2, 3)))
    for shade, pixels in zip((1, 2, 3), shown, strict=True):
        assert np.array_equal(pixels, picture(shade))


def test_what_the_client_calls_it_does_not_matter() -> None:
    for kind in ("image/jpeg", "", "text/html;charset=utf-8"):
        assert np.array_equal(got(inline(DATA, kind))[0], picture(3))


def of_the_corpus() -> Iterator[Any]:
    groups = (rotten.damaged_pictures(), rotten.too_large(), rotten.odd_pictures())
    for one in (record for group in groups for record in group):
        data = (one.image or [{}])[0].get("bytes")  # type: ignore[union-attr]
        if data is not None:
            yield pytest.param(data, one.error, one.pixels, id=one.name)


@pytest.mark.parametrize(("data", "error", "pixels"), of_the_corpus())
def test_rotten_pictures_are_errors_of_their_request(
    data: bytes, error: str | None, pixels: tuple[Any, ...]
) -> None:
    """The batch pipeline's corpus; formats that the endpoint does not take are errors too."""
    if error is None and data[:2] not in (b"BM", b"II", b"MM"):
        (shown,) = got(inline(data))
        assert shown.shape in (np.shape(pixels[0]), pixels[0])
    else:
        with pytest.raises(ImageError) as raised:
            got(inline(data))
        other = "accepted are" in str(raised.value)
        assert type(raised.value).__name__ == error or other


@pytest.mark.parametrize("kind", ["TIFF", "BMP", "PPM", "ICO", "TGA", "JPEG2000", "EPS"])
def test_formats_that_no_browser_sends_are_no_pictures(kind: str) -> None:
    data = rotten.encoded(Image.fromarray(picture(90, 16, 16)), kind)
    with pytest.raises(ImageError, match="accepted are PNG, JPEG, WEBP, GIF"):
        got(inline(data))


def test_bombs_are_refused_by_their_headers() -> None:
    bombs = {
        "PNG": rotten.bomb_png(8000),
        "WEBP": rotten.encoded(Image.new("RGB", (2000, 2000)), "WEBP", lossless=True),
        "GIF": rotten.encoded(Image.new("P", (2000, 2000)), "GIF"),
        "JPEG": rotten.encoded(Image.new("RGB", (2000, 2000)), "JPEG"),
    }
    assert set(bombs) == set(FORMATS)
    for data in bombs.values():
        with pytest.raises(ImageTooLargeError, match="pixels"):
            got(inline(data))


def test_bombs_behind_the_header_come_to_an_end() -> None:
    """A comment that unpacks to 100 MB; frames and comments without number."""
    frames = [Image.fromarray(picture(shade)) for shade in range(200)]
    moving = rotten.encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert np.array_equal(got(inline(moving))[0], picture(0))
    with pytest.raises(ImageError):
        got(inline(rotten.text_bomb()))
    chunks = rotten.chunk(b"teXt", b"") * 10_000
    assert np.array_equal(got(inline(DATA[:33] + chunks + DATA[33:]))[0], picture(3))
    scans = rotten.encoded(Image.new("RGB", (64, 64)), "JPEG", progressive=True)
    last = scans[scans.rindex(b"\xff\xda") : -2]
    with pytest.raises(ImageError, match="scans"):
        got(inline(scans[:-2] + last * 1000 + b"\xff\xd9"))


def test_a_decoder_has_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[float | None] = []
    real = pictures_module.opened

    def watched(*arguments: Any, max_seconds: float | None, **named: Any) -> Image.Image:
        given.append(max_seconds)
        return real(*arguments, max_seconds=max_seconds, **named)

    monkeypatch.setattr(pictures_module, "opened", watched)
    got(inline(DATA), config=config_of(limits={"decode_deadline_s": 3.5}))
    assert given == [3.5]
    with pytest.raises(ImageError):
        got(inline(DATA), config=config_of(limits={"decode_deadline_s": 1e-9}))


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(FORMATS),
    st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), max_size=6),
    st.integers(0, 200),
)
def test_no_damage_is_more_than_an_error(
    kind: str, changes: list[tuple[int, int]], cut: int
) -> None:
    data = bytearray(rotten.encoded(rotten.noise(24, 20), kind))
    for place, value in changes:
        data[place % len(data)] = value
    try:
        (shown,) = got(inline(bytes(data[: len(data) - cut])))
    except ImageError:
        return
    assert shown.dtype == np.uint8
    assert shown.ndim == 3


@pytest.mark.parametrize(
    "reference",
    [
        *("/etc/passwd", "../../etc/passwd", "etc/passwd", "C:\\x.png", "", " ", "\0"),
        *("file:///etc/passwd", "FILE:///etc/passwd", "file:/etc/passwd", "//host/x.png"),
        *("s3://bucket/x.png", "gs://b/x.png", "abfs://b/x.png", "ftp://h/x", "http:/x", "https:x"),
        *(" data:image/png;base64,AA", "DATA:image/png;base64,AA", "\nfile:///etc/passwd"),
        *("data:image/png,abc", "data:image/png", "data:", "data:image/png;base64,%41%41"),
        *("data:image/png;base64,@@", "data:image/png;base64,AAA", "data:image/png;base64,A A="),
        *("data:image/png;base64,AAAA\n", "data:image/png;base64,_-8=", "data:image/png;base64,"),
    ],
)
def test_other_references_are_refused(reference: str) -> None:
    for fetches in (None, web()):
        with pytest.raises(ImageError) as raised:
            got(reference, fetches=fetches)
        assert "etc/passwd" not in str(raised.value)


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        st.text(max_size=40),
        st.builds(
            "{}{}{}".format,
            st.sampled_from(["", " ", "data:", "file:", "s3:", "gs:", "HTTP:", "https:", "\t"]),
            st.sampled_from(["//", "/", "", "\\\\", ";base64,"]),
            st.text(max_size=20),
        ),
    )
)
def test_no_reference_of_a_client_reaches_a_file_or_a_storage(reference: str) -> None:
    reached: list[str] = []

    class Trap(Fetcher):
        def _from_storage(self, uri: str, base: str) -> bytes:
            reached.append(uri)
            return DATA

        def _from_web(self, url: str) -> bytes:
            raise ImageFetchError("x")

    pictures = Pictures(CONFIG, web())
    pictures._fetcher = Trap(rotten.MAX_BYTES, web())
    try:
        asyncio.run(pictures.get([reference]))
    except ImageError:
        pass
    finally:
        pictures.close()
    assert not reached


def test_a_file_that_is_there_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "there.png"
    path.write_bytes(DATA)
    for reference in (str(path), path.as_uri()):
        with pytest.raises(ImageFetchError, match=r"there\.png: an image is a data: or https URL"):
            got(reference)


def test_base64_is_not_unescaped_first() -> None:
    """Ten million escapes, 30 MB, took 2.2 GB and four seconds to unpack."""
    _, _, payload = inline(DATA).partition(",")
    escaped = "".join(f"%{ord(character):02x}" for character in payload)
    with pytest.raises(ImageError, match="does not say"):
        got(f"data:image/png;base64,{escaped}")


def test_the_web_is_off_unless_written() -> None:
    with pytest.raises(ImageFetchError, match="fetches no images"):
        got("https://example.org/a.png")


def test_the_web_goes_by_the_rules_of_its_settings() -> None:
    answers = {"/a.png": body(DATA), "/large.png": body(bytes(rotten.MAX_BYTES + 1))}
    with serving(answers) as server:
        url = f"{server.url}/a.png"
        assert np.array_equal(got(url, fetches=web())[0], picture(3))
        with pytest.raises(ImageTooLargeError):
            got(f"{server.url}/large.png", fetches=web())
        with pytest.raises(ImageFetchError, match="allow_hosts"):
            got(url, fetches=web(allow_hosts=("example.org",)))
        # What an operator can write reaches no address of his own network.
        http = {"allow_hosts": ["localhost"], "allow_plain_http": True}
        seen = len(server.seen)
        with pytest.raises(ImageFetchError, match="not public"):
            got(url, config=config_of(http=http))
        assert len(server.seen) == seen


def test_bytes_and_pixels_are_bounded() -> None:
    with pytest.raises(ImageTooLargeError, match="max_image_bytes"):
        got(inline(DATA), config=config_of(limits={"max_image_bytes": len(DATA) - 1}))
    few = config_of(limits={"max_total_pixels": 47})
    assert len(got(inline(DATA), config=few)) == 1
    with pytest.raises(ImageTooLargeError, match="together more than 47 pixels"):
        got(inline(DATA), inline(DATA), config=few)


def test_pixels_are_held_before_there_are_any(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[int] = []
    got(inline(DATA), inline(png(1, 10, 10)), hold=held.append)
    assert sorted(held) == [4 * 6 * 3, 10 * 10 * 3]
    with serving({"/a.png": body(DATA)}) as server:
        held.clear()
        got(f"{server.url}/a.png", hold=held.append, fetches=web())
    assert held == [len(DATA), 4 * 6 * 3]

    def full(_: int) -> None:
        raise FullError("no room")

    def never(_: Image.Image) -> np.ndarray:
        raise AssertionError("decoded without room")

    monkeypatch.setattr(pictures_module, "pixels_of", never)
    with pytest.raises(FullError):
        got(inline(DATA), hold=full)


def test_an_error_says_which_picture_and_keeps_its_kind() -> None:
    with pytest.raises(ImageFetchError, match=r"^image 2 of 3: x\.png"):
        got(inline(DATA), "s3://secret/x.png", inline(DATA))
    for kind in (ImageError, ImageNotFoundError, ImageFetchError, ImageTooLargeError):
        assert issubclass(kind, errors.RecordError)


def test_the_event_loop_goes_on_while_a_picture_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on = Event(), Event()
    real = pictures_module.pixels_of

    def slow(image: Image.Image) -> np.ndarray:
        assert current_thread().name.startswith("decode")
        begun.set()
        assert go_on.wait(30)
        return real(image)

    monkeypatch.setattr(pictures_module, "pixels_of", slow)

    async def run() -> None:
        pictures = Pictures(CONFIG)
        task = asyncio.create_task(pictures.get([inline(DATA)]))
        while not begun.is_set():
            await asyncio.sleep(0.001)
        go_on.set()
        assert np.array_equal((await task)[0], picture(3))
        pictures.close()

    asyncio.run(run())


def test_pictures_that_nobody_wants_any_more_are_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[int] = []
    started, go_on = Event(), Event()
    real = pictures_module.pixels_of

    def slow(image: Image.Image) -> np.ndarray:
        begun.append(1)
        started.set()
        assert go_on.wait(30)
        return real(image)

    monkeypatch.setattr(pictures_module, "pixels_of", slow)

    async def run() -> None:
        pictures = Pictures(config_of(limits={"decode_threads": 1}))
        task = asyncio.create_task(pictures.get([inline(DATA)] * 8))
        while not started.is_set():
            await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        go_on.set()
        assert np.array_equal((await pictures.get([inline(png(9))]))[0], picture(9))
        pictures.close()

    asyncio.run(run())
    assert len(begun) == 2
