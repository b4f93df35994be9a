"""Certificates for tests, made by openssl as an operator would make them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


class Authority:
    """A CA with its files in a folder: `ca.crt`, and what it issues."""

    def __init__(self, folder: Path, name: str = "a home's CA") -> None:
        if shutil.which("openssl") is None:
            pytest.skip("openssl is not installed: apt install openssl")
        folder.mkdir(exist_ok=True)
        self.folder, self.certificate = folder, folder / "ca.crt"
        self._openssl(
            "req", "-x509", "-new", *_KEY, "-days", "30", "-subj", f"/CN={name}",
            "-keyout", "ca.key", "-out", "ca.crt",
        )  # fmt: skip

    def issue(self, name: str, stem: str, *, host: str = "", days: int = 30) -> tuple[Path, Path]:
        """Certificate and key of this common name; `days` 0 is a certificate that has expired."""
        extension = self.folder / f"{stem}.ext"
        extension.write_text(f"subjectAltName={host}\n" if host else "basicConstraints=CA:FALSE\n")
        self._openssl(
            "req", "-new", *_KEY, "-subj", f"/CN={name}",
            "-keyout", f"{stem}.key", "-out", f"{stem}.csr",
        )  # fmt: skip
        self._openssl(
            "x509", "-req", "-in", f"{stem}.csr", "-out", f"{stem}.crt", "-CA", "ca.crt",
            "-CAkey", "ca.key", "-CAcreateserial", "-days", str(days), "-extfile", extension.name,
        )  # fmt: skip
        return self.folder / f"{stem}.crt", self.folder / f"{stem}.key"

    def _openssl(self, *words: str) -> None:
        subprocess.run(["openssl", *words], cwd=self.folder, check=True, capture_output=True)


_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
