"""The mark of a test that pins a numbered equation."""

from collections.abc import Callable


def equation(id: str, tex: str) -> Callable:
    r"""Mark a test that holds the code of an equation to its formula: ``@equation("AG.3", r"V = 2\,\mathrm{JSD}")``.

    The formula stands here once more, so that nobody changes it in the chapter without looking at its test, or the
    other way round: `tests/book/test_equations.py` compares the two, but for spaces, the tag and the final stop.
    """
    return lambda test: test
