"""Brokers between the peers of a campaign, some of which lie, and each peer's border with them.

Without brokers the arena is one medium that delivers to all. With them everything goes over each of
them, under the same weather, and a peer's border does what the daemon's does (R-BRK): the first
copy counts, a signal is used once, a farewell needs the word of all brokers, and so does what keeps
a peer quiet. Brokers retain tips, tell of deaths, and connect again; a mind makes one a liar.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from demesh.brokers import Brokers, Manner
from demesh.membership.presence import Presence
from demesh.wire._reference import Window
from demesh_consensus import Certificate, Effect, Instant
from demesh_sim.campaign.arena import Arena
from demesh_sim.campaign.history import Violation
from demesh_sim.campaign.messages import GotBlocks, GotVotes, Message, Op, WantBlocks, WantVotes
from demesh_sim.campaign.peer import Peer, Watcher
from demesh_sim.campaign.weather import MS
from demesh_sim.lies import EVERY_NS, GONE, LyingBroker, Post, area_of, publisher_of

SIGNALS = (WantVotes, GotVotes, WantBlocks, GotBlocks)
SPARED = (Certificate, Op)

# A broker learns of a crash at once, or from the silence.
SILENCE_MS = 30_000


@dataclass(frozen=True, slots=True)
class Parcel:
    """What a post carries: a message with the life and number under which a peer signed it."""

    source: Peer
    message: Message
    number: int  # equal messages have equal ones
    mark: tuple[int, int] | None = None


@dataclass
class Border:
    """What a peer knows of its brokers, in one life; its replay windows last."""

    brokers: Brokers = field(default_factory=Brokers)
    presence: Presence = field(default_factory=Presence)
    windows: dict[int, Window] = field(default_factory=dict)

    def admit(self, me: int, post: Post, broker: int, now: Instant) -> Manner | None:
        """How a message came that is to be taken, as in `demesh.admission`; None if it is not."""
        area, parcel = area_of(post.topic), post.payload
        publisher = int(publisher_of(post.topic))
        if not isinstance(parcel, Parcel) or publisher == me:
            return None
        key = post.topic, parcel.number
        brought = self.brokers.copied(key, broker, now)
        if brought is not None:
            if not post.retained:
                self.presence.brought(name(publisher), broker)
            last = isinstance(parcel.message, SPARED) and self.brokers.everywhere(brought)
            return Manner.EVERYWHERE if last and not post.retained else None
        if area == "to" and not self._fresh(post, parcel, me, broker):
            return None
        if post.retained:
            return Manner.RETAINED
        self.brokers.brought(key, broker, now)
        self.presence.heard(name(publisher), broker)
        return Manner.EVERYWHERE if self.brokers.everywhere(1 << broker) else Manner.SOMEWHERE

    def _fresh(self, post: Post, parcel: Parcel, me: int, broker: int) -> bool:
        """Is it sealed for me by the publisher of its topic, and not used yet, on any broker?"""
        source = parcel.source.index
        if post.topic != f"to/{me}/{source}" or parcel.mark is None:
            return False
        return self.windows.setdefault(source, Window()).use(*parcel.mark)


class Exchange:
    """The brokers of an arena: one for each of `minds`, None being an honest one."""

    def __init__(self, arena: Arena, minds: Sequence[LyingBroker | None]) -> None:
        self._arena, self._minds = arena, tuple(minds)
        self._numbers: dict[Message, int] = {}
        self._signals: dict[Peer, int] = {}
        self._kept: list[dict[str, Post]] = [{} for _ in minds]
        self._lost: dict[tuple[int, Peer], Instant] = {}  # connections, and until when
        self.borders: dict[Peer, Border] = {}
        arena.carrier = self
        for peer in arena.hosts:
            self.booted(peer)
        for broker, mind in enumerate(self._minds):
            if mind is not None:
                arena.at(EVERY_NS, partial(self._muse, broker, mind))

    def linked(self, peer: Peer, broker: int) -> bool:
        """Is this peer connected to this broker?"""
        return (broker, peer) not in self._lost

    # -- from the arena ---------------------------------------------------------------------------

    def booted(self, peer: Peer) -> None:
        """A peer connects to all brokers; what they retained comes to it."""
        windows = self.borders[peer].windows if peer in self.borders else {}
        self.borders[peer] = border = Border(windows=windows)
        for broker in range(len(self._minds)):
            self._lost.pop((broker, peer), None)
            border.brokers.linked(broker, True)
            self._retained(broker, peer)

    def crashed(self, peer: Peer) -> None:
        """Its brokers publish its will, now or when they notice."""
        will = Post(f"{GONE}/{peer.index}", b"%d" % peer.life)
        for broker in range(len(self._minds)):
            wait = self._arena.fate.choice((0, self._arena.fate.randrange(SILENCE_MS))) * MS
            self._arena.at(self._arena.now + wait, partial(self._publish, broker, peer, will))

    def spread(self, source: Peer, message: Message, area: str) -> None:
        """A peer publishes on all brokers that it is connected to."""
        post = self._post(source, message, f"{area}/{source.index}")
        for broker in range(len(self._minds)):
            if self.linked(source, broker):
                self._publish(broker, source, post)

    def send(self, source: Peer, target: Peer, message: Message) -> None:
        """Something for one other: direct, or what a liar tells just this one."""
        direct = isinstance(message, SIGNALS)
        topic = f"to/{target.index}/{source.index}" if direct else f"vote/{source.index}"
        post = self._post(source, message, topic)
        for broker, mind in enumerate(self._minds):
            if not self.linked(source, broker):
                continue
            if mind is None or not mind.keeps(post, self._arena.now):
                self._carry(broker, source, target, post)

    # -- brokers ----------------------------------------------------------------------------------

    def _post(self, source: Peer, message: Message, topic: str) -> Post:
        number = self._numbers.setdefault(message, len(self._numbers))
        mark = None
        if isinstance(message, SIGNALS):
            self._signals[source] = self._signals.get(source, 0) + 1
            mark = source.life, self._signals[source]
        parcel = Parcel(source, message, number, mark)
        return Post(topic, parcel, retained=area_of(topic) == "tip")

    def _publish(self, broker: int, source: Peer, post: Post) -> None:
        mind = self._minds[broker]
        if mind is not None and mind.keeps(post, self._arena.now):
            return
        if post.retained:
            self._kept[broker][post.topic] = replace(post, retained=True)
        for target in self._arena.hosts:
            if self._arena.know(source, target):
                self._carry(broker, source, target, replace(post, retained=False))

    def _carry(self, broker: int, source: Peer, target: Peer, post: Post) -> None:
        arena = self._arena
        here = source.index, target.index
        for due in arena.weather.arrivals(*here, arena.now, arena.random):
            arena.at(due, partial(self._deliver, broker, target, post))

    def _deliver(self, broker: int, target: Peer, post: Post) -> None:
        mind, now = self._minds[broker], self._arena.now
        if mind is None:
            self._reach(broker, target, post)
            return
        for wait, given in mind.instead(post, str(target.index), now):
            if wait:
                self._arena.at(now + wait, partial(self._late, mind, broker, target, given))
            else:
                self._reach(broker, target, given)

    def _late(self, mind: LyingBroker, broker: int, target: Peer, post: Post) -> None:
        """What a liar held back; once it has stopped it forgets that."""
        if not mind.honest:
            self._reach(broker, target, post)

    def _retained(self, broker: int, peer: Peer) -> None:
        for post in list(self._kept[broker].values()):
            self._arena.at(self._arena.now + MS, partial(self._deliver, broker, peer, post))

    def _muse(self, broker: int, mind: LyingBroker) -> None:
        """What a liar does by itself."""
        arena = self._arena
        arena.at(arena.now + EVERY_NS, partial(self._muse, broker, mind))
        if mind.honest:
            return
        for target in [peer for peer in arena.hosts if peer.up]:
            client = str(target.index)
            for post in mind.invents(client, arena.now):
                self._reach(broker, target, post)
            lasts = mind.cuts(client, arena.now)
            if lasts and self.linked(target, broker):
                self._unlink(broker, target, lasts)

    # -- the end of a line ------------------------------------------------------------------------

    def _unlink(self, broker: int, peer: Peer, lasts: Instant) -> None:
        arena, border = self._arena, self.borders[peer]
        self._lost[broker, peer] = until = arena.now + lasts
        border.brokers.linked(broker, False)
        for gone in border.presence.unlinked(border.brokers.up):
            self._gone(peer, gone)
        arena.at(until, partial(self._link, broker, peer, peer.life))

    def _link(self, broker: int, peer: Peer, life: int) -> None:
        if peer.life != life or self.linked(peer, broker):
            return  # it has connected since, after a restart
        del self._lost[broker, peer]
        border = self.borders[peer]
        border.brokers.linked(broker, True)
        self._retained(broker, peer)
        tip = peer.core.tip.certificate
        if not border.brokers.others_up(broker):
            peer.core.catchup.start(tip, self._arena.local(peer))
        elif tip is not None and peer.adversary is None:
            self._arena.tell(peer, tip)
            self._publish(broker, peer, self._post(peer, tip, f"tip/{peer.index}"))

    def _reach(self, broker: int, peer: Peer, post: Post) -> None:
        arena = self._arena
        if not peer.up or not self.linked(peer, broker):
            return
        for watcher in arena.watchers:
            watcher.brought(peer, broker, post)
        border = self.borders[peer]
        if area_of(post.topic) == GONE:
            who, payload = publisher_of(post.topic).encode(), post.payload
            assert isinstance(payload, bytes)
            if border.presence.gone(who, payload, broker, border.brokers.up):
                self._gone(peer, who)
            return
        manner = border.admit(peer.index, post, broker, arena.now)
        if manner is not None:
            assert isinstance(post.payload, Parcel)
            for watcher in arena.watchers:
                watcher.admitted(peer, post)
            arena.arrive(post.payload.source, peer, post.payload.message, manner)

    def _gone(self, peer: Peer, who: bytes) -> None:
        arena = self._arena
        for watcher in arena.watchers:
            watcher.missed(peer, int(who))
        arena.input(peer, partial(self._told_gone, peer, int(who)))

    def _told_gone(self, peer: Peer, voter: int) -> list[Effect]:
        return peer.epochs.receive_gone(voter, self._arena.local(peer))


class Couriers(Watcher):
    """What must hold at every border, counted from what brokers brought.

    farewell   a peer misses another only if that is the last word of each broker it is connected to
    once       a signal is admitted once in a life
    """

    def __init__(self, exchange: Exchange, brokers: int, arena: Arena) -> None:
        self._exchange, self._brokers, self._arena = exchange, brokers, arena
        self._gone: dict[tuple[Peer, int, int], bool] = {}
        self._used: dict[tuple[Peer, int, tuple[int, int]], None] = {}

    def booted(self, peer: Peer) -> None:
        """A new life knows nothing of before."""
        self._gone = {place: word for place, word in self._gone.items() if place[0] is not peer}

    def brought(self, peer: Peer, broker: int, post: Post) -> None:
        area = area_of(post.topic)
        statement = isinstance(post.payload, Parcel) and area != "to" and not post.retained
        if area == GONE or statement:
            self._gone[peer, broker, int(publisher_of(post.topic))] = area == GONE

    def missed(self, peer: Peer, voter: int) -> None:
        for broker in range(self._brokers):
            linked = self._exchange.linked(peer, broker)
            if linked and not self._gone.get((peer, broker, voter), False):
                text = f"misses voter {voter}, whom broker {broker} brings"
                raise Violation("farewell", peer.index, self._arena.now, text)

    def admitted(self, peer: Peer, post: Post) -> None:
        parcel = post.payload
        if not isinstance(parcel, Parcel) or parcel.mark is None:
            return
        used = peer, parcel.source.index, parcel.mark
        if used in self._used:
            text = f"takes a signal of voter {parcel.source.index} twice"
            raise Violation("once", peer.index, self._arena.now, text)
        self._used[used] = None


def name(index: int) -> bytes:
    """A peer's name in `Presence`."""
    return b"%d" % index
