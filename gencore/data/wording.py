"""Captions as rows of word numbers: which words a data set has, how its pictures are worded, and how a prompt is read.

Shapes have one caption each, in the words of their grammar. Emoji have names and tags in English, read word by word, and in
Chinese, read character by character; only words that training symbols have get a number, all others are `UNKNOWN`. A row ends
with ``END``, which fills the rest of it; the empty caption is a row of ``END`` alone.
"""

import difflib
import functools
import re
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from gencore.data import shapes
from gencore.data.emoji import Emoji
from gencore.data.image_set import ImageSet
from gencore.data.shapes import Shapes
from gencore.errors import InputError
from gencore.training import rng

END = shapes.END  # the number that ends a caption and fills the rest of its row
UNKNOWN = 1  # the number of words that no training emoji has; the grammar of shapes has no such word
EMOJI_LENGTH = 16  # words in a row, the end included: names fit, and as many tags as we take
TAGS = 3  # at most, in a wording made of tags
WORDINGS = 8  # of an emoji, half of them names, half of them in English

_CHINESE = "\u3400-\u9fff"
_WORD = re.compile(rf"[{_CHINESE}]|(?:(?![{_CHINESE}])[^\W_])+(?:'(?:(?![{_CHINESE}])[^\W_])+)*")


def split_words(text: str) -> list[str]:
    """Return the words of a text in small letters, and its Chinese characters one by one; what stands between is left out."""
    return _WORD.findall(text.lower().replace("’", "'"))


def is_chinese(word: str) -> bool:
    """Whether a word is a Chinese character."""
    return re.fullmatch(f"[{_CHINESE}]", word) is not None


def vocabulary(data: Emoji | Shapes) -> tuple[str, ...]:
    """Return the words that captions are made of; their numbers are their places.

    Raises
    ------
    InputError
        If the data have no captions.
    """
    if isinstance(data, Shapes):
        return shapes.VOCABULARY
    if isinstance(data, Emoji):
        return _emoji_vocabulary()
    raise InputError(f"told: {type(data).__name__} has no captions; Emoji and Shapes have")


def captions_of(data: Emoji | Shapes, images: ImageSet, length: int) -> Tensor:
    """Return the wordings of each picture of a split, int64 ``(N, P, length)``, the first of which is its caption.

    Raises
    ------
    InputError
        If the data have no captions, or one is too long.
    """
    if isinstance(data, Emoji):
        texts = [_emoji_wordings(images, place) for place in range(len(images))]
    else:
        vocabulary(data)  # refuses other data
        texts = [(text,) for text in images.captions]
    if not texts:
        return torch.empty(0, 1, length, dtype=torch.int64)
    return encode(data, [text for each in texts for text in each], length).view(len(texts), -1, length)


def encode(data: Emoji | Shapes, texts: Sequence[str], length: int) -> Tensor:
    """Return texts as rows of word numbers, int64 ``(N, length)``; unknown words of emoji are `UNKNOWN`.

    Raises
    ------
    InputError
        If a text has no room for its end, or, of shapes, a word that the grammar lacks.
    """
    if isinstance(data, Shapes):
        return shapes.encode(texts, length)
    numbers = _numbers(vocabulary(data))
    ids = torch.full((len(texts), length), END)
    for row, text in zip(ids, texts, strict=True):
        words = split_words(text)
        if len(words) >= length:
            raise InputError(f"the text {text!r} has {len(words)} words or characters; there is room for {length - 1}")
        row[: len(words)] = torch.tensor([numbers.get(word, UNKNOWN) for word in words], dtype=torch.int64)
    return ids


def decode(data: Emoji | Shapes, ids: Tensor) -> list[str]:
    """Return the words of one row of numbers, up to the first ``END``."""
    words = vocabulary(data)
    numbers = [int(i) for i in ids]
    return [words[i] for i in numbers[: numbers.index(END) if END in numbers else None]]


def unknown_words(data: Emoji | Shapes, text: str) -> dict[str, list[str]]:
    """Return the words of a text that have no number, each with known ones that are spelled nearly so."""
    known = vocabulary(data)
    return {
        word: difflib.get_close_matches(word, known[UNKNOWN + 1 :], n=3, cutoff=0.7)
        for word in split_words(text)
        if word not in known
    }


@functools.lru_cache(maxsize=1)
def _emoji_vocabulary() -> tuple[str, ...]:
    """Return the words of the training symbols' names, and those of tags that at least two symbols have."""
    data = Emoji(styles=("noto",)).load("train")
    named: set[str] = set()
    tagged: Counter[str] = Counter()
    for name, chinese, tags, tags_zh in zip(data.captions, *(data.meta[key] for key in ("zh", "tags", "tags_zh")), strict=True):
        named.update(split_words(f"{name} {chinese}"))
        tagged.update(set(split_words(" ".join((name, chinese, *tags, *tags_zh)))))
    return "<end>", "<unknown>", *sorted(named | {word for word, count in tagged.items() if count > 1})


@functools.lru_cache(maxsize=4)
def _numbers(words: tuple[str, ...]) -> dict[str, int]:
    return {word: number for number, word in enumerate(words)}


def _emoji_wordings(images: ImageSet, place: int) -> tuple[str, ...]:
    """Return an emoji's name in English and in Chinese, both again, then some of its tags in both, and others of them."""
    texts = []
    for number in range(WORDINGS):
        name, tags = (images.captions, "tags") if number % 2 == 0 else (images.meta["zh"], "tags_zh")
        tagged = number >= WORDINGS // 2
        few = _few_tags(images.meta[tags][place], images.meta["code"][place], number) if tagged else ""
        texts.append(few or name[place])
    return tuple(texts)


@functools.lru_cache(maxsize=20_000)  # a symbol comes once in each style
def _few_tags(tags: tuple[str, ...], code: str, number: int) -> str:
    """Return one to three of a symbol's tags, the same whenever it is loaded; none if none of their words is known."""
    known = _numbers(_emoji_vocabulary())
    usable = [tag for tag in tags if (words := split_words(tag)) and all(word in known for word in words)]
    generator = rng.generator(0, number, code)
    count = int(torch.randint(1, TAGS + 1, (), generator=generator))
    chosen, words = [], 0
    for index in torch.randperm(len(usable), generator=generator).tolist()[:count]:
        words += len(split_words(usable[index]))
        if words < EMOJI_LENGTH:
            chosen.append(usable[index])
    return " ".join(chosen)
