"""Ids as text, certificates, and each reason why a genesis is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.bindings import crypto_generichash_blake2b_salt_personal
from nacl.signing import SigningKey

from demesh.wire import identity
from demesh.wire.certificates import DeviceCertificate
from demesh.wire.frame import Binding
from demesh.wire.identity import (
    ALPHABET,
    approve_member,
    certify_device,
    check_approval,
    check_certificate,
    check_genesis,
    device_id,
    make_genesis,
    mesh_id,
    parse,
    signer,
    text,
)
from demesh.wire.messages import Genesis, GenesisAccount, GenesisBody, GenesisDevice
from demesh.wire.schema import Malformed, decode, encode
from vectors.make import key, kid_of

ids = st.binary(min_size=16, max_size=16)

# -- text -----------------------------------------------------------------------------------------


@given(ids)
def test_an_id_survives_its_text(one: bytes) -> None:
    assert parse(text(one)) == one
    assert len(text(one)) == 27
    assert set(text(one)) <= set(ALPHABET)


@given(ids, st.integers(0, 26), st.sampled_from(ALPHABET))
def test_a_wrong_character_is_found(one: bytes, at: int, character: str) -> None:
    good = text(one)
    wrong = good[:at] + character + good[at + 1 :]
    if wrong != good:
        with pytest.raises(ValueError, match="check character"):
            parse(wrong)


@given(ids, st.integers(0, 26), st.integers(0, 26))
def test_a_swap_of_two_characters_is_found(one: bytes, first: int, second: int) -> None:
    good = list(text(one))
    good[first], good[second] = good[second], good[first]
    if "".join(good) != text(one):
        with pytest.raises(ValueError, match="check character"):
            parse("".join(good))


def test_a_text_that_is_no_id_says_why() -> None:
    good = text(bytes(range(16)))
    for wrong, words in (
        ("", "27 characters, got 0"),
        (good[:-1], "27 characters, got 26"),
        (good + "a", "27 characters, got 28"),
        ("0" + good[1:], "character 1 is '0'; ids use a-z and 2-7"),
        (good[:5] + "A" + good[6:], "character 6 is 'A'"),
        (good[:26] + "é", "character 27"),
    ):
        with pytest.raises(ValueError, match=words):
            parse(wrong)


def test_the_spare_bits_of_a_text_are_zero_so_that_one_id_has_one_text() -> None:
    values = [0] * 25 + [1]
    wrong = "".join(ALPHABET[v] for v in [*values, identity._checksum([*values, 0])])
    with pytest.raises(ValueError, match="last bits should be 0"):
        parse(wrong)


def test_only_16_bytes_have_a_text() -> None:
    for size in (0, 15, 17, 32):
        with pytest.raises(ValueError, match=f"16 bytes, got {size}"):
            text(bytes(size))


def test_an_id_is_blake2b_of_its_key() -> None:
    out = crypto_generichash_blake2b_salt_personal(PUBLIC[0], digest_size=16)
    assert device_id(PUBLIC[0]) == out


# -- certificates ---------------------------------------------------------------------------------

OWNERS = (key("owner a"), key("owner b"))
PUBLIC = tuple(bytes(owner.verify_key) for owner in OWNERS)


def public(name: str) -> bytes:
    return bytes(key(name).verify_key)


def certificate(owner: SigningKey, name: str) -> DeviceCertificate:
    return certify_device(owner, name, "meter", public(name), public(name + " votes"))


def test_a_certificate_holds_for_its_owner_only() -> None:
    one = certificate(OWNERS[0], "attic")
    assert check_certificate(one, PUBLIC[0])
    assert not check_certificate(one, PUBLIC[1])


@pytest.mark.parametrize(
    "change",
    [
        {"name": "cellar"},
        {"device_class": "battery"},
        {"owner": device_id(PUBLIC[1])},
        {"device_key": public("cellar")},
        {"vote_key": public("cellar")},
        {"vote_key": public("attic")},
        {"device_key": bytes(32)},
        {"signature": bytes(64)},
        {"signature": b""},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_changed_certificate_does_not_hold(change: dict[str, object]) -> None:
    one = replace(certificate(OWNERS[0], "attic"), **change)  # type: ignore[arg-type]
    assert not check_certificate(one, PUBLIC[0])
    assert not check_certificate(one, PUBLIC[1])


def test_the_name_of_one_field_cannot_flow_into_the_next() -> None:
    keys = public("x"), public("y")
    one = certify_device(OWNERS[0], "ab", "c", *keys)
    two = certify_device(OWNERS[0], "a", "bc", *keys)
    assert one.signature != two.signature


def test_only_two_different_and_valid_keys_are_certified() -> None:
    with pytest.raises(ValueError, match="attic: its device key is not"):
        certify_device(OWNERS[0], "attic", "meter", bytes(32), public("v"))
    with pytest.raises(ValueError, match="attic: its vote key is not"):
        certify_device(OWNERS[0], "attic", "meter", public("v"), bytes(31))
    with pytest.raises(ValueError, match="must differ"):
        certify_device(OWNERS[0], "attic", "meter", public("v"), public("v"))


def test_an_approval_holds_for_its_owner_and_for_one_change_in_one_mesh_only() -> None:
    street, one = Binding(bytes(32), 1), certificate(OWNERS[0], "attic")
    approval = approve_member(OWNERS[1], street, one, 2, 3)
    assert approval.owner == device_id(PUBLIC[1])
    assert check_approval(approval, PUBLIC[1], street, one, 2, 3)
    for who, mesh, what, weight, serial in (
        (PUBLIC[0], street, one, 2, 3),
        (PUBLIC[1], Binding(bytes(31) + b"1", 1), one, 2, 3),
        (PUBLIC[1], Binding(bytes(32), 2), one, 2, 3),
        (PUBLIC[1], street, certificate(OWNERS[0], "cellar"), 2, 3),
        (PUBLIC[1], street, one, 3, 3),
        (PUBLIC[1], street, one, 2, 2),
        (PUBLIC[1], street, one, 3, 2),
    ):
        assert not check_approval(approval, who, mesh, what, weight, serial)
    stolen = replace(approval, owner=device_id(PUBLIC[0]))
    assert not check_approval(stolen, PUBLIC[1], street, one, 2, 3)


def test_an_approval_signs_what_the_protocol_says() -> None:
    one = certificate(OWNERS[0], "attic")
    approval = approve_member(OWNERS[1], Binding(bytes(32), 1), one, 2, 3)
    said = cbor2.dumps(["demesh member 1", bytes(32), 1, encode(one), 2, 3], canonical=True)
    assert OWNERS[1].verify_key.verify(said, approval.signature) == said


# -- genesis --------------------------------------------------------------------------------------


def sound_body() -> GenesisBody:
    owners = tuple(kid_of(owner) for owner in OWNERS)
    commons = device_id(b"commons")
    return GenesisBody(
        name="street",
        generation=0,
        nonce=bytes(8),
        time_s=1_800_000_000,
        rules_version=1,
        owners=PUBLIC,
        owner_names=("Ada", "Bo"),
        devices=(
            GenesisDevice(certificate(OWNERS[0], "attic"), 1),
            GenesisDevice(certificate(OWNERS[1], "cellar"), 0),
        ),
        accounts=(
            GenesisAccount(owners[0], owners[0], 0, -5_000_000),
            GenesisAccount(owners[1], owners[1], 0, 0),
            GenesisAccount(commons, commons, 1, 0),
        ),
        commons=commons,
        commons_ppm=10_000,
    )


SIGNS = tuple(signer(owner) for owner in OWNERS)


def test_a_sound_genesis_gives_its_mesh_id() -> None:
    genesis = make_genesis(sound_body(), SIGNS)
    assert check_genesis(genesis) == mesh_id(sound_body())
    assert len(mesh_id(sound_body())) == 32
    assert check_genesis(decode(Genesis, encode(genesis))) == mesh_id(sound_body())


def test_any_change_of_the_body_is_another_mesh() -> None:
    body = sound_body()
    changed = (
        replace(body, generation=1),
        replace(body, name="lane"),
        replace(body, nonce=b"12345678"),
    )
    assert len({mesh_id(one) for one in (body, *changed)}) == 4


def test_a_genesis_is_good_only_with_every_founders_signature_over_this_body() -> None:
    genesis = make_genesis(sound_body(), SIGNS)
    for broken, words in (
        (replace(genesis, signatures=genesis.signatures[::-1]), "signature of owner Ada"),
        (replace(genesis, signatures=genesis.signatures[:1]), "expected 2 signatures, got 1"),
        (replace(genesis, signatures=(genesis.signatures[0], bytes(64))), "owner Bo does not hold"),
        (replace(genesis, body=replace(genesis.body, commons_ppm=0)), "owner Ada does not hold"),
    ):
        with pytest.raises(ValueError, match=words):
            check_genesis(broken)


def first_device(body: GenesisBody, **changes: object) -> GenesisBody:
    device = body.devices[0]
    changed = replace(device, certificate=replace(device.certificate, **changes))  # type: ignore[arg-type]
    return replace(body, devices=(changed, *body.devices[1:]))


def account(body: GenesisBody, at: int, **changes: object) -> GenesisBody:
    accounts = list(body.accounts)
    accounts[at] = replace(accounts[at], **changes)  # type: ignore[arg-type]
    return replace(body, accounts=tuple(accounts))


Change = Callable[[GenesisBody], GenesisBody]
UNSOUND: dict[str, Change] = {
    "2 owners need as many names, got 1": lambda b: replace(b, owner_names=("Ada",)),
    "owner Bo: not an Ed25519 public key": lambda b: replace(b, owners=(PUBLIC[0], bytes(32))),
    "owner key .* appears twice": lambda b: replace(b, owners=(PUBLIC[0],) * 2),
    "owner name Ada appears twice": lambda b: replace(b, owner_names=("Ada", "Ada")),
    "device attic: its certificate does not hold": lambda b: first_device(b, device_class="pump"),
    "device attic: its owner .* is not among the 2 founding": lambda b: first_device(
        b, owner=device_id(b"?")
    ),
    "key .* appears twice": lambda b: replace(b, devices=b.devices[:1] * 2),
    "device name attic appears twice": lambda b: replace(
        b,
        devices=(
            b.devices[0],
            GenesisDevice(certify_device(OWNERS[1], "attic", "pump", public("p"), public("q")), 1),
        ),
    ),
    "1 to 128 devices with a weight above 0, got 0": lambda b: replace(b, devices=b.devices[1:]),
    "weights together are at most 4294967295, got 4294967296": lambda b: replace(
        b, devices=(b.devices[0], replace(b.devices[1], weight=2**32 - 1))
    ),
    "account .* appears twice": lambda b: replace(b, accounts=(*b.accounts, b.accounts[0])),
    "account .*: its owner .* is not among": lambda b: account(b, 0, owner=device_id(b"?")),
    "floor must be 0 or below, got 1": lambda b: account(b, 0, floor=1),
    "the commons .* is not among the accounts": lambda b: replace(b, accounts=b.accounts[:2]),
    "commons_ppm is at most 1000000, got 1000001": lambda b: replace(b, commons_ppm=1_000_001),
    "GenesisBody.name: 0 is outside 1..64": lambda b: replace(b, name=""),
    "GenesisBody.nonce: 7 is outside 8..8": lambda b: replace(b, nonce=bytes(7)),
    "GenesisBody.devices: expected 1..1024 items": lambda b: replace(b, devices=()),
}


@pytest.mark.parametrize(("words", "change"), UNSOUND.items(), ids=UNSOUND)
def test_an_unsound_genesis_is_refused_though_all_signed_it(words: str, change: Change) -> None:
    with pytest.raises(ValueError, match=words):
        make_genesis(change(sound_body()), SIGNS)


def test_a_device_key_may_not_be_a_founders_or_another_devices_vote_key() -> None:
    body = sound_body()
    for device_key, vote_key in ((PUBLIC[0], public("v")), (public("v"), public("attic"))):
        shared = certify_device(OWNERS[1], "cellar", "pump", device_key, vote_key)
        with pytest.raises(ValueError, match=r"genesis: key \w+ appears twice"):
            make_genesis(replace(body, devices=(body.devices[0], GenesisDevice(shared, 1))), SIGNS)


def test_a_list_for_a_tuple_is_refused_because_it_would_not_come_back_equal() -> None:
    body = replace(sound_body(), owner_names=["Ada", "Bo"])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="does not survive its encoding"):
        make_genesis(body, SIGNS)


def test_a_genesis_of_other_bytes_is_malformed() -> None:
    encoded = encode(make_genesis(sound_body(), SIGNS))
    with pytest.raises(Malformed):
        decode(Genesis, encoded[:-1])
