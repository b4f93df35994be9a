"""What a mutant is: a deliberate fault that is switched on for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from demesh_sim.campaign.plan import Kind

Patch = tuple[object, str, object]
"""Where, which name, what instead."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One fault: its name, the rule that it breaks, and how."""

    name: str
    rule: str
    patches: tuple[Patch, ...]
    only: Kind | None = None
    """All who are faulty are so in this way: the fault shows in what they do."""

    @contextmanager
    def switched_on(self) -> Iterator[None]:
        """While this lasts, the code is wrong."""
        before = [(owner, name, vars(owner)[name]) for owner, name, _ in self.patches]
        for owner, name, instead in self.patches:
            setattr(owner, name, instead)
        try:
            yield
        finally:
            for owner, name, was in before:
                setattr(owner, name, was)


def patch(owner: object, name: str, instead: object) -> tuple[Patch, ...]:
    """A fault in one place."""
    return ((owner, name, instead),)
