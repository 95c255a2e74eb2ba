"""BLEU: Papineni et al. 2002, "BLEU: a method for automatic evaluation of machine translation".

https://aclanthology.org/P02-1040, section 2.3: which share of a text's runs of one to four words occur in a reference,
and a penalty if the text is shorter than the reference. Counted over a whole set of texts, not text by text.
"""

import math
from collections import Counter
from collections.abc import Sequence

from gencore.errors import InputError

ORDER = 4  # words in the longest runs


def bleu(
    candidates: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]], order: int = ORDER
) -> float:
    """Return how much a set of texts has in common with references, from 0 to 1.

    Parameters
    ----------
    candidates : sequence of sequence of str
        The words of each text.
    references : sequence of sequence of sequence of str
        For each text one or more references, each as its words.
    order : int
        The longest runs of words that count.

    Returns
    -------
    float
        The geometric mean of the `precisions`, times the brevity penalty. 0 if there is no common run of some length.

    Raises
    ------
    InputError
        If there are no texts, or not at least one reference for each.
    """
    shares = precisions(candidates, references, order)
    if not all(shares):
        return 0.0
    spoken = sum(len(words) for words in candidates)
    # Of several references that which is nearest in length; of two equally near the shorter.
    wanted = sum(
        min((abs(len(reference) - len(words)), len(reference)) for reference in known)[1]
        for words, known in zip(candidates, references, strict=True)
    )
    brevity = 1.0 if spoken > wanted else math.exp(1 - wanted / spoken)
    return brevity * math.exp(sum(map(math.log, shares)) / order)


def precisions(
    candidates: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]], order: int = ORDER
) -> list[float]:
    """Return the share of runs of 1, 2, ... ``order`` words that occur in a reference: section 2.1.1.

    A run counts at most as often as in the reference that has it most often: seven times "the" are no translation.
    Parameters and errors as for `bleu`.
    """
    if len(candidates) != len(references) or not candidates or not all(references):
        given = f"{len(candidates)} texts and {len(references)} sets of references"
        raise InputError(f"{given}: give each text at least one")
    if order < 1:
        raise InputError(f"order {order}: must be 1 or more")
    shares = []
    for length in range(1, order + 1):
        common, total = 0, 0
        for words, known in zip(candidates, references, strict=True):
            runs, most = _runs(words, length), Counter()
            for reference in known:
                most |= _runs(reference, length)
            common += (runs & most).total()
            total += runs.total()
        shares.append(common / total if total else 0.0)
    return shares


def _runs(words: Sequence[str], length: int) -> Counter:
    """Return how often each run of so many words occurs."""
    return Counter(tuple(words[start : start + length]) for start in range(len(words) - length + 1))
