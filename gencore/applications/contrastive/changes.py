"""Captions made wrong, by one word or by two exchanged: what a model must tell from the right one.

Yuksekgonul et al. 2023, "When and why vision-language models behave like bags-of-words, and what to do about it",
https://arxiv.org/abs/2210.01936: among the captions of other pictures, which are wrong in many ways at once, a model
need not learn which colour goes with which shape. It must if captions that are wrong in one way stand beside the right
one.

Captions are rows of word numbers of `gencore.data.shapes`, whose grammar lists all objects of a scene: hence each
change made here makes a true caption false. All is done on whole batches, on the device, with given randomness.
"""

import functools
from typing import Literal

import torch
from torch import Tensor

from gencore.data.shapes import COLOURS, HELD_OUT_COMBINATIONS, SHAPES, SIZES, VOCABULARY

Kind = Literal["colour", "shape", "size", "number", "direction", "exchange"]
KINDS: tuple[Kind, ...] = ("colour", "shape", "size", "number", "direction", "exchange")

_IDS = {word: number for number, word in enumerate(VOCABULARY)}
_PLURALS = tuple(shape + ("es" if shape.endswith("s") else "s") for shape in SHAPES)
# Words that can stand for each other; of directions only opposites, since "above" may be as true as "left of".
_GROUPS: tuple[tuple[Kind, tuple[str, ...]], ...] = (
    ("colour", COLOURS), ("shape", SHAPES), ("shape", _PLURALS), ("size", SIZES), ("number", ("two", "three", "four")),
    ("direction", ("left", "right")), ("direction", ("top", "bottom")), ("direction", ("above", "below")),
)  # fmt: skip


def change_word(captions: Tensor, u: Tensor, kinds: tuple[Kind, ...] = KINDS) -> tuple[Tensor, Tensor]:
    """Replace one word of each caption by another one of its kind.

    Parameters
    ----------
    captions : Tensor
        int64 ``(B, L)``.
    u : Tensor
        Uniform numbers ``(B, L + 1)``: which word, and by which one.
    kinds : tuple of str
        The kinds of words that may be replaced.

    Returns
    -------
    changed : Tensor
        int64 ``(B, L)``. An article follows the word after it: "a blue ring" becomes "an orange ring".
    found : Tensor
        bool ``(B,)``: whether the caption has such a word; otherwise nothing is changed.
    """
    tables = _tables(captions.device)
    group = tables["group"][captions]  # (B, L), -1 where no word can stand for this one
    may = _may_change(kinds, captions.device)[captions]
    place = (u[:, :-1] * may + may).argmax(1, keepdim=True)  # (B, 1): what may be changed is above what may not
    chosen, old = group.gather(1, place).clamp(min=0), captions.gather(1, place)
    others = tables["members"][chosen] - 1  # (B, 1)
    step = 1 + (u[:, -1:] * others).long().clamp(max=others - 1)
    new = tables["words"][chosen, (tables["position"][old] + step) % (others + 1)]
    found = may.any(1)
    changed = captions.scatter(1, place, torch.where(found[:, None], new, old))
    return _with_articles(changed), found


def exchange_colours(captions: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """Exchange the colours of two noun phrases that differ in colour and in shape: the same words, another scene.

    Parameters
    ----------
    captions : Tensor
        int64 ``(B, L)``.
    u : Tensor
        Uniform numbers ``(B, L)``: which two.

    Returns
    -------
    changed, found : Tensor
        As for `change_word`.
    """
    tables, length = _tables(captions.device), captions.shape[1]
    shape = tables["shape"][captions]  # (B, L), -1 for other words
    of_phrase = torch.cat([shape[:, 1:], shape.new_full((len(shape), 1), -1)], 1)  # of the word that follows
    colour = (tables["group"][captions] == 0) & (of_phrase >= 0)
    differ = (captions[:, :, None] != captions[:, None]) & (of_phrase[:, :, None] != of_phrase[:, None])
    pairs = (differ & colour[:, :, None] & colour[:, None]).flatten(1)  # (B, L * L)
    chosen = ((u[:, :, None] + u[:, None]).flatten(1) * pairs + pairs).argmax(1, keepdim=True)  # (B, 1)
    first, second, found = chosen // length, chosen % length, pairs.any(1)
    one, other = captions.gather(1, first), captions.gather(1, second)
    changed = captions.scatter(1, first, torch.where(found[:, None], other, one))
    changed = changed.scatter(1, second, torch.where(found[:, None], one, changed.gather(1, second)))
    return _with_articles(changed), found


def made_wrong(captions: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """Return wrong versions of captions ``(B, L)``: the last has colours exchanged, the others one word changed.

    Parameters
    ----------
    captions : Tensor
        int64 ``(B, L)``.
    u : Tensor
        Uniform numbers ``(B, H, L + 1)``, of which each version takes a row.

    Returns
    -------
    wrong : Tensor
        int64 ``(B, H, L)``.
    usable : Tensor
        bool ``(B, H)``: whether the version is wrong, and speaks of no combination that training never shows. A model
        that only hears of purple triangles where they are not would learn that there are none.
    """
    if not u.shape[1]:
        none = captions.new_empty(len(captions), 0, captions.shape[1])
        return none, none[:, :, 0].bool()
    versions = [change_word(captions, row) for row in u[:, :-1].unbind(1)]
    versions.append(exchange_colours(captions, u[:, -1, :-1]))
    wrong, found = (torch.stack(each, 1) for each in zip(*versions, strict=True))  # (B, H, L), (B, H)
    return wrong, found & ~speaks_of_held_out(wrong)


def speaks_of_held_out(captions: Tensor) -> Tensor:
    """Return whether captions ``(..., L)`` name one of the `HELD_OUT_COMBINATIONS`, bool ``(...)``."""
    return _tables(captions.device)["held out"][captions[..., :-1], captions[..., 1:]].any(-1)


def _with_articles(captions: Tensor) -> Tensor:
    """Return captions ``(B, L)`` whose articles fit the words after them."""
    a, an = _IDS["a"], _IDS["an"]
    article = (captions == a) | (captions == an)
    vowel = _tables(captions.device)["vowel"][captions.roll(-1, 1)]
    return torch.where(article, torch.where(vowel, an, a), captions)


@functools.lru_cache(maxsize=32)
def _may_change(kinds: tuple[Kind, ...], device: torch.device) -> Tensor:
    """Return which words belong to some kinds, bool ``(words,)``; sent to the device once."""
    allowed = {word for kind, words in _GROUPS if kind in kinds for word in words}
    return torch.tensor([word in allowed for word in VOCABULARY]).to(device)


@functools.lru_cache(maxsize=4)
def _tables(device: torch.device) -> dict[str, Tensor]:
    """Return what is known of words, by their numbers; sent to the device once."""
    count, most = len(VOCABULARY), max(len(words) for _, words in _GROUPS)
    group, position = torch.full((count,), -1), torch.zeros(count, dtype=torch.int64)
    words = torch.zeros(len(_GROUPS), most, dtype=torch.int64)
    for number, (_, members) in enumerate(_GROUPS):
        ids = torch.tensor([_IDS[word] for word in members])
        group[ids], position[ids], words[number, : len(ids)] = number, torch.arange(len(ids)), ids
    shape = torch.full((count,), -1)
    for names in (SHAPES, _PLURALS):
        shape[torch.tensor([_IDS[name] for name in names])] = torch.arange(len(names))
    held_out = torch.zeros(count, count, dtype=torch.bool)
    for colour, name in HELD_OUT_COMBINATIONS:
        for noun in (name, _PLURALS[SHAPES.index(name)]):
            held_out[_IDS[colour], _IDS[noun]] = True
    tables = {
        "group": group,
        "position": position,
        "words": words,
        "members": torch.tensor([len(members) for _, members in _GROUPS]),
        "shape": shape,
        "held out": held_out,
        "vowel": torch.tensor([word[0] in "aeiou" for word in VOCABULARY]),
    }
    return {name: table.to(device) for name, table in tables.items()}
