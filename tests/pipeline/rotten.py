"""Inputs from the world: what is wrong with each, and what must become of it."""

import base64
import io
import json
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from tests.pipeline.inputs import picture, png

MAX_PIXELS = 10_000
MAX_BYTES = 200_000
LONG = 100_000
"""Characters of a question that no model takes, and more than any field limit of a parser."""
REFERENCES = pa.list_(pa.struct([("bytes", pa.binary()), ("path", pa.string())]))


@dataclass(frozen=True)
class Rotten:
    """One record.

    Attributes:
        name: says what is wrong with it; its id.
        error: the type that its row must have; None where an answer is right.
        image: list of Hugging Face's structs, with nulls in any place.
        question: its text.
        pixels: of the pictures that must reach the models, where an answer is right; their exact
            values, or their shape alone.
        max_new_tokens: its limit.
    """

    name: str
    error: str | None
    image: list[dict[str, Any] | None] | None
    question: Any = "what is this?"
    pixels: tuple[np.ndarray | tuple[int, ...], ...] = ()
    max_new_tokens: int | None = None


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


def noise(height: int = 48, width: int = 40) -> Image.Image:
    values = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG file."""
    check = zlib.crc32(kind + data)
    return len(data).to_bytes(4, "big") + kind + data + check.to_bytes(4, "big")


def with_chunk(data: bytes, kind: bytes, payload: bytes) -> bytes:
    """A PNG with a further chunk behind its header."""
    return data[:33] + chunk(kind, payload) + data[33:]


def bomb_png(side: int) -> bytes:
    """A small file that says, and holds, very many pixels."""
    size = side.to_bytes(4, "big")
    header = chunk(b"IHDR", size + size + bytes([1, 0, 0, 0, 0]))
    rows = zlib.compress(bytes((side // 8 + 1) * side), 9)
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def bomb_bmp(side: int) -> bytes:
    """A header that promises far more pixels than follow."""
    whole = encoded(Image.new("RGB", (10, 10)), "BMP")
    return whole[:18] + side.to_bytes(4, "little") * 2 + whole[26:]


def text_bomb() -> bytes:
    """A PNG whose comment unpacks to a thousand times its size."""
    return with_chunk(png(5), b"zTXt", b"note\0\0" + zlib.compress(bytes(100 << 20), 9))


def turned(orientation: int, kind: str) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(Image.fromarray(ramp()), kind, exif=exif)


def ramp() -> np.ndarray:
    """A picture that is different after every turn."""
    values = np.arange(4 * 6, dtype=np.uint8).reshape(4, 6) * 10
    return np.repeat(values[..., None], 3, axis=2)


def greys16() -> np.ndarray:
    return np.array([[0, 257, 128 * 257, 254 * 257, 65535]], np.uint16)


def greys8() -> np.ndarray:
    return np.repeat(np.array([[0, 1, 128, 254, 255]], np.uint8)[..., None], 3, axis=2)


def see_through() -> Image.Image:
    """Left opaque red, right fully transparent black."""
    image = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    image.putpixel((0, 0), (255, 0, 0, 255))
    return image


RED_ON_WHITE = np.array([[[255, 0, 0], [255, 255, 255]]], np.uint8)


def embedded(data: bytes) -> list[dict[str, Any] | None]:
    return [{"bytes": data, "path": None}]


def referred(path: str) -> list[dict[str, Any] | None]:
    return [{"bytes": None, "path": path}]


def damaged_pictures() -> Iterator[Rotten]:
    for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"):
        whole = encoded(noise(), kind)
        yield Rotten(f"cut-{kind}", "ImageError", embedded(whole[: len(whole) // 2]))
        yield Rotten(f"head-{kind}", "ImageError", embedded(whole[:10]))
    whole = encoded(noise(), "PNG")
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    yield Rotten("wrong-checksum", "ImageError", embedded(bytes(flipped)))
    yield Rotten("zero-bytes", "ImageError", embedded(b""))
    yield Rotten("zeros", "ImageError", embedded(bytes(4096)))
    for name, data in {
        "html": b"<!doctype html><title>404</title>",
        "json": b'{"error": "quota"}',
        "pdf": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n",
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
        "zip": b"PK\x03\x04" + bytes(30),
        "elf": b"\x7fELF" + bytes(60),
        "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        "ppm": encoded(Image.fromarray(picture(1)), "PPM"),
        "ico": encoded(Image.fromarray(picture(1, 16, 16)), "ICO"),
        "tga": encoded(Image.fromarray(picture(1)), "TGA"),
    }.items():
        yield Rotten(f"not-accepted-{name}", "ImageError", embedded(data))
    yield Rotten(
        "zero-width", "ImageError", embedded(bomb_png(8).replace(bytes([0, 0, 0, 8]), bytes(4)))
    )
    floats = Image.fromarray(np.ones((2, 3), np.float32))
    yield Rotten("float-tiff", "ImageError", embedded(encoded(floats, "TIFF")))
    integers = Image.fromarray(np.ones((2, 3), np.int32))
    yield Rotten("int32-tiff", "ImageError", embedded(encoded(integers, "TIFF")))


def too_large() -> Iterator[Rotten]:
    yield Rotten("bomb-png", "ImageTooLargeError", embedded(bomb_png(8000)))
    yield Rotten("bomb-bmp", "ImageTooLargeError", embedded(bomb_bmp(60_000)))
    yield Rotten("one-row-too-many", "ImageTooLargeError", embedded(png(1, 101, 100)))
    yield Rotten("bytes-too-many", "ImageTooLargeError", embedded(bytes(MAX_BYTES + 1)))
    uri = "data:image/png," + "A" * (4 * MAX_BYTES + 1)
    yield Rotten("data-uri-too-long", "ImageTooLargeError", referred(uri))
    yield Rotten("text-bomb", "ImageError", embedded(text_bomb()))


def odd_pictures() -> Iterator[Rotten]:
    """Pictures that are unusual and right."""
    yield Rotten("one-pixel", None, embedded(png(7, 1, 1)), pixels=(picture(7, 1, 1),))
    yield Rotten("a-line", None, embedded(png(7, 1, 9000)), pixels=(picture(7, 1, 9000),))
    yield Rotten("a-column", None, embedded(png(7, 9000, 1)), pixels=(picture(7, 9000, 1),))
    for kind in ("PNG", "TIFF"):
        deep = encoded(Image.fromarray(greys16()), kind)
        yield Rotten(f"16-bit-{kind}", None, embedded(deep), pixels=(greys8(),))
    big_endian = Image.frombytes("I;16B", (5, 1), greys16().astype(">u2").tobytes())
    deep = encoded(big_endian, "TIFF")
    yield Rotten("16-bit-big-endian", None, embedded(deep), pixels=(greys8(),))
    clear = encoded(see_through(), "PNG")
    yield Rotten("transparent-png", None, embedded(clear), pixels=(RED_ON_WHITE,))
    clear = encoded(see_through(), "WEBP", lossless=True)
    yield Rotten("transparent-webp", None, embedded(clear), pixels=(RED_ON_WHITE,))
    clear = encoded(see_through(), "GIF")
    yield Rotten("transparent-gif", None, embedded(clear), pixels=(RED_ON_WHITE,))
    clear = encoded(see_through().quantize(), "PNG")
    yield Rotten("transparent-palette", None, embedded(clear), pixels=(RED_ON_WHITE,))
    grey = see_through().convert("LA")
    shown = np.array([[[76] * 3, [255] * 3]], np.uint8)
    yield Rotten("transparent-grey", None, embedded(encoded(grey, "PNG")), pixels=(shown,))
    cyan = Image.new("CMYK", (6, 4), (255, 0, 0, 0))
    shown = np.broadcast_to(np.array([0, 255, 255], np.uint8), (4, 6, 3))
    yield Rotten("cmyk-tiff", None, embedded(encoded(cyan, "TIFF")), pixels=(shown,))
    yield Rotten("cmyk-jpeg", None, embedded(encoded(cyan, "JPEG", quality=100)), pixels=(shown,))
    ycbcr = encoded(Image.fromarray(picture(90)).convert("YCbCr"), "TIFF")
    yield Rotten("ycbcr-tiff", None, embedded(ycbcr), pixels=(picture(90),))
    lab = encoded(Image.new("LAB", (6, 4), (255, 128, 128)), "TIFF")
    yield Rotten("lab-tiff", None, embedded(lab), pixels=(picture(255),))
    bits = Image.fromarray(picture(255)).convert("1")
    yield Rotten("one-bit", None, embedded(encoded(bits, "PNG")), pixels=(picture(255),))
    frames = [Image.fromarray(picture(shade)) for shade in (10, 200)]
    for kind, options in (("GIF", {}), ("PNG", {}), ("WEBP", {"lossless": True})):
        moving = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        yield Rotten(f"moving-{kind}", None, embedded(moving), pixels=(picture(10),))
    turns = {
        2: ramp()[:, ::-1],
        3: ramp()[::-1, ::-1],
        4: ramp()[::-1],
        5: ramp().swapaxes(0, 1),
        6: np.rot90(ramp(), -1),
        7: np.rot90(ramp(), 2).swapaxes(0, 1),
        8: np.rot90(ramp()),
    }
    for orientation, shown in turns.items():
        data = turned(orientation, "PNG")
        yield Rotten(f"turned-{orientation}", None, embedded(data), pixels=(shown,))
    yield Rotten("turned-jpeg", None, embedded(turned(6, "JPEG")), pixels=((6, 4, 3),))
    yield Rotten("turned-99", None, embedded(turned(99, "PNG")), pixels=(ramp(),))
    junk = with_chunk(png(5), b"eXIf", b"Exif\0\0II*\0\xff\xff\xff\xff")
    yield Rotten("damaged-exif", None, embedded(junk), pixels=(picture(5),))
    profile = encoded(Image.fromarray(picture(5)), "PNG", icc_profile=b"no profile at all")
    yield Rotten("damaged-profile", None, embedded(profile), pixels=(picture(5),))
    yield Rotten("trailing-junk", None, embedded(png(5) + b"junk" * 99), pixels=(picture(5),))


def references(folder: Path) -> Iterator[Rotten]:
    (folder / "really-a.jpg").write_bytes(png(8))
    (folder / "empty.png").write_bytes(b"")
    (folder / "large.png").write_bytes(bytes(MAX_BYTES + 1))
    (folder / "a\u2028b ü.png").write_bytes(png(8))
    (folder / "folder.png").mkdir()
    (folder / "dangling.png").symlink_to(folder / "nowhere.png")
    (folder / "loop.png").symlink_to(folder / "loop.png")
    os.mkfifo(folder / "pipe.png")
    right = (picture(8),)
    yield Rotten("wrong-extension", None, referred("really-a.jpg"), pixels=right)
    yield Rotten("odd-name", None, referred("a\u2028b ü.png"), pixels=right)
    inline = "data:image/png;base64," + base64.b64encode(png(8)).decode()
    yield Rotten("inline", None, referred(inline), pixels=right)
    yield Rotten("empty-file", "ImageError", referred("empty.png"))
    yield Rotten("large-file", "ImageTooLargeError", referred("large.png"))
    yield Rotten("missing-file", "ImageNotFoundError", referred("gone.png"))
    yield Rotten("missing-absolute", "ImageNotFoundError", referred("/no/such/secret/gone.png"))
    yield Rotten("name-too-long", "ImageFetchError", referred("x" * 5000 + ".png"))
    yield Rotten("a-folder", "ImageFetchError", referred("folder.png"))
    yield Rotten("dangling-link", "ImageNotFoundError", referred("dangling.png"))
    yield Rotten("looping-link", "ImageNotFoundError", referred("loop.png"))
    yield Rotten("a-pipe", "ImageFetchError", referred("pipe.png"))
    yield Rotten("endless-device", "ImageFetchError", referred("/dev/zero"))
    yield Rotten("null-byte-in-name", "ImageFetchError", referred("really-a.jpg\0.png"))
    yield Rotten("unknown-scheme", "ImageFetchError", referred("nosuch://bucket/a.png"))
    yield Rotten("https-is-off", "ImageFetchError", referred("https://example.org/a.png"))
    yield Rotten("http-is-off", "ImageFetchError", referred("HTTP://169.254.169.254/latest"))
    yield Rotten("inline-broken", "ImageError", referred("data:image/png;base64,@@"))
    yield Rotten("inline-non-ascii", "ImageError", referred("data:image/png;base64,ü"))
    yield Rotten("inline-empty", "ImageError", referred("data:image/png"))


def nulls() -> Iterator[Rotten]:
    good = {"bytes": png(8), "path": None}
    empty = {"bytes": None, "path": None}
    yield Rotten("no-image", "ImageError", None)
    yield Rotten("no-images", "ImageError", [])
    yield Rotten("null-in-list", "ImageError", [None])
    yield Rotten("null-struct-fields", "ImageError", [empty])
    yield Rotten("empty-path", "ImageError", referred(""))
    yield Rotten("second-of-two-null", "ImageError", [good, None])
    yield Rotten("second-of-two-missing", "ImageNotFoundError", [good, {"path": "gone.png"}])
    yield Rotten("two-pictures", None, [good, good], pixels=(picture(8), picture(8)))
    yield Rotten("bytes-win", None, [{**good, "path": "gone.png"}], pixels=(picture(8),))


def questions() -> Iterator[Rotten]:
    right = (picture(8),)
    image = embedded(png(8))
    yield Rotten("empty-question", "EmptyQuestionError", image, "")
    yield Rotten("blank-question", "EmptyQuestionError", image, " \n\t\u3000")
    yield Rotten("null-question", "EmptyQuestionError", image, None)
    yield Rotten("question-not-utf8", "EmptyQuestionError", image, b"what is \xff\xfe?")
    yield Rotten("long-question", "PromptTooLongError", image, "why? " * (LONG // 5), right)
    # One token to the tests' tokenizer, which splits at blanks.
    yield Rotten("long-word", None, image, "x" * LONG, right)
    yield Rotten("null-byte-question", None, image, "what\0is\0this?", right)
    yield Rotten("markup-question", "ControlTokenError", image, "<image> w1 </s> <|im_end|>", right)
    yield Rotten("no-tokens-allowed", "RecordError", image, max_new_tokens=0)
    yield Rotten("fewer-than-none", "RecordError", image, max_new_tokens=-5)


def records(folder: Path) -> list[Rotten]:
    """Every record whose place in the input can be told; files that it refers to are made."""
    groups = (damaged_pictures(), too_large(), odd_pictures(), references(folder), nulls())
    return [one for group in (*groups, questions()) for one in group]


def write_records(folder: Path, rows: list[Rotten]) -> Path:
    """All records in one Parquet file."""
    texts = [q.encode() if isinstance(q, str) else q for q in (one.question for one in rows)]
    table = pa.table(
        {
            "id": [one.name for one in rows],
            "image": pa.array([one.image for one in rows], REFERENCES),
            "question": pa.array(texts, pa.binary()).view(pa.string()),
            "max_new_tokens": pa.array([one.max_new_tokens for one in rows], pa.int64()),
        }
    )
    pq.write_table(table, folder / "rotten.parquet", row_group_size=40)
    return folder / "rotten.parquet"


@dataclass(frozen=True)
class RottenLine:
    """One line of a JSONL file.

    Attributes:
        line: its bytes.
        id: of the row that it must become; None for file and line number.
        error: as in Rotten.
    """

    line: bytes
    id: str | None
    error: str | None


def lines() -> list[RottenLine]:
    """Lines of a manifest; the first is right."""
    image = "data:image/png;base64," + base64.b64encode(png(8)).decode()

    def line(name: Any, **cells: Any) -> bytes:
        return json.dumps({"id": name, "image": image, "question": "w1 w2", **cells}).encode()

    malformed = "MalformedRecordError"
    return [
        RottenLine(line("good"), "good", None),
        RottenLine(line("cut")[:-20], None, malformed),
        RottenLine(b'{"id": "x"', None, malformed),
        RottenLine(b"id,image,question", None, malformed),
        RottenLine(b"[1, 2]", None, malformed),
        RottenLine(b'"text"', None, malformed),
        RottenLine(b"null", None, malformed),
        RottenLine(line("latin").replace(b"w1", b"caf\xe9"), None, malformed),
        RottenLine(bytes(300), None, malformed),
        RottenLine(line("raw").replace(b"w1", b"w\x001"), None, malformed),
        RottenLine(line("half").replace(b"w1", rb"\ud800"), None, malformed),
        RottenLine(b"[" * 100_000, None, malformed),
        RottenLine(b'{"id": ' + b"9" * 5000 + b"}", None, malformed),
        RottenLine(line(None), None, malformed),
        RottenLine(line(""), None, malformed),
        RottenLine(line(["a"]), None, malformed),
        RottenLine(line(True), None, malformed),
        RottenLine(line(12), "12", None),
        RottenLine(line("number", question=7), "number", malformed),
        RottenLine(line("object", question={"text": "?"}), "object", malformed),
        RottenLine(line("null", question=None), "null", "EmptyQuestionError"),
        RottenLine(line("picture-number", image=7), "picture-number", malformed),
        RottenLine(line("picture-none", image=None), "picture-none", "ImageError"),
        RottenLine(line("pictures", image=[image, None]), "pictures", "ImageError"),
        RottenLine(line("picture-object", image={"path": image}), "picture-object", None),
        RottenLine(line("picture-bytes", image={"bytes": "eA=="}), "picture-bytes", malformed),
        RottenLine(line("limit-text", max_new_tokens="many"), "limit-text", malformed),
        RottenLine(line("limit-half", max_new_tokens=1.5), "limit-half", malformed),
        RottenLine(line("limit-huge", max_new_tokens=10**30), "limit-huge", malformed),
    ]


def write_lines(folder: Path, rows: list[RottenLine]) -> Path:
    path = folder / "rotten.jsonl"
    path.write_bytes(b"\n".join(one.line for one in rows))
    return path


def line_id(place: int, row: RottenLine) -> str:
    return row.id or f"rotten.jsonl:{place + 1}"
