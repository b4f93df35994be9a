"""A client's connections to all brokers, which look like one: what `demesh.transport.fanout` does.

Everything is published on all that are up. For one that is not, nothing waits while another is up:
what it misses the others bring, and when it is back the node says again what brokers retain.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from demesh.ports import Publish
from demesh_sim.client import Client, Phase
from demesh_sim.network import Network


class Uplinks:
    """One client of each network; a new one for every start of the device's daemon."""

    def __init__(
        self,
        networks: Sequence[Network],
        client_id: str,
        subscriptions: Sequence[str],
        will: tuple[str, bytes],
        linked: Callable[[int, bool], None],
        received: Callable[[int, str, bytes, bool], None],
    ) -> None:
        self._networks = tuple(networks)
        self.clients: tuple[Client, ...] = tuple(
            network.join(
                client_id, subscriptions, will, partial(linked, broker), partial(received, broker)
            )
            for broker, network in enumerate(networks)
        )

    def publish(self, message: Publish) -> None:
        """On all brokers that are up, or on the one it is for; if none is up it waits."""
        up = [client for client in self.clients if client.phase is Phase.UP]
        if message.broker is not None:
            up = [self.clients[message.broker]]
        for client in up or self.clients:
            client.publish(message)

    def leave(self) -> None:
        """Say goodbye everywhere."""
        for client in self.clients:
            client.leave()

    def strand(self) -> None:
        """The client lost power."""
        for network, client in zip(self._networks, self.clients, strict=True):
            network.strand(client)


def speaker(networks: Sequence[Network], name: str) -> Uplinks:
    """Somebody who only publishes."""
    return Uplinks(networks, name, ("nothing",), ("nothing", b""), _ignore, _ignore)


def _ignore(*_: object) -> None:
    """What comes is not for it."""
