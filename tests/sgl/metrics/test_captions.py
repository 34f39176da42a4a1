"""Caption scores against values worked out by hand from the definitions."""

import sys
from math import e, log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgl.errors import ConfigurationError
from sgl.metrics.captions import caption_tokens, cider_d, rouge_l


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycocoevalcap.rouge.rouge", None)
    with pytest.raises(ConfigurationError, match="pycocoevalcap"):
        rouge_l("a cat", ["a dog"])


def test_words_are_parted_as_the_penn_treebank_does() -> None:
    assert caption_tokens("A dog's bowl, isn't it?") == "a dog 's bowl is n't it"
    assert caption_tokens("Two t-shirts; 1,000 men - they'll run...") == (
        "two t-shirts 1,000 men they 'll run"
    )


class TestWithThePackage:
    """Skipped where the extra 'evaluate' is not installed."""

    @pytest.fixture(autouse=True)
    def _package(self) -> None:
        pytest.importorskip("pycocoevalcap.rouge.rouge")

    def test_rouge_l(self) -> None:
        """LCS "a cat sat" of 3, of 4 words said and 6 wanted: P 3/4, R 1/2, beta 1.2."""
        precision, recall, beta2 = 3 / 4, 1 / 2, 1.2**2
        wanted = (1 + beta2) * precision * recall / (recall + beta2 * precision)
        assert rouge_l("A cat sat down", ["a cat had sat on it"]) == pytest.approx(wanted)
        assert rouge_l("a dog", ["the cat"]) == 0

    @given(st.text(max_size=20), st.lists(st.text(max_size=20), max_size=4))
    def test_rouge_l_is_a_score(self, answer: str, accepted: list[str]) -> None:
        assert 0 <= rouge_l(answer, accepted) <= 1
        assert rouge_l(answer, [answer, *accepted]) == 1

    def test_cider_d_of_equal_captions_of_four_words_is_10(self) -> None:
        captions = ["a cat sits here", "one dog runs fast", "red cars drive by"]
        assert cider_d(captions, [[one] for one in captions]) == pytest.approx([10, 10, 10])

    def test_cider_d_by_hand(self) -> None:
        """Two records; "x y" against "x z": idf log 2 for all but x, which both references have.

        1-grams: the answer's vector is x: 0, y: log 2; the reference's x: 0, z: log 2; no overlap.
        Against "y z", y counts log 2: cosine 1 / sqrt 2 of 1-grams, none of 2-grams; a quarter each
        of the four orders, times 10.
        """
        scores = cider_d(["x y", "x q"], [["y z"], ["x w"]])
        idf = log(2)
        # "x" is in one reference of two, as all others are, so that every word weighs log 2.
        cosine = idf * idf / ((2 * idf**2) ** 0.5 * (2 * idf**2) ** 0.5)
        assert scores == pytest.approx([10 * cosine / 4] * 2)

    def test_cider_d_punishes_length(self) -> None:
        """A gaussian of the difference in length, sigma 6; counts are clipped."""
        same, longer = (
            cider_d([caption, "p q r s"], [["a b c d"], ["t u v w"]])[0]
            for caption in ("a b c d", "a b c d e f g h i j")
        )
        assert longer < same * e ** -(6**2 / (2 * 6**2))
