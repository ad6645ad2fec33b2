"""Inputs made of seeds by small changes: for a short run in every test, and where there is no atheris."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence

MAX_LENGTH = 8192

_ODD = (b"\x00", b"\xff", b"\x1b[2J", b"\n", b'"', b"\\", b"{", b"[", b"]", b"}", b",", b":", b".", b"-", b"=", b" ")
_NUMBERS = (b"0", b"-1", b"1e400", b"NaN", b"9" * 20, b"9" * 400, b"1.0", b"true", b"null", b"18446744073709551616")


def inputs(seeds: Sequence[bytes], words: Sequence[bytes], seed: int) -> Iterator[bytes]:
    """The seeds as they are, then changed ones without end; the same for the same ``seed``.

    Args:
        seeds: inputs that are worth a change.
        words: what stands in such inputs, to be put where it does not belong.
        seed: of the random numbers.
    """
    yield from seeds
    chance = random.Random(seed)
    pool = [*_ODD, *_NUMBERS, *words]
    while True:
        data = bytearray(chance.choice(seeds))
        for _ in range(min(chance.randrange(1, 9), chance.randrange(1, 9))):
            chance.choice(_CHANGES)(data, chance, pool, seeds)
        yield bytes(data[:MAX_LENGTH])


def _span(data: bytearray, chance: random.Random) -> slice:
    start = chance.randint(0, len(data))
    return slice(start, start + min(chance.randint(0, 40), len(data) - start))


def _flip(data: bytearray, chance: random.Random, pool: list[bytes], seeds: Sequence[bytes]) -> None:
    if data:
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _put(data: bytearray, chance: random.Random, pool: list[bytes], seeds: Sequence[bytes]) -> None:
    at = chance.randint(0, len(data))
    data[at:at] = chance.choice(pool)


def _replace(data: bytearray, chance: random.Random, pool: list[bytes], seeds: Sequence[bytes]) -> None:
    data[_span(data, chance)] = chance.choice(pool)


def _drop(data: bytearray, chance: random.Random, pool: list[bytes], seeds: Sequence[bytes]) -> None:
    del data[_span(data, chance)]


def _double(data: bytearray, chance: random.Random, pool: list[bytes], seeds: Sequence[bytes]) -> None:
    at = chance.randint(0, len(data))
    data[at:at] = data[_span(data, chance)] * chance.choice((1, 1, 2, 60))


def _splice(data: bytearray, chance: random.Random, pool: list[bytes], seeds: Sequence[bytes]) -> None:
    other = chance.choice(seeds)
    data[chance.randint(0, len(data)) :] = other[chance.randint(0, len(other)) :]


_Change = Callable[[bytearray, random.Random, list[bytes], Sequence[bytes]], None]
_CHANGES: tuple[_Change, ...] = (_flip, _put, _replace, _replace, _drop, _double, _splice)
