"""docs/protocol.md says what the code does: rules by id, tables and definitions to the letter."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from enum import Enum, IntEnum
from pathlib import Path

import pytest

from demesh import light, snapshots
from demesh.ledger import events, proof, state
from demesh.ledger.events import Cause
from demesh.ledger.state import Result
from demesh.market import buyer
from demesh.metering import payer, provider
from demesh.wire import certificates, messages, offers, opbodies, readings, statements
from demesh.wire.kinds import FIRST_SIGNAL, KIND_BYTES_MAX, Kind, Reject
from demesh.wire.messages import MESSAGE_OF_KIND
from demesh.wire.offers import Refusal
from demesh.wire.opbodies import OpType
from demesh.wire.readings import EndReason, Why
from demesh.wire.topics import KINDS_OF_AREA, RELAYED
from demesh_consensus import StatementKind
from docs.definitions import definition

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "protocol.md").read_text("utf-8")
RULE = re.compile(r"\bR-[A-Z]+-[0-9]+")
DEFINED = re.findall(r"\*\*(R-[A-Z]+-[0-9]+)", TEXT)


def sources(*folders: str) -> Iterator[Path]:
    for folder in folders:
        for suffix in ("py", "pyx"):
            yield from sorted((ROOT / folder).rglob(f"*.{suffix}"))


def cited(*folders: str) -> dict[str, str]:
    """Every rule id in the sources below these folders, with one file that cites it."""
    return {
        rule: str(path.relative_to(ROOT))
        for path in sources(*folders)
        for rule in RULE.findall(path.read_text("utf-8"))
    }


def table(heading: str) -> list[list[str]]:
    """The cells of the table whose first row is `heading`, without that row and the rule below."""
    lines = TEXT.splitlines()
    start = lines.index(heading) + 2
    rows = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def flat(written: str) -> str:
    return re.sub(r"\s+", " ", written).strip()


# -- rules ----------------------------------------------------------------------------------------


def test_every_rule_that_code_or_tests_cite_is_in_the_protocol() -> None:
    found = cited("daemon", "consensus", "firmware_sim", "tests")
    assert {rule: where for rule, where in found.items() if rule not in DEFINED} == {}


def test_every_rule_of_the_protocol_is_cited_where_the_code_keeps_it() -> None:
    found = cited("daemon", "consensus", "firmware_sim")
    assert [rule for rule in DEFINED if rule not in found] == []


def test_every_rule_is_defined_once_and_no_other_is_mentioned() -> None:
    assert sorted(DEFINED) == sorted(set(DEFINED))
    assert set(RULE.findall(TEXT)) == set(DEFINED)


# -- tables ---------------------------------------------------------------------------------------


def test_the_table_of_kinds_is_that_of_the_code() -> None:
    payloads = {
        Kind.PROPOSAL: "Proposal",
        Kind.VOTE: "Statement",
        Kind.CERTIFICATE: "Certificate",
    } | {kind: cls.__name__ for kind, cls in MESSAGE_OF_KIND.items()}
    assert table("| kind | name | family | limit | payload |") == [
        [
            str(int(kind)),
            kind.name,
            "statement" if kind < FIRST_SIGNAL else "signal",
            str(KIND_BYTES_MAX[kind]),
            payloads[kind],
        ]
        for kind in Kind
    ]


def test_the_table_of_reject_codes_is_that_of_the_code() -> None:
    rows = table("| code | name | meaning |")
    assert [row[:2] for row in rows] == [[str(int(code)), code.name] for code in Reject]


def test_the_order_of_checks_names_the_codes_in_their_order() -> None:
    rule = flat(TEXT.partition("**R-WIRE-7")[2].partition("Before a frame")[0])
    places = [re.search(rf"\b{code.name}\b", rule) for code in Reject if code <= Reject.PAYLOAD]
    assert None not in places
    starts = [place.start() for place in places if place is not None]
    assert starts == sorted(starts)


def test_the_table_of_results_is_that_of_the_ledger() -> None:
    rows = table("| result | name | because |")
    assert [row[:2] for row in rows] == [[str(int(one)), one.name] for one in Result]


def test_the_table_of_topics_has_every_area_with_its_kinds() -> None:
    found = {}
    for topic, kinds, by, _, _ in table("| topic | kinds | published by | QoS | retained |"):
        area = topic.strip("`").split("/")[3]
        if area in KINDS_OF_AREA:
            found[area] = frozenset(Kind[name] for name in kinds.split(", "))
            assert ("also for others" in by or area == "tip") == (found[area] <= RELAYED)
    assert found == KINDS_OF_AREA
    others = re.search(r'"Also for others" are the kinds ([A-Z, ]+) and ([A-Z]+):', TEXT)
    assert others is not None
    names = {*others[1].split(", "), others[2]}
    assert {Kind[name] for name in names} == RELAYED


def test_the_table_of_records_has_every_key_of_the_ledger() -> None:
    found = {}
    for key, _ in table("| key | record |"):
        letter, *parts = key.replace("`", "").split(" ")
        sizes = [int(size) for size in re.findall(r"\((\d+)\)", " ".join(parts))]
        found[letter.encode()] = 1 + sum(sizes)
    assert found == state.KEY_BYTES


@pytest.mark.parametrize(
    ("who", "transitions"),
    [
        ("buyer", buyer.TRANSITIONS),
        ("provider", provider.TRANSITIONS),
        ("payer", payer.TRANSITIONS),
    ],
)
def test_the_tables_of_phases_are_those_of_the_code(
    who: str, transitions: dict[Enum, frozenset[Enum]]
) -> None:
    rows = table(f"| phase of the {who} | may become |")
    assert {before: {name for name in after.split(", ") if name} for before, after in rows} == {
        before.name: {phase.name for phase in after} for before, after in transitions.items()
    }


@pytest.mark.parametrize("enum", [Refusal, Why, EndReason, OpType, StatementKind])
def test_enumerations_are_listed_with_their_numbers(enum: type[IntEnum]) -> None:
    listed = ", ".join(f"{int(one)} {one.name}" for one in enum)
    assert re.search(rf"{enum.__name__}: {listed}[.;]", flat(TEXT))


# -- messages -------------------------------------------------------------------------------------


def described() -> dict[str, type]:
    """What is sent, shown, or hashed into the state root, by the name in the document."""
    found = {}
    for module in (
        *(certificates, offers, readings, opbodies, messages, statements),
        *(state, proof, light, snapshots),
    ):
        for name, cls in vars(module).items():
            own = isinstance(cls, type) and cls.__module__ == module.__name__
            if own and is_dataclass(cls) and cls not in (state.Mark, light.Proved):
                found[name.removeprefix("_")] = cls
    return found


def test_every_message_and_record_is_defined_field_by_field() -> None:
    written = {}
    for block in blocks("text"):
        for found in re.finditer(r"^([A-Z]\w+) = .*(?:\n    .*)*", block, re.MULTILINE):
            written[found[1]] = flat(found[0])
    assert written == {name: definition(cls) for name, cls in described().items()}


def test_the_fields_of_ledger_events_are_listed() -> None:
    rows = {name.strip("`"): listed for name, listed in table("| event | fields |")}
    classes = [cls for cls in vars(events).values() if is_dataclass(cls)]
    assert rows == {
        cls.__name__.lower(): ", ".join(f"`{one.name}`" for one in fields(cls)) for cls in classes
    }
    assert all(f'"{why}"' in TEXT for why in Cause)


# -- bytes ----------------------------------------------------------------------------------------


def hex_of(block: str) -> str:
    """The bytes of an annotated dump: what stands left of the first gap of two spaces."""
    left = (re.split(r"\s{2,}", line.strip())[0] for line in block.splitlines())
    return "".join(left).replace(" ", "")


def test_the_example_bytes_are_those_of_the_vectors() -> None:
    vectors = json.loads((ROOT / "tests" / "vectors" / "frames.json").read_text("ascii"))
    frames = {row["name"]: row.get("hex", "") for row in vectors["frames"]}
    vote, signed, ack = (hex_of(block) for block in blocks("hex"))
    assert vote == frames["statement VOTE"]
    assert signed == vectors["statement_signed_bytes"]
    assert frames["signal ACK"].startswith(ack + "5840")
