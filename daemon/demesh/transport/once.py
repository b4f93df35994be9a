"""One publication over connections of its own, for tools that have one thing to say."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from demesh.errors import DemeshError, RefusedError, TemporaryError
from demesh.ports import Publish
from demesh.transport.client import Desk, Link, connected
from demesh.transport.outbox import Letter, Outbox
from demesh.transport.packets import Level
from demesh.transport.patience import REQUEST_S
from demesh.transport.reasons import (
    LEVEL_REFUSED,
    Refused,
    UnansweredError,
    check_login,
    reason_of,
)


async def publish_once(links: Sequence[Link], publish: Publish) -> None:
    """Have it acknowledged by the first broker that does; raises what was wrong with the last."""
    failure: DemeshError | None = None
    for link in links:
        try:
            await _publish(link, publish)
        except DemeshError as error:
            failure = error
        else:
            return
    assert failure is not None, "no broker"
    raise failure


async def _publish(link: Link, publish: Publish) -> None:
    """Connect, publish, have it acknowledged, leave; raises ConfigError, TemporaryError."""
    try:
        try:
            await _carry(link, publish, Level.V5)
        except Refused as error:
            if error.code != LEVEL_REFUSED:
                raise
            await _carry(link, publish, Level.V3)
        except UnansweredError:
            await _carry(link, publish, Level.V3)
    except TimeoutError:
        raise TemporaryError(f"{link.url}: the broker does not answer; try again later") from None
    except OSError as error:
        if isinstance(error, Refused):
            check_login(link.url, error.code)
        raise TemporaryError(f"{link.url}: no broker: {reason_of(error)}; is it running?") from None


async def _carry(link: Link, publish: Publish, level: Level) -> None:
    """Raises OSError, and RefusedError if this login may not say it."""
    outbox = Outbox()
    refusals: list[str] = []
    desk = Desk(outbox, lambda _: None, lambda topic, reason: refusals.append(f"{topic}: {reason}"))
    outbox.put(Letter(publish, asyncio.get_running_loop().time()))
    async with connected(link, desk, level) as connection:
        try:
            async with asyncio.TaskGroup() as group:
                losing = group.create_task(connection.ended(), name="connection")
                arrived = await outbox.emptied(2 * REQUEST_S)
                losing.cancel()
        except ExceptionGroup as lost:
            raise lost.exceptions[0] from None
    if refusals:
        raise RefusedError(f"{link.url} does not take {refusals[0]}")
    if not arrived:
        raise TimeoutError
