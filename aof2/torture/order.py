"""All cases of a row in an order drawn by a seed, so that a part of them is a fair sample."""

from __future__ import annotations

import math
import random


def drawn(seed: int, number: int, count: int) -> int:
    """Which of `count` cases is the `number`-th; each of them once, before any comes again.

    Example:
        >>> sorted(drawn(7, number, 10) for number in range(10)) == list(range(10))
        True
    """
    chance = random.Random(seed)
    first = chance.randrange(count)
    step = chance.randrange(count) | 1
    while math.gcd(step, count) != 1:
        step += 1
    return (first + step * number) % count
