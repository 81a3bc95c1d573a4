"""Which of a chain of convolutions are dense layers and which are transitions, by widths alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from edgedense.errors import InputError


@dataclass(frozen=True)
class Pair:
    """A BN of ``fan_in`` channels and the convolution behind it; ``kernel`` is 1 or 3 pixels."""

    name: str
    fan_in: int
    out: int
    kernel: int


# one letter a part: a plain layer, a layer with bottleneck (two pairs), a transition
_PLAIN, _BOTTLENECK, _TRANSITION = "l", "b", "t"
_WORDS = {_PLAIN: "plain", _BOTTLENECK: "bottleneck", _TRANSITION: "transition"}


def read_widths(
    pairs: Sequence[Pair], first: int, last: int, path: Path
) -> tuple[str, tuple[str, ...]]:
    """(a letter for each part of the network, notes).

    ``l`` is a plain layer, ``b`` a layer with bottleneck, ``t`` a transition. ``first`` and
    ``last`` are the widths of the stem and of the final BN. A layer widens what it reads by its
    outputs, a transition replaces it. Readings with one kind of layer come first: at most one of
    them fits, for such a network's first kernel tells its kind, and the kernel behind a 1x1
    whether that is a bottleneck. Errors: InputError where no reading fits, or two mixed ones.
    """
    widths = [*(pair.fan_in for pair in pairs), last]
    if widths[0] == first:
        for letters in (_PLAIN + _TRANSITION, _BOTTLENECK + _TRANSITION):
            if found := _readings(pairs, widths, letters):
                return found[0], ()
        found = _readings(pairs, widths, "".join(_WORDS))
        if len(found) == 1:
            return found[0], (f"Plain layers and bottlenecks are mixed: {_text(found[0])}.",)
        if found:
            raise InputError(
                f"{path}: the widths fit two networks: {_text(found[0])}; or {_text(found[1])}",
                "Save the weights under names that edgedense knows, such as torchvision's.",
            )
    raise InputError(
        f"{path}: {_misfit(pairs, widths, first)}, which no dense layer or transition gives",
        "Only chains of [input, new features] concats can be read by order.",
    )


# (letters read so far, from the end), as a linked list: networks may be deep
_Chain = tuple[str, "_Chain"] | None


def _readings(pairs: Sequence[Pair], widths: Sequence[int], allowed: str) -> list[str]:
    """At most two readings: more would tell nothing new."""
    tails: dict[tuple[int, bool], list[_Chain]] = {(len(pairs), True): [None]}
    for at in reversed(range(len(pairs))):
        for started in (False, True):
            found: list[_Chain] = [
                (letter, tail)
                for letter, then in _moves(pairs, widths, at, started)
                if letter in allowed
                for tail in tails.get((then, letter != _TRANSITION), [])
            ]
            tails[at, started] = found[:2]
    return ["".join(_letters(chain)) for chain in tails.get((0, False), [])]


def _moves(
    pairs: Sequence[Pair], widths: Sequence[int], at: int, started: bool
) -> Iterator[tuple[str, int]]:
    """(letter, the next pair's place) of every part that may stand at ``at``."""
    pair = pairs[at]
    if pair.kernel == 3:
        if widths[at + 1] == pair.fan_in + pair.out:
            yield _PLAIN, at + 1
        return
    if widths[at + 1] != pair.out:
        return
    if started:
        yield _TRANSITION, at + 1
    behind = pairs[at + 1 : at + 2]
    if behind and behind[0].kernel == 3 and widths[at + 2] == pair.fan_in + behind[0].out:
        yield _BOTTLENECK, at + 2


def _letters(chain: _Chain) -> Iterator[str]:
    while chain is not None:
        letter, chain = chain
        yield letter


def _text(letters: str) -> str:
    runs = [(_WORDS[letter], len(list(run))) for letter, run in groupby(letters)]
    return ", ".join(word if word == "transition" else f"{n} {word}" for word, n in runs)


def _misfit(pairs: Sequence[Pair], widths: Sequence[int], first: int) -> str:
    if not pairs or widths[0] != first:
        return f"{widths[0]} channels follow a stem of {first}"
    reached = {(0, False)}
    for at in range(len(pairs)):
        for started in (False, True):
            if (at, started) in reached:
                for letter, then in _moves(pairs, widths, at, started):
                    reached.add((then, letter != _TRANSITION))
    furthest = min(max(at for at, _ in reached), len(pairs) - 1)
    pair = pairs[furthest]
    what = f"{pair.kernel}x{pair.kernel} from {pair.fan_in} to {pair.out} channels"
    return f"{pair.name} ({what}) precedes a BN of {widths[furthest + 1]}"
