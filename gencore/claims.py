"""Checked statements: what the book says of a number, a cell asserts."""

import math
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal

DIGITS = 3  # significant digits of a measured value; more would differ from machine to machine
COUNTED = 10_000  # counts below it are printed in full


class ClaimError(AssertionError):
    """A claim is false."""


def claim(
    statement: str,
    value: object,
    *,
    below: float | None = None,
    above: float | None = None,
    near: float | None = None,
    within: float | None = None,
) -> None:
    """Print a statement with its measured value, and raise if it is false.

    ``claim("held-out bits per dimension", 1.0234, below=1.1)`` prints
    ``✓ held-out bits per dimension: 1.02 (< 1.1)``.

    Parameters
    ----------
    statement : str
        What is claimed, in words.
    value : bool, number, or array or tensor with one element
        What was measured: a number, which needs a bound, or a condition, which needs none.
    below, above : float, optional
        The value must be less than `below` and greater than `above`; both may be given.
    near, within : float, optional
        The value must differ from `near` by at most `within`; both are given together.

    Raises
    ------
    ClaimError
        If the claim is false; NaN fulfils no claim.
    TypeError
        If the value is neither a condition nor one real number.
    ValueError
        If a number comes without a bound, a condition with one, or `near` and `within` not together.
    """
    if hasattr(value, "item"):  # NumPy and PyTorch
        try:
            value = value.item()
        except (ValueError, RuntimeError):
            raise TypeError(f"claim {statement!r}: the value holds more than one number") from None
    bounds = {"below": below, "above": above, "near": near, "within": within}
    given = {name: float(bound) for name, bound in bounds.items() if bound is not None}
    if isinstance(value, bool):
        if given:
            raise ValueError(f"claim {statement!r}: a condition takes no bound, but got {', '.join(given)}")
        _say(statement, value, "")
        return
    if not isinstance(value, (int, float)):
        raise TypeError(f"claim {statement!r}: the value must be a number or a condition, not {type(value).__name__}")
    if (near is None) != (within is None):
        raise ValueError(f"claim {statement!r}: near and within are given together")
    if not given or (near is not None and (below is not None or above is not None)):
        raise ValueError(f"claim {statement!r}: give below, above or both, or give near and within")
    if not all(math.isfinite(bound) for bound in given.values()) or given.get("within", 0) < 0:
        raise ValueError(f"claim {statement!r}: bounds must be finite, and within at least 0")

    if near is not None:
        true, bound = abs(value - near) <= within, f"{near:g} ± {within:g}"
    elif below is not None and above is not None:
        true, bound = above < value < below, f"between {above:g} and {below:g}"
    elif below is not None:
        true, bound = value < below, f"< {below:g}"
    else:
        true, bound = value > above, f"> {above:g}"
    edges = (near - within, near + within) if near is not None else (above, below)
    _say(statement, true, f": {_shorten(value, [edge for edge in edges if edge is not None])} ({bound})")


def _say(statement: str, true: bool, measured: str) -> None:
    if not true:
        raise ClaimError(f"✗ {statement}{measured}")
    print(f"✓ {statement}{measured}")


def _shorten(value: float, edges: list[float]) -> str:
    """Return the value with three significant digits, on the same side of every bound as the value itself."""
    if not math.isfinite(value) or isinstance(value, int) and abs(value) < COUNTED:
        return str(value)
    exact = Decimal(value)
    place = Decimal(1).scaleb(exact.adjusted() - DIGITS + 1) if exact else Decimal(1)
    for rounding in (ROUND_HALF_EVEN, ROUND_FLOOR, ROUND_CEILING):
        short = float(exact.quantize(place, rounding))
        if all((short > edge) == (value > edge) and (short < edge) == (value < edge) for edge in edges):
            break
    if short == 0 or isinstance(value, int) and abs(short) < 1e7:
        return f"{short:.0f}"
    magnitude = math.floor(math.log10(abs(short)))
    if -4 <= magnitude < 7:
        return f"{short:.{max(0, DIGITS - 1 - magnitude)}f}"
    return f"{short:.{DIGITS - 1}e}"
