"""claim() tells the truth, briefly, and refuses what is no claim."""

import math

import numpy as np
import pytest
import torch

from gencore.claims import ClaimError, claim


@pytest.mark.parametrize(
    ("value", "bounds", "printed"),
    [
        (1.0234, dict(below=1.1), "1.02 (< 1.1)"),
        (np.float32(0.25), dict(above=0), "0.250 (> 0)"),
        (torch.tensor([0.5]), dict(above=0.1, below=0.9), "0.500 (between 0.1 and 0.9)"),
        (0.503, dict(near=0.5, within=0.02), "0.503 (0.5 ± 0.02)"),
        (0.48, dict(near=0.5, within=0.02000001), "0.480 (0.5 ± 0.02)"),
        (10, dict(near=10, within=0), "10 (10 ± 0)"),
        (9876, dict(above=9000), "9876 (> 9000)"),
        (98765, dict(above=9000), "98800 (> 9000)"),
        (9876.0, dict(above=9000), "9880 (> 9000)"),
        (99.96, dict(above=9), "100 (> 9)"),
        (-1234.5, dict(below=0), "-1230 (< 0)"),
        (1.234e-9, dict(below=1e-6), "1.23e-09 (< 1e-06)"),
        (0.0, dict(below=1e-6), "0 (< 1e-06)"),
        (0.000123456, dict(below=1), "0.000123 (< 1)"),
        (math.inf, dict(above=1), "inf (> 1)"),
        # rounding must not print a comparison that is false
        (0.19996, dict(below=0.2), "0.199 (< 0.2)"),
        (0.20004, dict(above=0.2), "0.201 (> 0.2)"),
    ],
)
def test_a_true_claim_prints_its_value_and_bound(capsys, value, bounds, printed):
    claim("bits per dimension", value, **bounds)
    assert capsys.readouterr().out == f"✓ bits per dimension: {printed}\n"


@pytest.mark.parametrize(
    ("value", "bounds", "message"),
    [
        (1.2, dict(below=1.1), r"✗ it: 1\.20 \(< 1\.1\)"),
        (1.1, dict(below=1.1), r"1\.10 \(< 1\.1\)"),
        (0.1, dict(above=0.1), r"0\.100 \(> 0\.1\)"),
        (1.0, dict(above=0.1, below=0.9), "between 0.1 and 0.9"),
        (0.0, dict(above=0.1, below=0.9), "between 0.1 and 0.9"),
        (0.53, dict(near=0.5, within=0.02), "0.530"),
        (0.47, dict(near=0.5, within=0.02), "0.470"),
        (math.nan, dict(below=1), "nan"),
        (math.nan, dict(above=1), "nan"),
        (torch.tensor(math.nan), dict(near=0, within=9), "nan"),
        (math.inf, dict(below=1), "inf"),
        (1.10004, dict(below=1.1), r"1\.11 \(< 1\.1\)"),
    ],
)
def test_a_false_claim_raises(capsys, value, bounds, message):
    with pytest.raises(ClaimError, match=message):
        claim("it", value, **bounds)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("value", [True, np.bool_(True), torch.tensor(True), torch.ones(3).gt(0).all()])
def test_a_condition_needs_no_bound(capsys, value):
    claim("all positive", value)
    assert capsys.readouterr().out == "✓ all positive\n"
    with pytest.raises(ClaimError, match="✗ not so"):
        claim("not so", np.bool_(False))


@pytest.mark.parametrize(
    "bounds",
    [{}, dict(near=1), dict(within=1), dict(near=1, within=1, below=3), dict(below=math.nan), dict(near=1, within=-1)],
)
def test_a_number_needs_a_sensible_bound(bounds):
    with pytest.raises(ValueError, match="claim 'it'"):
        claim("it", 1.0, **bounds)


def test_what_is_no_claim_is_refused():
    with pytest.raises(ValueError, match="takes no bound"):
        claim("it", True, below=2)
    with pytest.raises(TypeError, match="more than one number"):
        claim("it", torch.zeros(2), below=1)
    with pytest.raises(TypeError, match="more than one number"):
        claim("it", np.zeros((2, 2)), below=1)
    with pytest.raises(TypeError, match="must be a number or a condition, not str"):
        claim("it", "0.5", below=1)


def test_a_false_claim_is_an_assertion_error():
    assert issubclass(ClaimError, AssertionError)
