"""A dependency that is not the one that was locked is not installed."""

import hashlib
import importlib.util
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.servers import ROOT

pytestmark = pytest.mark.once  # what is under test is not Python

NAME, VERSION = "harmless", "1.0"


def wheel(folder: Path, code: str) -> Path:
    """A wheel of our own, which nobody else has."""
    file = folder / f"{NAME}-{VERSION}-py3-none-any.whl"
    info = f"{NAME}-{VERSION}.dist-info"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(f"{NAME}.py", code)
        meta = f"Metadata-Version: 2.1\nName: {NAME}\nVersion: {VERSION}\n"
        archive.writestr(f"{info}/METADATA", meta)
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return file


@pytest.mark.parametrize("tampered", [False, True], ids=["as locked", "tampered with"])
def test_a_wheel_with_another_hash_is_not_installed(tmp_path: Path, tampered: bool) -> None:
    """With the option of .ci/install and the Dockerfile, from a folder instead of an index."""
    assert "install -q --require-hashes" in (ROOT / ".ci" / "install").read_text()
    locked = hashlib.sha256(wheel(tmp_path, "").read_bytes()).hexdigest()
    lock = tmp_path / "requirements.lock"
    lock.write_text(f"{NAME}=={VERSION} --hash=sha256:{locked}\n")
    if tampered:
        wheel(tmp_path, "print('theirs')")
    into = tmp_path / "installed"
    pip = [*installer(), "install", "-q", "--require-hashes", "-r", str(lock)]
    pip += ["--no-index", "--find-links", str(tmp_path), "--target", str(into)]
    done = subprocess.run(pip, capture_output=True, text=True, timeout=120)
    assert (done.returncode != 0) is tampered, done.stderr
    assert (into / f"{NAME}.py").exists() is not tampered
    assert ("hash" in done.stderr.lower()) is tampered


def installer() -> list[str]:
    """An environment that uv made has no pip, but then there is uv."""
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    return ["uv", "pip"]
