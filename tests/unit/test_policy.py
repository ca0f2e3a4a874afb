from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from datasets_tools.errors import ConversionError
from datasets_tools.pictures.policy import Policy, fitted, is_raw


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_side": 0}, "max_side is 0; it must be at least 1 pixel"),
        ({"short_side": -1}, "short_side is -1"),
        ({"min_side": 0, "max_side": 5}, "min_side is 0"),
        ({"max_pixels": 0}, "max_pixels is 0"),
        ({"quality": 0}, "quality is 0; libjpeg's range is 1 to 100"),
        ({"quality": 101}, "quality is 101"),
        ({"raw_share": 1.01}, "raw_share is 1.01"),
        ({"raw_share": float("nan")}, "raw_share is nan"),
        ({"short_side": 256, "max_side": 500}, "short_side is given with max_side or min_side"),
        ({"short_side": 256, "min_side": 100}, "short_side is given with max_side or min_side"),
        ({"min_side": 256}, "min_side is given without max_side"),
        ({"min_side": 501, "max_side": 500}, "min_side is 501, more than max_side, 500"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ConversionError) as caught:
        Policy(**options)  # type: ignore[arg-type]
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("policy", "height", "width", "expected"),
    [
        (Policy(), 48, 64, (48, 64)),
        (Policy(max_side=64), 48, 64, (48, 64)),
        (Policy(max_side=63), 48, 64, (47, 63)),
        (Policy(max_side=10), 64, 48, (10, 8)),
        (Policy(max_side=10), 2, 60, (1, 10)),
        (Policy(max_side=10), 3, 60, (1, 10)),  # a half is rounded up
        (Policy(max_side=10), 1, 65_535, (1, 10)),
        (Policy(max_side=30), 90, 90, (30, 30)),
        (Policy(short_side=48), 48, 64, (48, 64)),
        (Policy(short_side=256), 375, 500, (256, 341)),
        (Policy(short_side=256), 500, 375, (341, 256)),
        (Policy(short_side=256), 255, 5000, (255, 5000)),
        (Policy(max_side=500, min_side=256), 375, 500, (375, 500)),
        (Policy(max_side=500, min_side=256), 1000, 1000, (500, 500)),
        (Policy(max_side=500, min_side=256), 500, 2000, (256, 1024)),  # the shorter side wins
        (Policy(max_side=500, min_side=256), 100, 2000, (100, 2000)),
        (Policy(max_side=500, min_side=500), 1000, 4000, (500, 2000)),
    ],
)
def test_pictures_are_fitted(policy: Policy, height: int, width: int, expected: tuple[int, int]) -> None:
    assert fitted(height, width, policy) == expected
    assert fitted(width, height, policy) == expected[::-1]


def test_what_fitting_promises_holds_for_many_sizes() -> None:
    generator = np.random.default_rng(0)
    for height, width, bound, least in generator.integers(1, 3000, (500, 4)).tolist():
        policies = (
            Policy(max_side=bound),
            Policy(short_side=bound),
            Policy(max_side=bound, min_side=min(bound, least)),
        )
        for policy in policies:
            result = fitted(height, width, policy)
            scale = Fraction(max(result), max(height, width))
            assert scale <= 1
            assert all(abs(new - old * scale) <= 1 for new, old in zip(result, (height, width), strict=True))
            if policy.min_side is None and policy.max_side is not None:
                assert max(result) == min(bound, max(height, width))
            elif policy.short_side is not None:
                assert min(result) == min(bound, height, width)
            elif policy.min_side is not None:
                assert min(result) >= min(policy.min_side, height, width)


def test_the_raw_share_is_nested_and_whole_at_its_ends() -> None:
    keys = [f"n01440764/{k}.JPEG" for k in range(1000)]
    shares = (0.0, 0.1, 0.4, 0.9, 1.0)
    chosen = [{key for key in keys if is_raw(key, share)} for share in shares]
    assert chosen[0] == set()
    assert chosen[-1] == set(keys)
    for share, smaller, larger in zip(shares[1:], chosen[:-1], chosen[1:], strict=True):
        assert smaller <= larger
        assert abs(len(larger) - 1000 * share) <= 4 * np.sqrt(1000 * share * (1 - share))
