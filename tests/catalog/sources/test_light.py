"""Other people's data facilities cost nothing until they are used."""

import subprocess
import sys

import pytest

KINDS = ("optimade", "tiled", "web", "dcat", "openapi")


def said(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30).stdout.strip()


def test_the_face_of_the_package_brings_no_client() -> None:
    code = "import sys, firstlight.catalog.sources; print([m for m in ('httpx', 'yaml') if m in sys.modules])"
    assert said(code) == "[]"


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_missing_is_named(kind: str) -> None:
    code = f"""
import sys
sys.modules["httpx"] = None
try:
    import firstlight.catalog.sources.{kind}
except ImportError as error:
    print(error)
"""
    assert said(code) == "other people's data facilities need httpx: install firstlight[data]"
