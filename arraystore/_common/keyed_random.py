"""Random numbers and permutations as pure functions of a key, the same on every machine and in every version.

**Hash.** NumPy may change its random streams from version to version, so the hash is written here: SplitMix64 (Steele,
Lea and Flood, Fast splittable pseudorandom number generators, OOPSLA 2014). Its i-th output is a function of its state
and i, so outputs can be computed in any order.

**Permutation of few numbers**, up to `SORTED_COUNT`. They are sorted by their hashes, so all permutations are equally
likely.

**Permutation of more numbers.** A Feistel network computes where each number goes, without memory (Luby and Rackoff,
How to construct pseudorandom permutations from pseudorandom functions, 1988). A number x is split into two digits,
x = left × b + right, with left below a and right below b. In each round, one digit is replaced by itself plus a hash of
the other digit, modulo a or b. The other digit is still known, so the round can be undone; hence no two numbers become
the same. After some rounds the digits are put together again.

This permutes the numbers below a × b, and count may be less. A result of count or more is put through the network
again until it is below count (Black and Rogaway, Ciphers with arbitrary finite domains, CT-RSA 2002). Here a × b
exceeds count by less than a, so it is rare. With digits of whole bits, the usual choice, a × b may be up to four times
count; that was measured to take up to seven times as long.

No constant here may change, because orders would change; tests/ordering/test_order.py checks results.
"""

from __future__ import annotations

import math
from enum import IntEnum
from functools import lru_cache

import numpy as np
import numpy.typing as npt

LARGEST_COUNT = 1 << 62
SORTED_COUNT = 1 << 16

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
# Measured with 66,000 numbers, whose digits have 257 values: after two rounds there are strong patterns, after three a
# weak one in the steps between neighbors and in the digits, after four none. Eight instead of four cost 20 ns more.
_ROUNDS = 8
_HALF = np.uint64(32)
_ALL_BITS = (1 << 64) - 1

Numbers = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]


class Purpose(IntEnum):
    """The purpose of a key, so that one seed gives a different key for each. Numbers are never used again."""

    SHUFFLE = 1
    BLOCKS = 2
    SHORT_BLOCK = 3
    WINDOW = 4
    WEIGHTED = 5
    LAZY_STEP = 6
    FRAME = 7


def hashed(key: int | Hashes, numbers: npt.NDArray[np.integer]) -> Hashes:
    """Return for each number i ≥ 0 the i-th output of SplitMix64 with the state ``key``; a new uint64 array.

    ``key`` may be an array that broadcasts with ``numbers``; then each number has its own state.
    """
    state = numbers.astype(np.uint64)
    state += np.uint64(1)
    state *= _GAMMA
    state = state + (np.uint64(key) if isinstance(key, int) else key)
    for shift, factor in ((30, _FIRST), (27, _SECOND)):
        state ^= state >> np.uint64(shift)
        state *= factor
    state ^= state >> np.uint64(31)
    return state


def key_of(*numbers: int) -> int:
    """Return a key of 64 bits made of numbers in [0, 2**64): the seed, the epoch and the purpose, in this order."""
    key = 0
    for number in numbers:
        key = hash_of(key, int(number))
    return key


def hash_of(key: int, number: int) -> int:
    """Return what `hashed` gives for one number, in a thirtieth of the time."""
    state = (key + (number + 1) * int(_GAMMA)) & _ALL_BITS
    for shift, factor in ((30, int(_FIRST)), (27, int(_SECOND))):
        state = ((state ^ (state >> shift)) * factor) & _ALL_BITS
    return state ^ (state >> 31)


def generator_of(key: int, number: int) -> np.random.Generator:
    """Return NumPy's generator for one number under a key, such as an item of a step; it takes about 20 µs."""
    return np.random.Generator(np.random.PCG64(hash_of(key, number)))


def uniforms(key: int, numbers: Numbers) -> npt.NDArray[np.float64]:
    """Return for each number i ≥ 0 a float64 between 0 and 1, never 0 or 1."""
    return ((hashed(key, numbers) >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52


def permute(numbers: Numbers, count: int, key: int) -> Numbers:
    """Return the image of each number under the permutation of 0 … count - 1 that belongs to a key; a new array.

    The numbers may have any order; they are not checked. ``count`` is at most `LARGEST_COUNT`.
    """
    if count <= SORTED_COUNT:
        return _sorted(count, key)[numbers].astype(np.int64)
    above = math.isqrt(count - 1) + 1
    below = -(-count // above)
    keys = [int(word) for word in hashed(key, np.arange(_ROUNDS))]
    moved = _feistel(numbers.astype(np.uint64), above, below, keys)
    beyond = np.flatnonzero(moved >= count)
    # This ends: the network permutes, so repeating it leads back to the number it began with, which is below count.
    while beyond.size:
        again = _feistel(moved[beyond], above, below, keys)
        moved[beyond] = again
        beyond = beyond[again >= count]
    return moved.astype(np.int64)


# A number takes two bytes, so at most 2 MiB are kept. An epoch's order needs one permutation, shuffled blocks need two
# at a time.
@lru_cache(maxsize=16)
def _sorted(count: int, key: int) -> npt.NDArray[np.uint16]:
    # Stable, because NumPy's other ways of sorting order equal hashes differently on different processors.
    return np.argsort(hashed(key, np.arange(count)), kind="stable").astype(np.uint16)


def _feistel(numbers: Hashes, above: int, below: int, keys: list[int]) -> Hashes:
    """Permute numbers below ``above * below``, each of which is at most 2**31; the module's text explains it."""
    left = numbers // np.uint64(below)
    right = numbers - left * np.uint64(below)
    turns = ((left, right, np.uint64(above)), (right, left, np.uint64(below)))
    for turn, key in enumerate(keys):
        digit, other, base = turns[turn % 2]
        step = hashed(key, other)
        step >>= _HALF
        step *= base
        # 32 random bits times base, >> 32, is in [0, base), and takes a tenth of the time of a remainder.
        step >>= _HALF
        digit += step
        # Modulo base: if the digit is below base, the unsigned difference wraps around and is the larger of both.
        np.minimum(digit, digit - base, out=digit)
    return left * np.uint64(below) + right
