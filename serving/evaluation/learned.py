"""What had been learned at many positions of the log, asked for in the order of the log: each change is read once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from serving.catalogue_view import CatalogueView
from serving.learning.beliefs import Beliefs
from serving.learning.cells import Cells
from serving.learning.learner import cells_at
from serving.learning.memory import SqliteMemory

TAKE_ROWS = 10_000


class LearnedInOrder:
    """`Past.beliefs_at` for who goes through the log once: the same beliefs as `Learner.beliefs_at`, bit for bit."""

    def __init__(self, path: Path, on_asked: Callable[[], None] = lambda: None) -> None:
        self.on_asked = on_asked  # called before each answer: a placement is about to be drawn
        self._memory = SqliteMemory(path)
        self._cells: dict[float, tuple[Cells, int]] = {}  # by prior strength, with the position they are of
        self._last: tuple[tuple[object, ...], Beliefs] | None = None  # candidates ask for the same as the log did

    def close(self) -> None:
        self._memory.close()

    def __call__(self, strength: float, position: int, view: CatalogueView, release: str, segment: str) -> Beliefs:
        self.on_asked()
        asked = (strength, position, id(view), view.version, release, segment)
        if self._last is None or self._last[0] != asked:
            cells = self._at(strength, position)
            found = cells.beliefs(view.row, release, cells.heard_as(release, segment), position)
            self._last = (asked, found)
        return self._last[1]

    def _at(self, strength: float, position: int) -> Cells:
        cells, reached = self._cells.get(strength, (None, 0))
        if cells is None or position < reached:
            cells = cells_at(self._memory, strength, position)
        else:
            while changes := self._memory.changes_after(cells.seq, TAKE_ROWS, position):
                for seq, change in changes:
                    cells.take(seq, change)
        self._cells[strength] = (cells, position)
        return cells
