"""Where the steps of a build stand: a row for each level of what needs what, a lane for each stage; stages one after another share one.

A layered layout, after Sugiyama, for graphs that are mostly chains: the chains are known (they are stages), so nothing has to be found out
about columns but which stage gets which, and edges run in the gaps between rows and lanes (`routes`) instead of through other steps.
"""

from __future__ import annotations

from imgbuild.hints import Iterable, Mapping, Sequence
from imgbuild.values import dataclass


@dataclass(frozen=True, slots=True)
class Item:
    """What is placed: its name, the name of its chain, and the items that it needs, all of which come before it."""

    name: str
    chain: str
    needs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Place:
    """A row and a lane, from 0."""

    row: int
    lane: int


def places(items: Sequence[Item]) -> dict[str, Place]:
    """A place for each item, no two the same; in a row below all that it needs."""
    rows = _rows(items)
    chains: dict[str, list[Item]] = {}
    for item in items:
        chains.setdefault(item.chain, []).append(item)
    spans = {chain: (min(rows[item.name] for item in own), max(rows[item.name] for item in own)) for chain, own in chains.items()}
    lanes = _lanes(items, chains, spans)
    found = {item.name: Place(rows[item.name], lanes[item.chain]) for item in items}
    if len(set(found.values())) < len(found):  # items of a chain that do not need each other
        return _parted(items, found)
    return found


def _rows(items: Sequence[Item]) -> dict[str, int]:
    """The longest way to each."""
    rows: dict[str, int] = {}
    for item in items:
        rows[item.name] = max((rows[need] + 1 for need in item.needs if need in rows), default=0)
    return rows


def _lanes(items: Sequence[Item], chains: Mapping[str, Sequence[Item]], spans: Mapping[str, tuple[int, int]]) -> dict[str, int]:
    """A lane for each chain: the free one that is nearest to what it is connected with."""
    chain_of = {item.name: item.chain for item in items}
    lanes: dict[str, int] = {}
    taken: list[list[tuple[int, int]]] = []
    for chain in sorted(chains, key=lambda name: (spans[name][0], -(spans[name][1] - spans[name][0]), list(chains).index(name))):
        first, last = spans[chain]
        near = [lanes[chain_of[need]] for item in chains[chain] for need in item.needs if chain_of.get(need, chain) in lanes]
        wanted = near[0] if near else len(taken)
        free = [lane for lane, own in enumerate(taken) if all(last < start or end < first for start, end in own)]
        lane = min(free, key=lambda lane: (abs(lane - wanted), lane), default=len(taken))
        if lane == len(taken):
            taken.append([])
        taken[lane].append((first, last))
        lanes[chain] = lane
    return lanes


def _parted(items: Sequence[Item], found: Mapping[str, Place]) -> dict[str, Place]:
    """The same with lanes moved apart for items that would stand in one place."""
    order: dict[str, tuple[int, int]] = {}
    used: dict[Place, int] = {}
    for item in items:
        place = found[item.name]
        order[item.name] = (place.lane, used.get(place, 0))
        used[place] = used.get(place, 0) + 1
    lanes = {pair: number for number, pair in enumerate(sorted(set(order.values())))}
    return {item.name: Place(found[item.name].row, lanes[order[item.name]]) for item in items}


def height(found: Iterable[Place]) -> int:
    """How many rows there are."""
    return max((place.row + 1 for place in found), default=0)


def width(found: Iterable[Place]) -> int:
    """How many lanes there are."""
    return max((place.lane + 1 for place in found), default=0)
