"""Who watches a swarm: the interface between hosts and everything that records or checks.

Witnesses see what crosses the border of a node (inputs, effects, messages, bytes on disk) and never
reach inside one, so a checker shares no code with what it checks.
"""

from __future__ import annotations

from collections.abc import Sequence

from demesh.ports import Effect, Input, Instant, Observe, Persist, Publish
from demesh_sim.memory_store import MemoryStore


class Witness:
    """Told all that happens, at virtual time `at`; does nothing unless a subclass overrides it."""

    def booted(self, board: int, at: Instant, store: MemoryStore) -> None:
        """A board was switched on; `store` is what its disk gave back."""

    def turned(
        self, board: int, at: Instant, inputs: Sequence[Input], effects: Sequence[Effect]
    ) -> None:
        """A turn was computed; nothing of it is durable or published yet."""

    def persisted(
        self, board: int, at: Instant, effects: Sequence[Persist], store: MemoryStore
    ) -> None:
        """A turn's effects were made durable, each as it asked."""

    def publishing(self, board: int, at: Instant, message: Publish, store: MemoryStore) -> None:
        """A message is about to leave the board."""

    def observed(self, board: int, at: Instant, observation: Observe) -> None:
        """The node has something to show."""

    def stopped(self, board: int, at: Instant) -> None:
        """The board lost power, or its daemon ended."""
