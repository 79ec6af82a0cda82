"""Files and the members of containers as one sequence, ascending by id, in which each id is once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush

from pipeline.sources.item import Item


def in_order(files: Iterable[Item], members: Callable[[Item], Iterable[Item] | None]) -> Iterator[Item]:
    """``files``, each in whose place ``members`` has something replaced by that. Both ascend by id.

    ``a.tar/1.png`` comes after ``a.tar-old.png``, so members wait for files that come before them. On a store where the
    file ``a.tar`` and a folder of that name can both be, an id that a file has is not a member's: it is numbered.
    Memory holds what waits.
    """
    merge = _Merge()
    for file in files:
        yield from merge.before(file.id)
        found = members(file)
        if found is not None:
            merge.add(iter(found))
        else:
            merge.last = file.id
            yield file
    yield from merge.before(None)


@dataclass
class _Merge:
    last: str = ""
    waiting: list[tuple[str, int, int, Item, Iterator[Item]]] = field(default_factory=list)
    """A heap of: id; number of its sequence; number that it has got; the item; what follows it."""
    added: int = 0

    def add(self, items: Iterator[Item]) -> None:
        self.added += 1
        self._next(self.added, items)

    def before(self, bound: str | None) -> Iterator[Item]:
        while self.waiting and (bound is None or self.waiting[0][0] < bound):
            name, place, number, item, rest = heappop(self.waiting)
            self._next(place, rest)
            if name == self.last:
                free = f"{item.id}#{number + 1}"
                heappush(self.waiting, (free, place, number + 1, item, iter(())))
                continue
            self.last = name
            yield item if name == item.id else replace(item, id=name)

    def _next(self, place: int, items: Iterator[Item]) -> None:
        for item in items:
            heappush(self.waiting, (item.id, place, 1, item, items))
            return
