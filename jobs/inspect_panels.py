"""One record as a picture: its image, the importance over it, the kept tokens, what was said."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from jobs.inspect_table import printable, verdict
from jobs.inspected import Inspected
from jobs.token_map import Pixels, draw_heat, draw_kept, scaled
from pipeline.scoring import texts_in

_LONGEST = 512
_LONGEST_OF_SEVERAL = 320
_PICTURES = 6
"""That are drawn, of a record with more."""
_ACROSS = 3
_GAP = 16
_TITLE = 20
_BODY = 17
_LINE = 1.35
_TEXT_LINES = 4
"""Of one text in the caption."""
_INK, _FAINT, _PAGE = (20, 20, 24), (105, 105, 115), (255, 255, 255)


@dataclass(frozen=True)
class Panel:
    """One drawing and what it shows."""

    told: str
    pixels: Pixels


def write_png(found: Inspected, path: Path) -> None:
    """Draw a record that has pictures.

    Args:
        found: the record.
        path: of the file.

    Raises:
        OSError: it cannot be written.
    """
    page_of(found).save(path, "PNG")


def page_of(found: Inspected) -> Image.Image:
    """The caption, and below it the panels: of one picture in two rows, of several a row each."""
    shown = found.pictures[:_PICTURES]
    rows = [list(_panels(found, number)) for number in range(len(shown))]
    if len(rows) == 1:
        rows = [rows[0][start : start + _ACROSS] for start in range(0, len(rows[0]), _ACROSS)]
    cell = max(panel.pixels.shape[1] for row in rows for panel in row)
    cell = max(cell, _LONGEST_OF_SEVERAL)
    columns = max(len(row) for row in rows)
    width = max(columns, 2) * (cell + _GAP) + _GAP
    parts = [_caption(found, width - 2 * _GAP), *(_strip(row, cell) for row in rows)]
    page = Image.new("RGB", (width, sum(p.height + _GAP for p in parts) + _GAP), _PAGE)
    top = _GAP
    for part in parts:
        page.paste(part, (_GAP, top))
        top += part.height + _GAP
    return page


def _panels(found: Inspected, image: int) -> Iterator[Panel]:
    several = len(found.pictures) > 1
    small = _fitted(found.pictures[image], _LONGEST_OF_SEVERAL if several else _LONGEST)
    name = f"picture {image + 1} of {len(found.pictures)}" if several else "picture"
    height, width = found.pictures[image].shape[:2]
    yield Panel(f"{name}, {width} x {height}", small)
    if found.ranking is not None:
        ranking = found.ranking
        told = f"importance to the small model, {len(ranking.importance)} tokens"
        yield Panel(told, draw_heat(small, ranking.grids, ranking.importance, image))
    for kept in found.kept:
        yield Panel(kept.told, draw_kept(small, kept.grids, kept.tokens, image))


def _fitted(pixels: Pixels, longest: int) -> Pixels:
    """At most so many pixels a side; a small picture is enlarged by a whole factor."""
    factor = longest // max(pixels.shape[:2])
    if factor < 2:
        return scaled(pixels, longest)
    return pixels.repeat(factor, axis=0).repeat(factor, axis=1)


def _strip(panels: Sequence[Panel], cell: int) -> Image.Image:
    font = _font(_BODY)
    titles = [_wrapped(panel.told, font, cell) for panel in panels]
    head = round(max(map(len, titles)) * _BODY * _LINE) + _GAP // 2
    height = head + max(panel.pixels.shape[0] for panel in panels)
    strip = Image.new("RGB", (len(panels) * (cell + _GAP), height), _PAGE)
    draw = ImageDraw.Draw(strip)
    for number, (panel, title) in enumerate(zip(panels, titles, strict=True)):
        left = number * (cell + _GAP)
        _write(draw, title, (left, 0), font, _FAINT)
        strip.paste(Image.fromarray(np.ascontiguousarray(panel.pixels)), (left, head))
    return strip


def _caption(found: Inspected, width: int) -> Image.Image:
    title, body = _font(_TITLE), _font(_BODY)
    head = _wrapped(str(found.row["id"]), title, width)
    lines = [line for text in _texts(found) for line in _wrapped(text, body, width)]
    top = round(len(head) * _TITLE * _LINE) + _GAP // 2
    caption = Image.new("RGB", (width, top + round(len(lines) * _BODY * _LINE)), _PAGE)
    draw = ImageDraw.Draw(caption)
    _write(draw, head, (0, 0), title, _INK)
    _write(draw, lines, (0, top), body, _INK)
    return caption


def _texts(found: Inspected) -> Iterator[str]:
    row = found.row
    yield f"question: {row.get('question') or 'none'}"
    if row.get("small_answer") is not None:
        yield f"small model: {row['small_answer']}{verdict(found, 'small_answer')}"
    if row["route"] == "large":
        yield f"large model: {row['answer']}{verdict(found, 'answer')}"
    if accepted := texts_in(row.get("answers")):
        yield f"accepted: {', '.join(accepted)}"
    yield found.decision
    if error := row.get("error"):
        yield f"{error['type']} in the {error['stage']} stage: {error['message']}"
    if found.ranking is not None:
        yield f"importance map: {found.ranking.origin}"
    if (left := len(found.pictures) - _PICTURES) > 0:
        yield f"{left} more pictures are not drawn"
    yield from found.remarks


def _font(size: int) -> ImageFont.FreeTypeFont:
    """Pillow's own, so that pages look alike wherever they are drawn."""
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont), "Pillow was built without FreeType"
    return font


def _wrapped(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """Lines that fit; words that do not are broken, and a long text is cut."""
    lines, line = [], ""
    for letter in " ".join(printable(text).split()):
        if font.getlength(line + letter) > width:
            head, space, rest = line.rpartition(" ")
            lines.append(head if space else line)
            line = rest if space else ""
            if len(lines) == _TEXT_LINES:
                lines[-1] = f"{lines[-1].rstrip()[:-3]}..."
                return lines
        line += letter
    return [*lines, line]


def _write(
    draw: ImageDraw.ImageDraw,
    lines: Sequence[str],
    at: tuple[int, int],
    font: ImageFont.FreeTypeFont,
    ink: tuple[int, int, int],
) -> None:
    for number, line in enumerate(lines):
        draw.text((at[0], at[1] + round(number * font.size * _LINE)), line, ink, font)
