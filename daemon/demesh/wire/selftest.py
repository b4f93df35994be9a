"""Does the libsodium of this machine say what everybody's must (R-WIRE-6)?

Implementations of Ed25519 agree on every honest signature and differ on some that are made to be
disputed. A node that takes one of these for good, alone or with others of its build, sees another
ledger than the rest. So the verdicts are looked at before the first one counts; the cases are some
of `tests/vectors/signatures.json`.
"""

from __future__ import annotations

from demesh.errors import UnfitError
from demesh.wire.frame import Binding
from demesh.wire.keys import device_id, is_public_key, signed_by
from demesh.wire.validate import Validator

PUBLIC_KEY = bytes.fromhex("ff6f43ab4e72e31b78049fcc5f97455becdd0ea428c1fd6c7a0fc66e991c7cb9")
MESSAGE = b"the same verdict on every machine"

# A point of order 8, the neutral element, and our key with a part of order 8: no keys.
NO_KEYS = (
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
    bytes.fromhex("0100000000000000000000000000000000000000000000000000000000000000"),
    bytes.fromhex("44160a557c136335fb21a729373f5ef89ecb95077feaa66a71590d063bacc610"),
)

# What it is, the signature in hexadecimal, whether it holds.
SIGNATURES = (
    (
        "plain",
        "b31b20f50426242514d81b383548bd90de72fd0b8cf2382a88f9f52ce5076b23"
        "0a68a2a63c4ec05756163a35bd56039d3e01d66c1dd411cc52da16104f0fe308",
        True,
    ),
    (
        "s not below the order",
        "b31b20f50426242514d81b383548bd90de72fd0b8cf2382a88f9f52ce5076b23"
        "f73b980357b1d2af2cb331d89b50e2b13e01d66c1dd411cc52da16104f0fe318",
        False,
    ),
    (
        "R with torsion",
        "4c261951fba9f4ba7ece40431f212269f58becc2473c54cecda0e8f1e6f9d253"
        "f544463a8c6146def1948cd790d7388f4d7b8380e85cfd248770d2ec3ea2ef04",
        False,
    ),
    (
        "R neutral",
        "0100000000000000000000000000000000000000000000000000000000000000"
        "de115e1029d7a4352300d484a5af4fa1ec288d49dbc7175d39b6dd3e43b15803",
        False,
    ),
    (
        "R of order 8",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"
        "49c2425a643bb1554a4155242753ace925b7c3d5cf4a91c201fc167d4c343305",
        False,
    ),
    (
        "R neutral, not canonical",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"
        "8d1ac4b4bd54701ba6911b8578c9951db4a857aa5294b5ae8fb4176edb7d2000",
        False,
    ),
)


def check_signatures(validator_class: type[Validator] = Validator) -> None:
    """Try both ways in which signatures are verified; raises UnfitError."""
    validator = validator_class(Binding(bytes(32), 0))
    kid = device_id(PUBLIC_KEY)
    validator.enrol(kid, PUBLIC_KEY)
    for what, written, holds in SIGNATURES:
        signature = bytes.fromhex(written)
        said = {
            signed_by(PUBLIC_KEY, MESSAGE, signature),
            validator.verify(kid, MESSAGE, signature),
        }
        if said != {holds}:
            raise _unfit(f"the signature '{what}'", holds)
    for key in NO_KEYS:
        if is_public_key(key):
            raise _unfit("a key of small order", False)


def _unfit(what: str, holds: bool) -> UnfitError:
    return UnfitError(
        f"this machine's libsodium says {'no' if holds else 'yes'} to {what}, and all others say "
        f"{'yes' if holds else 'no'}: it would see another ledger; install the pynacl package anew"
    )
