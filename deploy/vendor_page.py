"""Fetches the libraries of the page, as stream/dashboard/vendor/vendor.toml names them, from the npm registry.

Run in the repository after a change of a version there: .venv/bin/python deploy/vendor_page.py
Each tarball is checked against the publisher's hash in vendor.toml; files are copied unchanged.
"""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile
import tomllib
from pathlib import Path

import httpx

VENDOR = Path(__file__).parents[1] / "stream" / "dashboard" / "vendor"
REGISTRY = "https://registry.npmjs.org"


def main() -> None:
    for package in tomllib.loads((VENDOR / "vendor.toml").read_text())["package"]:
        name, version = package["name"], package["version"]
        address = f"{REGISTRY}/{name}/-/{name.rpartition('/')[2]}-{version}.tgz"
        tarball = httpx.get(address, follow_redirects=True).raise_for_status().content
        digest = base64.b64encode(hashlib.sha512(tarball).digest()).decode()
        if digest != package["sha512"]:
            raise SystemExit(f"{address}: its hash is sha512 {digest}, not that of vendor.toml")
        with tarfile.open(fileobj=io.BytesIO(tarball)) as archive:
            for file in package["files"]:
                member = archive.extractfile(f"package/{file['from']}")
                assert member is not None
                content = member.read()
                (VENDOR / file["to"]).parent.mkdir(exist_ok=True)
                (VENDOR / file["to"]).write_bytes(content)
                if (found := hashlib.sha256(content).hexdigest()) != file["sha256"]:
                    raise SystemExit(f"{name} {version}, {file['to']}: its hash is sha256 {found}; write it down")
        print(f"{name} {version}: {len(package['files'])} files")


if __name__ == "__main__":
    main()
