"""docs/provenance.md: the certificate that its commands make signs pictures."""

from __future__ import annotations

import re
import shutil
import subprocess
import textwrap
from pathlib import Path

import pytest

from service.images.signing.configure import EXTRA, signer_of
from service.settings import read_settings
from tests.ops.test_documented_commands import ROOT

PAGE = (ROOT / "docs/provenance.md").read_text(encoding="utf-8")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_the_documented_certificate_signs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (commands,) = re.findall(r"^    openssl .*?^$", PAGE, re.MULTILINE | re.DOTALL)
    shell = ["sh", "-e", "-c", textwrap.dedent(commands)]
    subprocess.run(shell, cwd=tmp_path, check=True, capture_output=True)
    (settings,) = re.findall(r"^    ((?:DIT_C2PA_\w+=\S+ )+)make run$", PAGE, re.MULTILINE)
    for setting in settings.split():
        name, _, value = setting.partition("=")
        monkeypatch.setenv(name, str(tmp_path / value))
    assert signer_of(read_settings()) is not None


def test_the_page_and_the_error_name_the_same_command() -> None:
    assert EXTRA.partition(": ")[2] in PAGE
