"""What a person writes, made into what a model reads; or one clear sentence about why not."""

from dataclasses import dataclass

from gencore.data import Emoji, Shapes, shapes, wording
from gencore.errors import InputError


@dataclass(frozen=True)
class Prompt:
    """A prompt as a model reads it.

    Attributes
    ----------
    text : str
        The words that are known, as the data set writes them.
    left_out : tuple of str
        Words that no training picture has, each with those known ones that are spelled nearly so.
    """

    text: str
    left_out: tuple[str, ...] = ()


def names_shapes(prompt: str) -> bool:
    """Whether a prompt is a sentence of the grammar of shapes."""
    try:
        shapes.parse(_plain(prompt))
    except InputError:
        return False
    return True


def read_prompt(data: Emoji | Shapes, prompt: str, length: int) -> Prompt:
    """Read a prompt for a model that learned from these data.

    Parameters
    ----------
    data : Emoji or Shapes
        Whose words the model knows.
    prompt : str
        Of shapes a sentence of their grammar. Of emoji anything: words of English and characters of Chinese that training
        pictures have are told to the model, all others are left out.
    length : int
        Words that the model reads at most, the end included.

    Raises
    ------
    InputError
        If it is empty, too long, has no word that the model knows or, of shapes, is not of the grammar. The message suggests
        words that are near.
    """
    words = wording.split_words(prompt)
    if not words:
        raise InputError("the prompt is empty; say what the picture is to show")
    unknown = wording.unknown_words(data, prompt)
    left_out = tuple(f"{word} (near: {', '.join(near)})" if near else word for word, near in unknown.items())
    if isinstance(data, Shapes):
        if left_out:
            allowed = ", ".join(shapes.VOCABULARY[1:])
            raise InputError(f"the prompt has unknown words: {'; '.join(left_out)}. Pictures of shapes know: {allowed}")
        text = shapes.parse(_plain(prompt)).words()
    else:
        known = [word for word in words if word not in unknown]
        if not known:
            raise InputError(f"the prompt has no word that emoji have: {'; '.join(left_out)}; say it in other words")
        text = " ".join(known)
    if len(wording.split_words(text)) >= length:
        raise InputError(f"the prompt has {len(wording.split_words(text))} words; this model reads at most {length - 1}")
    return Prompt(text, left_out)


def _plain(prompt: str) -> str:
    return " ".join(wording.split_words(prompt))
