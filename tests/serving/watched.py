"""A policy whose draws are looked at: they are its own, and beside each is remembered what it was drawn from."""

from __future__ import annotations

import numpy as np

from serving.policies.floors import Drawn
from serving.policies.policy import Policy


class Watched:
    """In `asked`, per draw, the offers that were left and the chance of each, shapes (n_offers,).

    A policy that draws without a list of chances is asked for them beside; another's are those that it made.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy, self.asked, self._left = policy, [], {}
        made = policy._chances

        def remembered(eligible):
            found = made(eligible)
            self.made = found[0]
            return found

        policy._chances = remembered

    def draw(self, rows, free, priority, u) -> Drawn:
        which = free.tobytes(), priority.tobytes()
        if which not in self._left:  # of few offers there are few, and many draws ask for each
            self._left[which] = left_at(free, priority)
        left = self._left[which]
        if self.policy.only_best:
            self.policy(left)
        drawn = self.policy.draw(rows, free, priority, u)
        if drawn.n:
            self.asked.append((left, self.made))
        return drawn


def left_at(free, priority):
    """Of the free offers those of the highest priority."""
    return free & (priority == priority[free].max()) if free.any() else np.zeros_like(free)
