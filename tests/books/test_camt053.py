"""A bank's statement: which credits are whose, and one line for every broken file."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demesh.books import camt053
from demesh.books.camt053 import Credit, Match, match, read
from demesh.books.reference import reference_of
from demesh.errors import InputError

ADA, BEN = bytes(range(16)), bytes(range(16, 32))
REFERENCE = reference_of(ADA)
SPACED = " ".join(REFERENCE[place : place + 4] for place in range(0, 25, 4))


def entry(
    *details: str, amount: str = "12.50", currency: str = "EUR", side: str = "CRDT", **more: str
) -> str:
    status = more.get("status", "<Sts><Cd>BOOK</Cd></Sts>")
    return (
        f'<Ntry><Amt Ccy="{currency}">{amount}</Amt><CdtDbtInd>{side}</CdtDbtInd>'
        f"{more.get('reversal', '')}{status}<BookgDt><Dt>2026-11-30</Dt></BookgDt>"
        f"<AcctSvcrRef>bank 1</AcctSvcrRef><NtryDtls>{''.join(details)}</NtryDtls></Ntry>"
    )


def paid(words: str, amount: str = "") -> str:
    return f"<TxDtls>{amount}{words}</TxDtls>"


def free(text: str) -> str:
    return f"<RmtInf><Ustrd>{text}</Ustrd></RmtInf>"


def statement(*entries: str, version: str = "camt.053.001.08") -> bytes:
    return (
        f'<?xml version="1.0"?><Document xmlns="urn:iso:std:iso:20022:tech:xsd:{version}">'
        "<BkToCstmrStmt><Stmt><Acct><Id><IBAN>NL91ABNA0417164300</IBAN></Id></Acct>"
        f"{''.join(entries)}</Stmt></BkToCstmrStmt></Document>"
    ).encode()


def matched(*entries: str) -> list[tuple[int, Match, bytes | None]]:
    credits = read(statement(*entries), "s.xml")
    return [(row.credit.cents, row.match, row.account) for row in match(credits, [ADA, BEN], "EUR")]


@pytest.mark.parametrize(
    "words",
    [
        f"<Refs><EndToEndId>{REFERENCE}</EndToEndId></Refs>",
        f"<RmtInf><Strd><CdtrRefInf><Ref>{REFERENCE}</Ref></CdtrRefInf></Strd></RmtInf>",
        free(f"rent {SPACED.lower()} thanks"),
        f"<RmtInf><Ustrd>for {SPACED[:9]}</Ustrd><Ustrd>{SPACED[9:]}</Ustrd></RmtInf>",
    ],
)
def test_the_reference_is_found_wherever_a_payer_may_write_it(words: str) -> None:
    assert matched(entry(paid(words))) == [(1250, Match.MATCHED, ADA)]


def test_what_is_for_nobody_or_in_another_currency_is_said_so() -> None:
    stranger = reference_of(bytes(16))
    assert matched(
        entry(paid(free("rent"))),
        entry(),
        entry(paid(free(stranger))),
        entry(paid(free(REFERENCE[:-1] + "A"))),
        entry(paid(free(f"{REFERENCE} or {reference_of(BEN)}"))),
        entry(paid(free(REFERENCE)), currency="USD"),
    ) == [
        *[(1250, Match.UNKNOWN, None)] * 5,
        (1250, Match.CURRENCY, ADA),
    ]


def test_only_what_is_booked_and_came_in_counts() -> None:
    words = paid(free(REFERENCE))
    assert (
        matched(
            entry(words, side="DBIT"),
            entry(words, reversal="<RvslInd>true</RvslInd>"),
            entry(words, status="<Sts><Cd>PDNG</Cd></Sts>"),
            entry(words, amount="0.00"),
        )
        == []
    )


def test_the_older_version_is_read_as_well() -> None:
    old = entry(paid(free(REFERENCE)), status="<Sts>BOOK</Sts>")
    (credit,) = read(statement(old, version="camt.053.001.02"), "s.xml")
    assert match([credit], [ADA], "EUR")[0].match is Match.MATCHED


def test_several_in_one_entry_are_told_apart_if_they_add_up_and_else_are_nobodys() -> None:
    def part(euros: str, identity: bytes) -> str:
        return paid(free(reference_of(identity)), f'<Amt Ccy="EUR">{euros}</Amt>')

    assert matched(entry(part("2.50", ADA), part("10", BEN))) == [
        (250, Match.MATCHED, ADA),
        (1000, Match.MATCHED, BEN),
    ]
    lost = [(1250, Match.UNKNOWN, None)]
    assert matched(entry(part("2.50", ADA), part("9.99", BEN))) == lost
    assert matched(entry(paid(free(REFERENCE)), paid(free("rent")))) == lost
    taken = "<CdtDbtInd>DBIT</CdtDbtInd>"
    assert matched(entry(part("12.50", ADA), paid(taken, '<Amt Ccy="EUR">1</Amt>'))) == lost


def test_a_credit_has_one_identity_in_every_file_and_its_twin_another() -> None:
    one = entry(paid(free(REFERENCE)))
    first = read(statement(one, one), "s.xml")
    again = read(statement(entry(amount="1"), one), "later.xml")
    assert first[0].identity == again[1].identity
    assert len({credit.identity for credit in (*first, *again)}) == 3


def test_an_identity_is_not_ambiguous_about_where_a_word_ends() -> None:
    one = Credit("a", "b", 1, "EUR", "x", ("yz",), 0)
    assert one.identity != Credit("a", "b", 1, "EUR", "xy", ("z",), 0).identity


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not XML"),
        (b"\xff\xfe\x00", "not XML"),
        (b"<a>", "not XML"),
        (b"<?xml version='1.0' encoding='utf-7'?><a/>", "not XML"),
        (b"<?xml version='1.0' encoding='nothing'?><a/>", "not XML"),
        (b"<html/>", "expected a statement"),
        (statement(version="camt.053.001.99"), "it is camt.053.001.99"),
        (b"<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>", "DOCTYPE"),
        (statement(entry(amount="1e3")), "entry 1: Amt is '1e3'"),
        (statement(entry(amount="-1")), "entry 1: Amt is"),
        (statement(entry(amount="NaN")), "entry 1: Amt is"),
        (statement(entry(amount="9" * 20)), "entry 1: Amt is"),
        (statement(entry(), entry(amount="0.001")), "entry 2: Amt is 0.001, which is no whole"),
        (statement(entry(currency="euros")), "Ccy is 'euros'"),
        (statement(entry(side="")), "CdtDbtInd is ''"),
        (statement(entry()).replace(b"2026-11-30", b"30.11.2026"), "BookgDt is '30.11.2026'"),
        (statement(entry()).replace(b"IBAN", b"IBEN"), "does not name its account"),
    ],
)
def test_what_is_wrong_is_one_line_that_names_file_and_entry(content: bytes, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        read(content, "s.xml")
    assert str(caught.value).startswith("s.xml: ")
    assert "\n" not in str(caught.value)


def test_a_file_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camt053, "ENTRIES_MAX", 1)
    assert len(read(statement(entry()), "s.xml")) == 1
    with pytest.raises(InputError, match="more than 1 entries"):
        read(statement(entry(), entry()), "s.xml")
    monkeypatch.setattr(camt053, "STATEMENT_BYTES_MAX", 10)
    with pytest.raises(InputError, match="larger than 10 bytes"):
        read(statement(), "s.xml")


def test_entities_that_grow_end_at_the_doctype() -> None:
    grows = "".join(f"<!ENTITY e{n} '{f'&e{n - 1};' * 10}'>" for n in range(1, 10))
    with pytest.raises(InputError, match="DOCTYPE"):
        read(f"<!DOCTYPE a [<!ENTITY e0 'x'>{grows}]><a>&e9;</a>".encode(), "s.xml")


WHOLE = statement(
    entry(paid(free(REFERENCE), '<Amt Ccy="EUR">2.50</Amt>'), paid("", '<Amt Ccy="EUR">10</Amt>')),
    entry(paid(f"<Refs><EndToEndId>{REFERENCE}</EndToEndId></Refs>")),
)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_a_broken_file_is_read_or_is_one_line(data: st.DataObject) -> None:
    """Bytes cut out, changed and put in twice: never a traceback, never an amount below 1."""
    content = WHOLE
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(content)))
        end = min(len(content), start + data.draw(st.integers(0, 40)))
        put = data.draw(
            st.one_of(
                *(st.binary(max_size=8), st.just(content[start:end] * 2)),
                st.sampled_from([b"<", b"</", b"&x;", b"<!DOCTYPE a>", b"<Amt>", b"1", b"\x00"]),
            )
        )
        content = content[:start] + put + content[end:]
    try:
        credits = read(content, "s.xml")
    except InputError as error:
        assert str(error).startswith("s.xml: ")
        assert "\n" not in str(error)
    else:
        assert all(credit.cents > 0 for credit in credits)
        match(credits, [ADA, BEN], "EUR")
