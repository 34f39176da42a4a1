"""The words of the testbed: one token each."""

COLOURS: tuple[str, ...] = ("red", "green", "blue", "yellow", "purple", "orange")
LETTERS: tuple[str, ...] = ("A", "B", "C", "D", "E", "F", "G", "H")
SMALLEST_NUMBER = 10
NUMBERS: tuple[str, ...] = tuple(str(number) for number in range(SMALLEST_NUMBER, 100))
COUNTS: tuple[str, ...] = tuple(str(number) for number in range(SMALLEST_NUMBER))

PAD, UNKNOWN = "<pad>", "<unk>"
START, END = "<|im_start|>", "<|im_end|>"
IMAGE_START, IMAGE_END, IMAGE = "<img>", "</img>", "<IMG_CONTEXT>"
SPECIAL: tuple[str, ...] = (PAD, UNKNOWN, START, END, IMAGE_START, IMAGE_END, IMAGE)

QUESTION_WORDS: tuple[str, ...] = (
    "user",
    "assistant",
    "number",
    "label",
    "of",
    "right",
    "left",
    "above",
    "below",
    "larger",
    "smaller",
    "and",
    "how",
    "many",
    "read",
    "row",
    "?",
)

WORDS: tuple[str, ...] = (*SPECIAL, *COLOURS, *LETTERS, *NUMBERS, *COUNTS, *QUESTION_WORDS)
TOKEN_ID: dict[str, int] = {word: index for index, word in enumerate(WORDS)}


def token_ids(text: str) -> list[int]:
    """Ids of space-separated words; an unknown word is a KeyError, as the generator writes none."""
    return [TOKEN_ID[word] for word in text.split()]
