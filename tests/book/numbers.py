"""Numbers in prose, and where they come from.

What counts is a decimal number, a whole number of three or more digits, or a percentage. Years, ids, versions, link
addresses, code and formulas do not count; a number alone in a formula, or at its end after ``=``, does.
"""

import math
import re
from decimal import Decimal
from typing import NamedTuple

import numpy as np

from gencore import data, zoo
from tools.compare import NUMBER as PRINTED

PLAIN = r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?"
PERCENT = r"(?:[ \u00a0\u202f]?%|[ \u00a0]per cent\b)"
IN_PROSE = re.compile(rf"(?<![\w.,^/:#-])({PLAIN})({PERCENT}?)(?!\w|[.,-]?\d)")
RELATION = r"(?:=|<|>|\\approx|\\leq?|\\geq?|\\simeq|\\sim)"
NO_PROSE = re.compile(r"https?://\S+|<[^<>\n]+>|\([A-Z]{2,5}\.\d+\)|arXiv:?\s*\d{4}\.\d{4,5}|[Pp]ython \d\.\d+")
ADDRESS = re.compile(r"\]\(<?[^()\s>]*(?:\([^()\s]*\)[^()\s>]*)*>?(?: \"[^\"]*\")?\)")
LITERAL = re.compile(r"(?<![\w.])(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?!\w)")
YEAR = re.compile(r"(19|20)\d\d")
EXACT = Decimal("0E-15")  # added to a number: all its decimals are known
NAMES = {"math": math, "np": np, "data": data, "zoo": zoo}


class Number(NamedTuple):
    """A number as it was written: ``12.5 %`` is ``Number(Decimal("12.5"), True)``."""

    value: Decimal
    percent: bool = False

    @classmethod
    def read(cls, text: str) -> "Number":
        return cls(Decimal(text.rstrip("%").replace(",", "")), text.endswith("%"))

    def rounds(self, exact: "Number") -> bool:
        """Say whether this is another number, rounded to the last digit written here; 12 % is 0.12."""
        if self.percent and not exact.percent:
            return Number(self.value / 100).rounds(exact)
        place, known = self.value.as_tuple().exponent, exact.value.as_tuple().exponent
        near = abs(exact.value - self.value) <= (Decimal(5).scaleb(place - 1) if known < place else 0)
        return self.percent == exact.percent and known <= place and near


def written(text: str) -> list[str]:
    """Return the numbers that count in a Markdown text, each once: ``["-1.386", "1,410", "40%"]``."""
    text = re.sub(r"(?s)\$\$.*?\$\$", " ", text)
    text = re.sub(r"\$([^$\n]+)\$", lambda formula: _lone(formula[1]), text)
    text = NO_PROSE.sub(" ", ADDRESS.sub("]", text))
    text = re.sub(r"(?:−|\bminus )(?=\d)", "-", text)
    found = ((match[1].lstrip("+"), bool(match[2])) for match in IN_PROSE.finditer(text))
    return list(dict.fromkeys(number + "%" * percent for number, percent in found if percent or _counts(number)))


def printed(texts: list[str]) -> set[Number]:
    """Return all numbers in what cells print."""
    found = set()
    for text in texts:
        for match in PRINTED.finditer(text):
            percent = bool(re.match(PERCENT, text[match.end() :]))
            found.add(Number(Decimal(match[0].replace(",", "")), percent))
    return found


def literals(sources: list[str]) -> set[Number]:
    """Return all numbers in code, which are exact."""
    numbers = (number.replace("_", "") for source in sources for number in LITERAL.findall(source))
    return {Number(Decimal(number) + EXACT) for number in numbers}


def result(expression: str) -> Number:
    """Return what an expression of `math`, numpy (`np`), gencore's `data` and its `zoo` gives."""
    return Number(Decimal(repr(float(eval(expression, dict(NAMES))))) + EXACT)


def _lone(formula: str) -> str:
    """Return the number that a formula is or ends in, and for any other formula a letter."""
    formula = re.sub(r"\{,\}|\\,(?=\d{3})", ",", formula).replace(r"\,", "").strip()
    number = re.fullmatch(rf"(?:.*{RELATION})?\s*({PLAIN})\s*(\\%)?", formula)
    return number[1] + "%" * bool(number[2]) if number else "x"


def _counts(number: str) -> bool:
    return "." in number or len(re.sub(r"\D", "", number).lstrip("0")) >= 3 and not YEAR.fullmatch(number)
