"""`demesh member renew-vote-key`: another key to vote with, for a device that lost its journal.

Theory of operation. Which key votes, the ledger says; `vote.key` must follow it. So the new key is
made beside it, and takes its place only when it is on record:

    vote.key.next made -> the op is decided -> vote.key.retired-N is the old one -> next is renamed

Every step is durable before the next. Whatever ends it in between, the old key is in `vote.key` or
in a retired file, the new one in `vote.key.next` or in `vote.key`, and the same command goes on
where it was: a next key that is on record needs no op any more.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from demesh.cli.changes import submit, with_vote_key
from demesh.cli.members import load_owner_keys, read_mesh
from demesh.errors import ConfigError, KeyFileError
from demesh.ledger.enrolment import enrol
from demesh.storage.durable import sync_folder
from demesh.storage.keys import create_key, load_key


def renew(config: Path, owner_keys: Sequence[Path]) -> int:
    """Renew the key and say what to do now; raises DemeshError."""
    mesh = read_mesh(config)
    name, place = mesh.config.device.name, mesh.folder / mesh.config.device.vote_key
    known = mesh.named(name)
    if known is None:
        raise ConfigError(
            f"{name} is no member of {mesh.body.name}, so it has no vote key there to replace"
        )
    _, member = known
    owners = load_owner_keys(mesh, owner_keys)
    fresh = place.with_name(f"{place.name}.next")
    key = load_key(fresh) if fresh.exists() else create_key(fresh)
    public = bytes(key.verify_key)
    if member.certificate.vote_key != public:
        certificate = with_vote_key(mesh, member.certificate, public, owners)
        body = enrol(mesh.ledger, certificate, member.weight, owners.values())
        print("\n".join(submit(config, mesh, body)))
    retired = _swap(place, fresh)
    print(f"{place}: the new vote key; the old one is kept as {retired.name}")
    print(f"restart the daemon of {name} now: until it has read the new key, it only observes")
    return 0


def _swap(place: Path, fresh: Path) -> Path:
    """Put the new key in its place, keep the old one beside it; raises KeyFileError."""
    try:
        retired = _retire(place)
        fresh.replace(place)
        sync_folder(place.parent)
    except OSError as error:
        raise KeyFileError(
            f"{place}: the new vote key is on record, but {fresh.name} cannot be renamed to "
            f"{place.name}: {error.strerror}; give the same command again"
        ) from None
    return retired


def _retire(place: Path) -> Path:
    """A second, lasting name for the old key: the first that is free, or that it has already."""
    number = 1
    while True:
        retired = place.with_name(f"{place.name}.retired-{number}")
        try:
            os.link(place, retired)
        except FileExistsError:
            if not retired.samefile(place):
                number += 1
                continue
        sync_folder(place.parent)
        return retired
