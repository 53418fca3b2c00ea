"""The commit's time is read without running anything that the repository names."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from imgbuild.engine.worktree import commit_time

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
TIME = 1234567890


def _git(directory: Path, *words: str, **more: str) -> str:
    stamp = f"{TIME} +0000"
    names = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b"}
    environment = os.environ | names | {"GIT_AUTHOR_DATE": stamp, "GIT_COMMITTER_DATE": stamp} | more
    done = subprocess.run(["git", *words], cwd=directory, env=environment, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    directory = tmp_path / "repository"
    directory.mkdir()
    _git(directory, "init", "-q")
    (directory / "sub").mkdir()
    (directory / "sub/file").write_text("x")
    _git(directory, "add", ".")
    _git(directory, "commit", "-qm", "committer x <y> 1 +0000")
    return directory


def test_the_time_of_the_commit(repository: Path) -> None:
    assert commit_time(repository / "sub", os.environ) == TIME


def test_no_work_tree_has_no_time(tmp_path: Path, repository: Path) -> None:
    assert commit_time(tmp_path, os.environ) is None
    shutil.rmtree(repository / ".git/refs")
    assert commit_time(repository, os.environ) is None


def test_the_environment_does_not_name_another_repository(repository: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    _git(other, "init", "-q")
    assert commit_time(repository, os.environ | {"GIT_DIR": str(other / ".git")}) == TIME


def test_nothing_that_the_repository_names_is_run(repository: Path, tmp_path: Path) -> None:
    evil, proof = tmp_path / "evil.sh", tmp_path / "proof"
    evil.write_text(f"#!/bin/sh\ntouch {proof}\n")
    evil.chmod(0o755)
    for key in ("gpg.program", "core.fsmonitor", "core.pager", "core.sshCommand", "core.editor", "remote.origin.uploadpack"):
        _git(repository, "config", key, str(evil))
    for key, value in (("log.showSignature", "true"), ("remote.origin.url", str(tmp_path)), ("remote.origin.promisor", "true")):
        _git(repository, "config", key, value)
    _git(repository, "config", "extensions.partialClone", "origin")
    head = _git(repository, "rev-parse", "HEAD")
    signed = subprocess.run(["git", "cat-file", "commit", head], cwd=repository, check=True, capture_output=True, text=True).stdout
    fake = signed.replace("\n\n", "\ngpgsig -----BEGIN PGP SIGNATURE-----\n x\n -----END PGP SIGNATURE-----\n\n", 1)
    made = subprocess.run(
        ["git", "hash-object", "-t", "commit", "-w", "--stdin"], cwd=repository, input=fake, check=True, capture_output=True, text=True
    )
    _git(repository, "update-ref", "HEAD", made.stdout.strip())
    assert commit_time(repository, os.environ) == TIME
    # A commit that is not there would be fetched.
    (repository / ".git" / _git(repository, "symbolic-ref", "HEAD")).write_text("1" * 40 + "\n")
    assert commit_time(repository, os.environ) is None
    assert not proof.exists()
