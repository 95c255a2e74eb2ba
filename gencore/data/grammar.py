"""Reading a sentence of a small grammar word by word, with one clear error where it does not fit."""

from collections.abc import Sequence

from gencore.errors import InputError


class Words:
    """The words of a sentence, and how many of them have been read.

    Parameters
    ----------
    text : str
        The sentence; upper and lower case are the same.
    known : sequence of str
        The words there are.
    name : str
        What messages call the sentence, such as ``"the caption"``.

    Raises
    ------
    InputError
        If a word is unknown; the message lists those there are.
    """

    def __init__(self, text: str, known: Sequence[str], name: str) -> None:
        self.text, self.name, self.words, self.at = text, name, text.lower().split(), 0
        for word in self.words:
            if word not in known:
                raise InputError(f"{name} has the unknown word {word!r}; allowed are: {', '.join(known)}")

    def next(self) -> str | None:
        """Return the next word, or None at the end."""
        return self.words[self.at] if self.at < len(self.words) else None

    def take(self, *options: str) -> str | None:
        """Read the next word if it is one of these."""
        word = self.next()
        if word not in options:
            return None
        self.at += 1
        return word

    def expect(self, *options: str) -> str:
        """Read the next word, which must be one of these: `InputError` if it is not."""
        word = self.take(*options)
        if word is None:
            raise self._wrong(" or ".join(options))
        return word

    def end(self) -> None:
        """Make sure that nothing follows: `InputError` if something does."""
        if self.next():
            raise self._wrong("the end")

    def _wrong(self, wanted: str) -> InputError:
        found = f"has {self.next()!r} as word {self.at + 1}" if self.next() else f"ends after {self.at} words"
        return InputError(f"{self.name} {self.text!r} {found}, where the grammar wants {wanted}")
