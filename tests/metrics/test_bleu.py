"""BLEU, by the examples of the paper and by numbers worked by hand."""

import math

import pytest

from gencore.errors import InputError
from gencore.metrics.bleu import bleu, precisions

# Papineni et al. 2002, example 1 and example 2.
ONE = "it is a guide to action which ensures that the military always obeys the commands of the party".split()
TWO = "it is to insure the troops forever hearing the activity guidebook that party direct".split()
REFERENCES = [
    "it is a guide to action that ensures that the military will forever heed party commands".split(),
    "it is the guiding principle which guarantees the military forces always being under the command of the party".split(),
    "it is the practical guide for the army always to heed the directions of the party".split(),
]
CAT = ["the cat is on the mat".split(), "there is a cat on the mat".split()]


def test_the_papers_own_numbers():
    """Section 2.1: 17/18 and 8/14 words, 10/17 and 1/13 pairs; and seven times "the" is two sevenths."""
    assert precisions([ONE], [REFERENCES], 2) == [17 / 18, 10 / 17]
    assert precisions([TWO], [REFERENCES], 2) == [8 / 14, 1 / 13]
    assert precisions([["the"] * 7], [CAT], 2) == [2 / 7, 0]


def test_a_whole_text_by_hand():
    """Runs of 1 to 4 words: 17/18, 10/17, 7/16, 4/15; 18 words, as many as the second reference has."""
    assert precisions([ONE], [REFERENCES]) == [17 / 18, 10 / 17, 7 / 16, 4 / 15]
    assert bleu([ONE], [REFERENCES]) == pytest.approx((17 / 18 * 10 / 17 * 7 / 16 * 4 / 15) ** 0.25)


def test_short_texts_are_punished_and_long_ones_are_not():
    """Three of six words: exp(1 - 6 / 3); twelve of six: only half of the words are common."""
    reference = "a b c d e f".split()
    assert bleu([reference[:3]], [[reference]], 1) == pytest.approx(math.exp(-1))
    assert bleu([reference * 2], [[reference]], 1) == pytest.approx(0.5)
    assert bleu([reference], [[reference]]) == pytest.approx(1.0)


def test_the_reference_nearest_in_length_counts():
    """Of two equally near the shorter: no penalty, where the longer one would give one."""
    candidate, short, long = list("abcd"), list("abc"), list("abcde")
    assert bleu([candidate], [[short, long]], 1) == pytest.approx(1.0)
    assert bleu([candidate], [[long, list("abcdefgh")]], 1) == pytest.approx(math.exp(1 - 5 / 4))


def test_counts_are_added_over_texts_before_they_are_divided():
    """Two words of four and six of six: 8/10, not the mean of 1/2 and 1."""
    texts, known = [list("abxy"), list("abcdef")], [[list("abcd")], [list("abcdef")]]
    assert precisions(texts, known, 1) == [0.8]
    assert precisions(texts, known, 2) == [0.8, (1 + 5) / (3 + 5)]


def test_a_run_counts_in_one_reference_not_in_all_together():
    assert precisions([["the"] * 3], [[["the", "cat"], ["the", "the"]]], 1) == [2 / 3]


def test_nothing_in_common_is_zero_and_nothing_to_compare_is_refused():
    assert bleu([["x"]], [[["y"]]]) == 0 and bleu([[]], [[["y"]]]) == 0
    for texts, known in (([], []), ([["a"]], []), ([["a"]], [[]])):
        with pytest.raises(InputError, match="give each text at least one"):
            bleu(texts, known)
    with pytest.raises(InputError, match="order 0"):
        bleu([["a"]], [[["a"]]], 0)
