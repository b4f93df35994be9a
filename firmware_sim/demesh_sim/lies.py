"""What a lying broker does with what it is given: named ways to lie, one class each.

A broker sees every message and can keep, copy, move, hold back and repeat it, tell each client
something else, and speak in anybody's name where nothing is signed: of wills, and of what it says
it had retained. It signs nothing. The same classes lie to cores in the campaign on consensus and to
whole nodes in the virtual network; what a payload is they do not know.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from random import Random

from demesh.ports import MILLISECOND, SECOND, Instant

# How often a liar thinks of something by itself.
EVERY_NS = 200 * MILLISECOND

# It lies in other ways after so long, or a season of a minute would know one of them.
MOOD_S = (5, 30)

# Of the messages it saw: so many of the latest, and of those from long ago.
RECENT, ANCIENT = 400, 200

GONE = "gone"


# What is said again to keep others quiet: of so many of the latest messages so many of each area.
HUSHED, HUSHED_EACH = 64, 2

# And the latest tips after so long, when somebody who is kept apart says its own.
HUSHED_MS = (5, 20, 50, 100, 150, 200, 300, 400, 500, 600)


@dataclass(frozen=True, slots=True)
class Post:
    """A message between a broker and a client; the last level of a topic says who published it."""

    topic: str
    payload: object
    retained: bool = False


Delivery = tuple[Instant, Post]
"""After how long, and what."""


@lru_cache(4096)
def area_of(topic: str) -> str:
    """What a topic is for: the level before the publisher's, or two before in direct messages."""
    levels = topic.split("/")
    return "to" if levels[-3:-2] == ["to"] else "".join(levels[-2:-1])


def publisher_of(topic: str) -> str:
    """Whose topic it is."""
    return topic.rpartition("/")[2]


def will_of(topic: str) -> str:
    """Where the same publisher's farewell would come."""
    levels = topic.split("/")
    above = -3 if area_of(topic) == "to" else -2
    return "/".join([*levels[:above], GONE, levels[-1]])


class Memory:
    """All that a liar remembers, and what it may make up."""

    def __init__(
        self, dice: Random, clients: tuple[str, ...], garbage: Callable[[], object]
    ) -> None:
        self.dice, self.garbage = dice, garbage
        self.victims = frozenset(dice.sample(clients, max(1, len(clients) // 3)))
        self.recent: deque[Post] = deque(maxlen=RECENT)
        self.ancient: list[Post] = []
        self.kept: dict[str, list[Post]] = {}  # what was to be retained, every version
        self.wills: dict[str, None] = {}
        self.topics: dict[str, list[str]] = {}  # by area

    def see(self, post: Post) -> None:
        """A client published this."""
        if not area_of(post.topic):
            return  # whatever it is, no mesh reads it
        self.recent.append(post)
        if len(self.ancient) < ANCIENT:
            self.ancient.append(post)
        elif self.dice.randrange(100) == 0:
            self.ancient[self.dice.randrange(ANCIENT)] = post
        if post.retained:  # the latest last
            versions = self.kept.pop(post.topic, [])
            self.kept[post.topic] = [*versions, replace(post, retained=False)]
        area = area_of(post.topic)
        topics = self.topics.setdefault(area, [])
        if post.topic not in topics:
            topics.append(post.topic)
            if area != GONE:
                self.wills[will_of(post.topic)] = None


class Lie:
    """One way to lie; each method has an honest default."""

    def __init__(self, memory: Memory, dice: Random, clients: tuple[str, ...]) -> None:
        self.memory, self.dice, self.clients = memory, dice, clients

    def keeps(self, post: Post) -> bool:
        """Is this acknowledged and thrown away?"""
        return False

    def instead(self, post: Post, client: str, now: Instant) -> list[Delivery]:
        """What this client gets for this message."""
        return [(0, post)]

    def invents(self, client: str, now: Instant) -> list[Post]:
        """What this client gets for no reason."""
        return []

    def cuts(self, client: str) -> Instant:
        """For how long this client's connection is lost now, if it is."""
        return 0


class Dropping(Lie):
    """Loses a part, small or large, of what it is given."""

    def __init__(self, memory: Memory, dice: Random, clients: tuple[str, ...]) -> None:
        super().__init__(memory, dice, clients)
        self._share = dice.choice((0.1, 0.5, 0.9))

    def instead(self, post: Post, client: str, now: Instant) -> list[Delivery]:
        return [] if self.dice.random() < self._share else [(0, post)]


class Reordering(Lie):
    """Lets what comes later overtake."""

    def instead(self, post: Post, client: str, now: Instant) -> list[Delivery]:
        return [(self.dice.randrange(self.dice.choice((50, 3000))) * MILLISECOND, post)]


class Doubling(Lie):
    """Says everything once more, and again later."""

    def instead(self, post: Post, client: str, now: Instant) -> list[Delivery]:
        later = self.dice.randrange(20_000) * MILLISECOND
        return [(0, post), (0, post), (later, post)]


class Withholding(Lie):
    """Lets nothing through for seconds to minutes, and then all at once."""

    def __init__(self, memory: Memory, dice: Random, clients: tuple[str, ...]) -> None:
        super().__init__(memory, dice, clients)
        self._until: Instant | None = None

    def instead(self, post: Post, client: str, now: Instant) -> list[Delivery]:
        if self._until is None or now >= self._until + SECOND:
            self._until = now + self.dice.choice((1, 5, 30, 120)) * SECOND
        return [(max(0, self._until - now), post)]


class OnlyWills(Lie):
    """Brings nothing but news of deaths, true and made up."""

    def instead(self, post: Post, client: str, now: Instant) -> list[Delivery]:
        return [(0, post)] if area_of(post.topic) == GONE else []

    def invents(self, client: str, now: Instant) -> list[Post]:
        return _wills(self.memory, client)


class Undertaking(Lie):
    """Declares everybody gone, again and again, and brings all else."""

    def invents(self, client: str, now: Instant) -> list[Post]:
        return _wills(self.memory, client) if self.dice.random() < 0.3 else []


class Replaying(Lie):
    """Says again what was said just now or long ago, of every kind, as if it were new."""

    def invents(self, client: str, now: Instant) -> list[Post]:
        pool = self.dice.choice((list(self.memory.recent), self.memory.ancient))
        chosen = self.dice.sample(pool, min(len(pool), self.dice.randrange(6)))
        return [replace(post, retained=False) for post in chosen]


class Hoarding(Lie):
    """Shows what it retained long ago, as retained or as new, or rubbish in its place."""

    def instead(self, post: Post, client: str, now: Instant) -> list[Delivery]:
        versions = self.memory.kept.get(post.topic)
        if not post.retained or not versions:
            return [(0, post)]
        return [(0, replace(self.dice.choice(versions), retained=True))]

    def invents(self, client: str, now: Instant) -> list[Post]:
        if not self.memory.kept or self.dice.random() < 0.6:
            return []
        versions = self.memory.kept[self.dice.choice(list(self.memory.kept))]
        old, retained = self.dice.choice(versions), self.dice.random() < 0.7
        what = self.dice.choice((old.payload, old.payload, old.payload, None))
        payload = self.memory.garbage() if what is None else what
        return [replace(old, payload=payload, retained=retained)]


class Partial(Lie):
    """Gives each topic to some of its clients only, and to others after a while."""

    def __init__(self, memory: Memory, dice: Random, clients: tuple[str, ...]) -> None:
        super().__init__(memory, dice, clients)
        self._heard: dict[tuple[str, str], bool] = {}

    def instead(self, post: Post, client: str, now: Instant) -> list[Delivery]:
        place = post.topic, client
        if place not in self._heard:
            self._heard[place] = self.dice.random() < 0.5
        return [(0, post)] if self._heard[place] else []


class Misfiling(Lie):
    """Puts messages on the topics of other publishers."""

    def instead(self, post: Post, client: str, now: Instant) -> list[Delivery]:
        others = self.memory.topics.get(area_of(post.topic))
        if not others or self.dice.random() < 0.4:
            return [(0, post)]
        moved = replace(post, topic=self.dice.choice(others))
        return self.dice.choice(([(0, moved)], [(0, moved), (0, post)]))


class Swallowing(Lie):
    """Acknowledges what some clients publish and throws it away."""

    def __init__(self, memory: Memory, dice: Random, clients: tuple[str, ...]) -> None:
        super().__init__(memory, dice, clients)
        self._unheard = frozenset(dice.sample(clients, dice.randint(1, len(clients))))

    def keeps(self, post: Post) -> bool:
        return publisher_of(post.topic) in self._unheard


class Flapping(Lie):
    """Hangs up on its clients every now and then, and takes them back."""

    def cuts(self, client: str) -> Instant:
        if self.dice.random() > 0.05:
            return 0
        return self.dice.randint(200, 2000) * MILLISECOND


class Hushing(Lie):
    """Keeps all but a few busy with what was said before, so that nobody says it to those few."""

    def instead(self, post: Post, client: str, now: Instant) -> list[Delivery]:
        if client in self.memory.victims:
            return []
        if publisher_of(post.topic) not in self.memory.victims or area_of(post.topic) != "tip":
            return [(0, post)]
        # One of those few says that it is behind: before anybody answers.
        tips = [one[-1] for one in self.memory.kept.values() if area_of(one[-1].topic) == "tip"]
        tips = [tip for tip in tips if publisher_of(tip.topic) != client]
        return [(wait * MILLISECOND, tip) for wait in HUSHED_MS for tip in tips[-2:]]

    def invents(self, client: str, now: Instant) -> list[Post]:
        if client in self.memory.victims:
            return []
        last: dict[str, list[Post]] = {"tip": [], "vote": [], "op": []}
        for post in list(self.memory.recent)[-HUSHED:]:
            if publisher_of(post.topic) != client and (area := area_of(post.topic)) in last:
                last[area].append(replace(post, retained=False))
        return [post for said in last.values() for post in said[-HUSHED_EACH:]]


LIES: tuple[type[Lie], ...] = (
    Dropping,
    Reordering,
    Doubling,
    Withholding,
    OnlyWills,
    Undertaking,
    Replaying,
    Hoarding,
    Partial,
    Misfiling,
    Swallowing,
    Flapping,
    Hushing,
)


class LyingBroker:
    """One broker's mind: it lies in some of these ways at a time, and changes its mind."""

    def __init__(
        self,
        dice: Random,
        clients: tuple[str, ...],
        garbage: Callable[[], object],
        ways: tuple[type[Lie], ...] = LIES,
    ) -> None:
        self.honest = False
        self._dice, self._clients, self._ways = dice, clients, ways
        self._memory = Memory(dice, clients, garbage)
        self._mood: tuple[Lie, ...] = ()
        self._until: Instant = 0

    def choose(self, victim: str) -> None:
        """From now on this is whom it keeps apart, when it keeps anybody apart."""
        self._memory.victims = frozenset((victim,))

    @property
    def mood(self) -> str:
        """In which ways it lies just now."""
        return "honest" if self.honest else ", ".join(type(lie).__name__ for lie in self._mood)

    def keeps(self, post: Post, now: Instant) -> bool:
        """A client published this: is it acknowledged and thrown away?"""
        self._memory.see(post)
        return any(lie.keeps(post) for lie in self._lies(now))

    def instead(self, post: Post, client: str, now: Instant) -> list[Delivery]:
        """What this client gets for this message."""
        deliveries: list[Delivery] = [(0, post)]
        for lie in self._lies(now):
            deliveries = [
                (wait + more, given)
                for wait, one in deliveries
                for more, given in lie.instead(one, client, now)
            ]
        return deliveries

    def invents(self, client: str, now: Instant) -> list[Post]:
        """What this client gets for no reason; asked every `EVERY_NS`."""
        return [post for lie in self._lies(now) for post in lie.invents(client, now)]

    def cuts(self, client: str, now: Instant) -> Instant:
        """For how long this client's connection is lost now, if it is; asked every `EVERY_NS`."""
        return max((lie.cuts(client) for lie in self._lies(now)), default=0)

    def _lies(self, now: Instant) -> tuple[Lie, ...]:
        if self.honest:
            return ()
        if now >= self._until:
            self._until = now + self._dice.randint(*MOOD_S) * SECOND
            count = min(len(self._ways), self._dice.choice((1, 1, 2, 3)))
            chosen = self._dice.sample(self._ways, count)
            self._mood = tuple(lie(self._memory, self._dice, self._clients) for lie in chosen)
        return self._mood


def _wills(memory: Memory, client: str) -> list[Post]:
    """Farewells of everybody else, in the name of a connection that has yet to come."""
    others = [topic for topic in memory.wills if publisher_of(topic) != client]
    return [Post(topic, b"18446744073709551615") for topic in others]
