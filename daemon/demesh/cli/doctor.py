"""`demesh doctor`: look at what this device depends on, and say what to change."""

from __future__ import annotations

import argparse
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from demesh.errors import ConfigError, TemporaryError

if TYPE_CHECKING:
    from demesh.cli.facts import Patient
    from demesh.cli.members import Mesh
    from demesh.cli.probing import Device
    from demesh.cli.verdicts import Finding, Grade
    from demesh.transport.client import Link

WIDTH = 100  # of a line, in characters
MARGIN = 21  # of what is said, behind how bad it is and what about


def add_command(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register `doctor`."""
    parser = subparsers.add_parser("doctor", help="look for what is wrong, and say what to change")
    patients = parser.add_subparsers(metavar="WHAT", required=True)
    brokers = patients.add_parser(
        "brokers", help="this device's brokers: reachable, rights, limits, speed"
    )
    brokers.add_argument("--config", type=Path, required=True, help="demesh.toml of the device")
    brokers.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Look at each broker; 0 if a mesh runs over them, else 75 or 78. Raises DemeshError."""
    from demesh.cli.links import links  # noqa: PLC0415
    from demesh.cli.members import read_mesh  # noqa: PLC0415
    from demesh.cli.probing import crossings, examine  # noqa: PLC0415
    from demesh.cli.verdicts import clock, crossing, verdicts  # noqa: PLC0415
    from demesh.wire import identity  # noqa: PLC0415

    path: Path = arguments.config
    mesh = read_mesh(path)
    device = _device(mesh)
    patient = _patient(mesh, device)
    found: list[Finding] = []
    up: list[tuple[Link, int]] = []
    ways = links(path.parent, mesh.config, identity.text(device.id))
    for link, broker in zip(ways, mesh.config.brokers, strict=True):
        print(link.url, flush=True)  # it takes some ten seconds until the rest is known
        certified = bool(broker.client_certificate or broker.psk_identity)
        facts = examine(link, device, certified=certified)
        found += _show(verdicts(facts, patient))
        if facts.failed is None:
            up.append((link, facts.level))
    print("this device")
    if len(up) > 1:
        found += _show([crossing(*urls) for urls in crossings(up, device)])
    found += _show([clock(patient)])
    return _exit_code([finding.grade for finding in found])


def _device(mesh: Mesh) -> Device:
    from demesh.cli.probing import Device  # noqa: PLC0415
    from demesh.storage.keys import load_key  # noqa: PLC0415
    from demesh.wire import identity  # noqa: PLC0415

    key = load_key(mesh.folder / mesh.config.device.key)
    return Device(identity.device_id(bytes(key.verify_key)), mesh.id)


def _patient(mesh: Mesh, device: Device) -> Patient:
    from demesh.cli.facts import Patient  # noqa: PLC0415
    from demesh.wire import identity  # noqa: PLC0415

    return Patient(
        identity.text(device.id),
        identity.text(mesh.id[:16]),
        sum(1 for _ in mesh.ledger.members()),
        mesh.config.mesh.profile,
        mesh.ledger.time_s - int(time.time()),
    )


def _show(findings: Sequence[Finding]) -> Sequence[Finding]:
    """Print them, and give them back."""
    for finding in findings:
        _print(f"  {finding.grade.value:<8} {finding.about:<9}", finding.text)
        if finding.change:
            _print("           change", finding.change)
    return findings


def _print(head: str, text: str) -> None:
    # A broker's own words among them shall do nothing to a terminal.
    harmless = "".join(letter if letter.isprintable() else "?" for letter in text)
    lines = textwrap.wrap(harmless, WIDTH - MARGIN, break_long_words=False, break_on_hyphens=False)
    print(f"{head:<{MARGIN - 1}} {lines[0] if lines else ''}")
    for line in lines[1:]:
        print(" " * MARGIN + line)


def _exit_code(grades: Sequence[Grade]) -> int:
    from demesh.cli.verdicts import Grade  # noqa: PLC0415

    if Grade.WRONG in grades:
        return ConfigError.exit_code
    return TemporaryError.exit_code if Grade.UNREACHABLE in grades else 0
