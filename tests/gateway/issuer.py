"""Who signs tokens, with openssl: another program than the one that is tested says what a right signature is."""

from __future__ import annotations

import base64
import hmac
import json
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

ISSUER, AUDIENCE = "https://login.test", "orders"


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def openssl(*arguments: str, given: bytes = b"") -> bytes:
    return subprocess.run(["openssl", *arguments], input=given, capture_output=True, check=True, timeout=60).stdout


def signing(alg: str, private: str, message: bytes, directory: Path) -> bytes:
    if alg == "RS256":
        return openssl("dgst", "-sha256", "-sign", private, given=message)
    if alg == "PS256":
        options = ["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:digest"]
        return openssl("dgst", "-sha256", "-sign", private, *options, given=message)
    if alg == "EdDSA":
        file = directory / "message"
        file.write_bytes(message)
        return openssl("pkeyutl", "-sign", "-inkey", private, "-rawin", "-in", str(file))
    # Of ECDSA openssl writes two numbers in DER; tokens have them one behind the other.
    der = openssl("dgst", "-sha256", "-sign", private, given=message)
    numbers, at = [], 2
    for _ in range(2):
        length = der[at + 1]
        numbers.append(der[at + 2 : at + 2 + length].lstrip(b"\0").rjust(32, b"\0"))
        at += 2 + length
    return b"".join(numbers)


@dataclass
class Key:
    """A key pair; `alg` is RS256, PS256, ES256 or EdDSA."""

    alg: str
    name: str
    directory: Path
    private: str = field(init=False)

    def __post_init__(self) -> None:
        self.private = str(self.directory / f"{self.name}.pem")
        kind = {"ES256": ["EC", "-pkeyopt", "ec_paramgen_curve:P-256"], "EdDSA": ["ed25519"]}
        options = kind.get(self.alg, ["RSA", "-pkeyopt", "rsa_keygen_bits:2048"])
        openssl("genpkey", "-algorithm", *options, "-out", self.private)

    def public(self) -> dict[str, str]:
        """As a set of keys has it."""
        named = {"kid": self.name, "use": "sig", "alg": self.alg}
        if self.alg in ("RS256", "PS256"):
            modulus = openssl("rsa", "-in", self.private, "-noout", "-modulus").decode().strip().split("=")[1]
            return named | {"kty": "RSA", "n": b64(bytes.fromhex(modulus)), "e": "AQAB"}
        der = openssl("pkey", "-in", self.private, "-pubout", "-outform", "DER")
        if self.alg == "EdDSA":
            return named | {"kty": "OKP", "crv": "Ed25519", "x": b64(der[-32:])}
        return named | {"kty": "EC", "crv": "P-256", "x": b64(der[-64:-32]), "y": b64(der[-32:])}

    def token(self, changes: dict | None = None, head: dict | None = None) -> str:
        message = unsigned({"alg": self.alg, "kid": self.name} | (head or {}), changes)
        return f"{message}.{b64(signing(self.alg, self.private, message.encode(), self.directory))}"


def unsigned(head: dict, changes: dict | None) -> str:
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "u1", "exp": int(time.time()) + 600, "scope": "read write"}
    claims = {name: value for name, value in (claims | (changes or {})).items() if value is not None}
    return ".".join(b64(json.dumps(part).encode()) for part in (head, claims))


def by_secret(secret: bytes, changes: dict | None = None) -> str:
    message = unsigned({"alg": "HS256"}, changes)
    return f"{message}.{b64(hmac.digest(secret, message.encode(), 'sha256'))}"


def key_set(*keys: Key) -> str:
    return json.dumps({"keys": [key.public() for key in keys]})
