"""ANLS: average normalised Levenshtein similarity (Biten et al. 2019, ST-VQA; DocVQA).

Per record: s = 1 - NL where NL is the edit distance over the longer text's length, of the nearest
accepted answer; s below the threshold 0.5 counts 0. Letter case and runs of white space do not
count. At exactly 0.5 paper and official evaluation differ (the paper's formula gives 0); we follow
the evaluation, whose figures are the published ones.
"""

from collections.abc import Sequence

_THRESHOLD = 0.5


def anls(answer: str, accepted: Sequence[str], options: Sequence[str] = ()) -> float:
    """Similarity to the nearest accepted answer, 0.5 to 1, or 0 below that."""
    del options
    given = _levelled(answer)
    best = max((_similarity(given, _levelled(text)) for text in accepted), default=0.0)
    return best if best >= _THRESHOLD else 0.0


def edit_distance(left: str, right: str) -> int:
    """Fewest characters to insert, delete or replace to make one text of the other."""
    if len(left) < len(right):
        left, right = right, left
    row = list(range(len(right) + 1))
    for i, mine in enumerate(left, 1):
        before, row[0] = row[0], i
        for j, theirs in enumerate(right, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (mine != theirs))
    return row[-1]


def _levelled(text: str) -> str:
    return " ".join(text.lower().split())


def _similarity(left: str, right: str) -> float:
    longer, shorter = max(len(left), len(right)), min(len(left), len(right))
    if left == right:
        return 1.0
    if shorter < _THRESHOLD * longer:
        # The distance is at least the difference in length; a long answer need not be gone through.
        return 0.0
    return 1 - edit_distance(left, right) / longer
