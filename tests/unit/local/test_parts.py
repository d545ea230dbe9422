"""A missing part is named together with its cure; only CI insists on the second token."""

from pathlib import Path

import pytest

from worker.local import PartMissing, java, kryoptic, softhsm
from worker.local.parts import cache_dir


def test_no_java_is_said_with_the_cure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(java, "find_spec", lambda _name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(PartMissing, match=r"Java 17 or newer is missing.*make install"):
        java.java()


@pytest.mark.parametrize(("version", "accepted"), [("11.0.2", False), ("17.0.15", True), ("25.0.2", True), ("", False)])
def test_only_a_new_enough_java_serves(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, version: str, *, accepted: bool
) -> None:
    monkeypatch.setattr(java, "find_spec", lambda _name: None)
    program = tmp_path / "bin" / "java"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\n")
    program.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    if accepted:
        assert java.java() == program
    else:
        with pytest.raises(PartMissing):
            java.java()


def test_a_remembered_jar_that_is_gone_is_fetched_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    jar = tmp_path / "a.jar"
    fetched: list[str] = []

    def fetch(coordinate: str) -> list[str]:
        fetched.append(coordinate)
        jar.touch()
        return [str(jar)]

    monkeypatch.setattr(java, "_fetch", fetch)
    assert java.class_path("g:a:1") == java.class_path("g:a:1") == str(jar)
    assert len(fetched) == 1
    jar.unlink()
    java.class_path("g:a:1")
    assert len(fetched) == 2


def test_no_softhsm_is_said_with_the_cure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(softhsm, "PLACES", ())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("KEYRIVER_SOFTHSM_MODULE", raising=False)
    with pytest.raises(PartMissing, match="apt-get install softhsm2"):
        softhsm.module()


def test_without_rust_there_is_no_second_token_and_it_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("KEYRIVER_KRYOPTIC_MODULE", raising=False)
    assert kryoptic.module() is None
    with pytest.raises(PartMissing, match="Rust toolchain"):
        kryoptic.build()


@pytest.mark.parametrize("name", ["CI", "KEYRIVER_REQUIRE_KRYOPTIC"])
@pytest.mark.parametrize(("value", "must"), [("true", True), ("1", True), ("", False), ("false", False), ("0", False)])
def test_ci_must_have_the_second_token(monkeypatch: pytest.MonkeyPatch, name: str, value: str, *, must: bool) -> None:
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.delenv("KEYRIVER_REQUIRE_KRYOPTIC", raising=False)
    monkeypatch.setenv(name, value)
    assert kryoptic.must_have() is must


def test_the_cache_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "keyriver"
