"""Box IoU@0.5 (referring expressions: RefCOCO and its kin): 1 where IoU >= 0.5, else 0.

A box is two corners, left, top, right, bottom: "[x1, y1, x2, y2]", "(x1,y1),(x2,y2)" (Qwen-VL),
"<box>[[x1, y1, x2, y2]]</box>" (InternVL), {"bbox_2d": [x1, y1, x2, y2]} (Qwen2.5-VL). The first
four numbers from the first bracket on count; corners may stand in any order. Width and height
instead of the second corner cannot be told from it and are not understood.

Both boxes must use one scale: pixels, thousandths, or shares of the image. Nothing is converted,
because a text does not tell which of the larger ones it uses.
"""

import re
from collections.abc import Sequence
from itertools import islice

from sgl.metrics.text import exact_match

Box = tuple[float, float, float, float]
_IOU = 0.5
_NUMBER = re.compile(r"(?<![\w.])-?(?:\d+(?:\.\d*)?|\.\d+)(?![\w])")
_BRACKET = re.compile(r"[\[(]")


def box_in(text: str) -> Box | None:
    """The first box in a text: left, top, right, bottom; None where there is none."""
    start = _BRACKET.search(text)
    found = _NUMBER.finditer(text, start.start() if start else 0)
    numbers = [float(match[0]) for match in islice(found, 4)]
    if len(numbers) < 4:
        return None
    x1, y1, x2, y2 = numbers
    return min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)


def iou(one: Box, other: Box) -> float:
    """Area of the intersection over that of the union, 0 to 1; 1 for equal boxes without area."""
    if one == other:
        return 1.0
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(width, 0.0) * max(height, 0.0)
    union = _area(one) + _area(other) - shared
    return shared / union if union > 0 else 0.0


def box_iou(answer: str, accepted: Sequence[str], options: Sequence[str] = ()) -> float:
    """1 where the box in the answer overlaps an accepted one with IoU >= 0.5, else 0.

    An accepted answer without a box is compared as a text.
    """
    del options
    given = box_in(answer)
    boxes = {text: box_in(text) for text in accepted}
    if given is not None and any(box and iou(given, box) >= _IOU for box in boxes.values()):
        return 1.0
    return exact_match(answer, [text for text, box in boxes.items() if box is None])


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])
