"""Why a connection failed, in a line that a person can act on."""

from __future__ import annotations

import os
import re
import ssl

from paho.mqtt.reasoncodes import ReasonCode

from demesh.errors import ConfigError

# CONNACK refusals that no waiting mends (MQTT 5 codes, to which paho maps those of 3.1.1).
LOGIN_REFUSED = (134, 135)
LEVEL_REFUSED = 132

_NOT_AUTHORIZED = 0x87
_REFUSALS = {
    0x00: "it says goodbye",
    0x80: "it does not say why",
    0x81: "it could not read what was said",
    0x82: "it found what was said against the protocol",
    0x83: "it refuses it for reasons of its own",
    _NOT_AUTHORIZED: "this device's login has no right to it",
    0x8B: "it shuts down",
    0x8D: "it heard nothing for too long",
    0x90: "it does not like the topic",
    0x93: "more was under way than it takes",
    0x95: "it is too large",
    0x96: "it comes too often",
    0x97: "a quota is used up",
    0x98: "somebody who runs it wants so",
    0x99: "it does not like the contents",
}
"""Reason codes of MQTT 5 (section 2.4) that a publication or a connection may end with."""

_CERTIFICATE = {
    9: "its certificate is not valid yet; is this device's clock right?",
    10: "its certificate has expired; is this device's clock right?",
    18: "it signed its certificate itself; name that certificate as ca_file",
    19: "its certificate is signed by an authority that is not in ca_file",
    20: "its certificate is signed by an authority that is not in ca_file",
    62: "its certificate is for another name than the one in [broker] url",
    64: "its certificate is for another address than the one in [broker] url",
}
"""Verification results of OpenSSL (X509_V_ERR_...)."""

_ALERTS = {
    "WRONG_VERSION_NUMBER": "it does not speak TLS there; write mqtt://, or its port for TLS",
    "RECORD_LAYER_FAILURE": "it does not speak TLS there; write mqtt://, or its port for TLS",
    "UNEXPECTED_EOF_WHILE_READING": "TLS does not begin; is this its port for TLS?",
    "CERTIFICATE_REQUIRED": "it wants a certificate of this device; give client_certificate",
    "HANDSHAKE_FAILURE": "no cipher in common, or it wants a certificate of this device",
    "UNKNOWN_CA": "it does not know who signed client_certificate",
    "CERTIFICATE_EXPIRED": "it says that client_certificate has expired",
    "CERTIFICATE_REVOKED": "it says that client_certificate is revoked",
    "BAD_CERTIFICATE": "it does not take client_certificate",
    "UNKNOWN_PSK_IDENTITY": "it does not know psk_identity, or psk_file is another key",
    "DECRYPT_ERROR": "it does not know psk_identity, or psk_file is another key",
    "UNSUPPORTED_PROTOCOL": "it speaks an old TLS only; 1.2 is the least",
    "PROTOCOL_VERSION": "it speaks another TLS; 1.2 is the least",
}
"""What the end of OpenSSL's reasons means for who configures."""


class Refused(ConnectionError):
    """The broker answered CONNECT with this reason code."""

    def __init__(self, reason: ReasonCode) -> None:
        super().__init__(f"the broker refused the connection: {reason}")
        self.code = reason.value


class UnansweredError(ConnectionError):
    """The connection ended before CONNECT was answered: perhaps it was not understood."""


class TakenOverError(ConnectionError):
    """Somebody else connected with our client id."""

    code = 0x8E

    def __init__(self) -> None:
        super().__init__("another program connected with this device's id; run one daemon only")


def refusal(reason: ReasonCode | int) -> str:
    """A reason code in words."""
    value = reason if isinstance(reason, int) else reason.value
    return _REFUSALS.get(value, f"it says reason code 0x{value:02x}")


def reason_of(error: Exception) -> str:
    """What went wrong, in the system's words: without numbers, addresses and repetitions."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _CERTIFICATE.get(error.verify_code, f"its certificate: {error.verify_message}")
    if isinstance(error, ssl.SSLError):
        reason = error.reason or ""
        found = (text for end, text in _ALERTS.items() if reason.endswith(end))
        return next(found, f"TLS: {reason.lower().replace('_', ' ') or 'it failed'}")
    text = str(error)
    if number := re.search(r"\[Errno (\d+)\]", text):
        return os.strerror(int(number[1]))
    return re.sub(r"^\[[^]]*\] ", "", text) or "it does not answer"


def check_login(url: str, code: int) -> None:
    """Raises ConfigError if the broker refused name and password: no waiting mends that."""
    if code in LOGIN_REFUSED:
        raise ConfigError(
            f"{url}: the broker refused the login; check [broker] username, password_file"
        ) from None
