"""An authority and its certificates, made with the openssl program for one test run."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

OPENSSL = shutil.which("openssl")
needs_openssl = pytest.mark.skipif(OPENSSL is None, reason="openssl is not installed")

NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
CA_SETTINGS = """\
[ca]
default_ca = own
[own]
database = {folder}/index.txt
default_md = sha256
default_crl_days = 30
"""


class Papers:
    """Files in a folder: ca.pem, a pair for localhost and 127.0.0.1, and one for each device."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.authority = folder / "ca.pem"
        _openssl(
            *("req", "-x509", *NEW_KEY, "-days", "30"),
            *("-subj", "/CN=authority", "-keyout", folder / "ca.key", "-out", self.authority),
            *("-addext", "keyUsage=critical,keyCertSign,cRLSign"),
        )
        self.certificate, self.key = self.issue(
            "localhost", "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1"
        )

    def issue(self, name: str, extension: str = "", days: int = 30) -> tuple[Path, Path]:
        """A certificate for `name`, and its key; a negative number of days has passed."""
        paper, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        request, wanted = self.folder / f"{name}.csr", self.folder / f"{name}.ext"
        wanted.write_text(f"authorityKeyIdentifier=keyid\n{extension}\n")
        _openssl(
            *("req", *NEW_KEY),
            *("-subj", f"/CN={name}", "-keyout", key, "-out", request),
        )
        _openssl(
            *("x509", "-req", "-in", request, "-CA", self.authority, "-CAkey"),
            *(self.folder / "ca.key", "-CAcreateserial", "-days", str(days), "-out", paper),
            *("-extfile", wanted),
        )
        key.chmod(0o600)
        return paper, key

    def context(self, name: str | None = None, trusting: Papers | None = None) -> ssl.SSLContext:
        """A client's: it trusts this authority or another's, and shows the paper of `name`."""
        context = ssl.create_default_context(cafile=(trusting or self).authority)
        if name is not None:
            context.load_cert_chain(*self._paper(name))
        return context

    def _paper(self, name: str) -> tuple[Path, Path]:
        paper, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        return (paper, key) if paper.exists() else self.issue(name)

    def revoked(self, name: str) -> Path:
        """The authority with a list on which the paper of `name` is."""
        paper, _ = self._paper(name)
        settings, index = self.folder / "ca.cnf", self.folder / "index.txt"
        settings.write_text(CA_SETTINGS.format(folder=self.folder))
        index.write_text("")
        signer = ("-keyfile", self.folder / "ca.key", "-cert", self.authority)
        _openssl("ca", "-config", settings, *signer, "-revoke", paper)
        listed = self.folder / "listed.pem"
        _openssl("ca", "-config", settings, *signer, "-gencrl", "-out", listed)
        listed.write_bytes(self.authority.read_bytes() + listed.read_bytes())
        return listed

    def locked(self) -> Path:
        """The server's key under a passphrase."""
        path = self.folder / "locked.key"
        _openssl("pkey", "-in", self.key, "-aes256", "-passout", "pass:x", "-out", path)
        path.chmod(0o600)
        return path


def _openssl(*words: str | Path) -> None:
    assert OPENSSL is not None
    subprocess.run([OPENSSL, *map(str, words)], check=True, capture_output=True)
