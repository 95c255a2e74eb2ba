"""Captions as rows of word numbers: of emoji in two languages, and of shapes."""

import pytest
import torch

from gencore.data import Emoji, Shapes
from gencore.data.shapes import CAPTION_LENGTH, VOCABULARY
from gencore.data.shapes import encode as encode_shapes
from gencore.data.wording import (
    EMOJI_LENGTH, END, TAGS, UNKNOWN, WORDINGS, captions_of, decode, encode, is_chinese, split_words, unknown_words, vocabulary,
)
from gencore.errors import InputError

EMOJI = Emoji(("noto",), size=8)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Grinning FACE, 3D!", ["grinning", "face", "3d"]),
        ("medium-small_square", ["medium", "small", "square"]),
        ("four o\u2019clock", ["four", "o'clock"]),
        ("'quoted' it's", ["quoted", "it's"]),
        ("做成心形ok的手", ["做", "成", "心", "形", "ok", "的", "手"]),
        ("Piñata, größer", ["piñata", "größer"]),
        (" \n", []),
    ],
)
def test_english_is_split_into_words_and_chinese_into_characters(text, words):
    assert split_words(text) == words
    assert [is_chinese(word) for word in words] == ["\u3400" <= word[0] <= "\u9fff" for word in words]


def test_the_vocabulary_knows_no_word_that_only_held_out_symbols_have():
    words = vocabulary(Emoji())
    train, held_out = EMOJI.load("train"), EMOJI.load("heldout")
    said = [" ".join((name, zh, *tags, *tags_zh)) for name, zh, tags, tags_zh in
            zip(train.captions, *(train.meta[key] for key in ("zh", "tags", "tags_zh")), strict=True)]
    everything = {word for text in said for word in split_words(text)}
    assert set(words[2:]) <= everything and words[:2] == ("<end>", "<unknown>") and list(words[2:]) == sorted(words[2:])
    named = {word for text in (*train.captions, *train.meta["zh"]) for word in split_words(text)}
    assert named < set(words[2:]) < everything  # tags of a single symbol are left out
    once = "flamingo"
    assert any(once in name for name in held_out.captions) and once not in words
    assert vocabulary(EMOJI) == words and vocabulary(Shapes()) == VOCABULARY


def test_half_of_the_wordings_are_names_and_half_are_english():
    data = EMOJI.load("train")
    table = captions_of(EMOJI, data, EMOJI_LENGTH)
    assert table.shape == (len(data), WORDINGS, EMOJI_LENGTH) and (table[:, :, -1] == END).all() and (table != UNKNOWN).all()
    for place in range(0, len(data), 50):
        texts = [decode(EMOJI, row) for row in table[place]]
        english, chinese = split_words(data.captions[place]), split_words(data.meta["zh"][place])
        assert texts[: WORDINGS // 2] == [english, chinese] * (WORDINGS // 4)
        for text, name, key in zip(texts[WORDINGS // 2 :], [english, chinese] * 2, ["tags", "tags_zh"] * 2, strict=True):
            tags = {tuple(split_words(tag)) for tag in data.meta[key][place]}
            assert text == name or any(text[: len(tag)] == list(tag) for tag in tags)
    drawn = table[:, WORDINGS // 2 :]
    assert (drawn[:, 0] != drawn[:, 2]).any(1).float().mean() > 0.5  # other tags, or in another order
    most = max(len(decode(EMOJI, row)) for row in drawn[:, 0])
    assert TAGS < most < EMOJI_LENGTH


def test_a_symbol_is_worded_alike_in_every_style_and_whenever_it_is_loaded():
    both = Emoji(("twemoji", "noto"), size=8)
    table = captions_of(both, both.load("train"), EMOJI_LENGTH)
    half = len(table) // 2
    assert torch.equal(table[:half], table[half:])
    few = EMOJI.load("train").subset(torch.tensor([700, 3]))
    assert torch.equal(captions_of(EMOJI, few, EMOJI_LENGTH), table[[700, 3]])


def test_texts_become_numbers_and_back():
    ids = encode(EMOJI, ["red heart", "zyzzyva heart", "", "狗"], 5)
    assert ids.dtype == torch.int64 and ids.shape == (4, 5)
    assert [decode(EMOJI, row) for row in ids] == [["red", "heart"], ["<unknown>", "heart"], [], ["狗"]]
    assert ids[1, 0] == UNKNOWN and (ids[2] == END).all() and (ids[0, 2:] == END).all()
    assert decode(EMOJI, torch.tensor([3, 4])) == [vocabulary(EMOJI)[3], vocabulary(EMOJI)[4]]  # a row without an end
    assert torch.equal(encode(Shapes(), ["a red circle"], CAPTION_LENGTH), encode_shapes(["a red circle"]))
    with pytest.raises(InputError, match="'one two three' has 3 words or characters; there is room for 2"):
        encode(EMOJI, ["one two three"], 3)
    with pytest.raises(InputError, match="unknown word 'pink'"):
        encode(Shapes(), ["a pink circle"], CAPTION_LENGTH)


def test_unknown_words_are_named_with_near_ones():
    found = unknown_words(EMOJI, "a purpel dog with 狗 qqqqqq")
    assert found["purpel"][0] == "purple" and found["qqqqqq"] == [] and not {"dog", "with", "狗"} & set(found)
    assert unknown_words(Shapes(), "a red cirle") == {"cirle": ["circle", "circles"]}
