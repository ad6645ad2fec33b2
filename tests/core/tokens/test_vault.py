"""The vault of files: bound to a workflow, closed to others, and no way out of its directory."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paigeant_core.errors import ConfigError
from paigeant_core.limits import PARKED_AGE
from paigeant_core.secret import Secret
from paigeant_core.tokens import FileVault, Vault

TOKEN = Secret("a token of some length")


@pytest.fixture
def vault(tmp_path: Path) -> FileVault:
    return FileVault(tmp_path / "vault")


def test_what_is_stored_is_fetched_by_its_workflow_alone(vault: Vault) -> None:
    handle = vault.store("w", TOKEN)
    assert vault.fetch("w", handle) == TOKEN
    assert vault.fetch("other", handle) is None
    assert vault.fetch("w", "0" * 32) is None


def test_each_has_a_file_that_only_its_owner_can_read(vault: FileVault, tmp_path: Path) -> None:
    handles = {vault.store("w", TOKEN) for _ in range(3)}
    files = list((tmp_path / "vault").iterdir())
    assert {path.name for path in files} == handles
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    assert (tmp_path / "vault").stat().st_mode & 0o777 == 0o700


@given(handle=st.text(max_size=60) | st.sampled_from(["../secret", "/etc/passwd", "..", ".", "", "\0", "a/b"]))
def test_a_handle_names_nothing_but_a_token(tmp_path_factory: pytest.TempPathFactory, handle: str) -> None:
    directory = tmp_path_factory.mktemp("v")
    (directory / "secret").write_text('{"wf":"w","tok":"t"}')
    assert FileVault(directory / "vault").fetch("w", handle) is None


def test_a_file_that_others_can_read_or_that_is_damaged_is_not_believed(vault: Vault, tmp_path: Path) -> None:
    handle = vault.store("w", TOKEN)
    path = tmp_path / "vault" / handle
    path.chmod(0o644)
    with pytest.raises(OSError, match="cannot be read"):
        vault.fetch("w", handle)
    path.chmod(0o600)
    path.write_text("{")
    with pytest.raises(OSError, match="cannot be read"):
        vault.fetch("w", handle)


def test_what_is_older_than_any_workflow_goes(vault: Vault, tmp_path: Path) -> None:
    old, young = vault.store("old", TOKEN), vault.store("young", TOKEN)
    then = time.time() - PARKED_AGE - 60
    os.utime(tmp_path / "vault" / old, (then, then))
    vault.store("new", TOKEN)
    assert vault.fetch("old", old) is None
    assert vault.fetch("young", young) == TOKEN


def test_a_directory_that_others_can_read_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with pytest.raises(ConfigError, match="chmod 700"):
        FileVault(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="no vault can be there"):
        FileVault(tmp_path / "file")
