"""What tests of numbered equations share: the mark of a test that pins one, and a strict comparison."""

from collections.abc import Callable
from typing import Any

import torch


def equation(id: str, tex: str) -> Callable:
    r"""Mark a test that holds the code of an equation to its formula: ``@equation("AG.3", r"V = 2\,\mathrm{JSD}")``.

    The formula stands here once more, so that nobody changes it in the chapter without looking at its test, or the
    other way round: `tests/book/test_equations.py` compares the two, but for spaces, the tag and the final stop.
    """
    return lambda test: test


def close(a: Any, b: Any, atol: float = 1e-9, rtol: float = 0.0) -> None:
    """Raise unless two numbers or tensors agree; they may be plain numbers, and no relative error is forgiven unasked."""
    torch.testing.assert_close(torch.as_tensor(a), torch.as_tensor(b), atol=atol, rtol=rtol)
