"""Passwords: what is kept of them, what is accepted, and how they are compared."""

from __future__ import annotations

import hmac
import io
import stat

import pytest

from arrowlens.cli import main
from arrowlens.errors import InputError
from arrowlens.passwords import checked_hash, hash_password, is_password, read_hash, write_hash

PASSWORD = "correct horse é 馬"
OF_AN_EARLIER_VERSION = (
    "scrypt$32768$8$3$AAECAwQFBgcICQoLDA0ODw==$H5kIbtDzrdQB+n0Wyd"
    "6czNPcR5O6dFrdQG4nAauq6in8dNAhcjY5dNcR+dtk69KzTnwt2V5+ON3JkV9PMwWs8A=="
)


@pytest.fixture(scope="module")
def stored():
    return hash_password(PASSWORD)


def test_a_hash_knows_its_password_and_no_other(stored):
    assert is_password(PASSWORD, stored)
    assert not is_password(PASSWORD + " ", stored)
    assert not is_password("", stored)


def test_a_hash_tells_nothing_and_is_another_each_time(stored):
    again = hash_password(PASSWORD)
    assert again != stored
    assert PASSWORD not in stored
    assert stored.startswith("$argon2id$v=19$m=65536,t=3,p=4$")


def test_hashes_of_earlier_versions_know_their_password():
    assert is_password(PASSWORD, OF_AN_EARLIER_VERSION)
    assert is_password(PASSWORD, f" {OF_AN_EARLIER_VERSION}\n")
    assert not is_password(PASSWORD[1:], OF_AN_EARLIER_VERSION)


def test_keys_of_earlier_versions_are_compared_in_constant_time(monkeypatch):
    compared = []
    real = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: compared.append((len(a), len(b))) or real(a, b))
    assert not is_password("wrong password", OF_AN_EARLIER_VERSION)
    assert compared == [(64, 64)]


@pytest.mark.parametrize("password", ["", "seven c", "x" * 1025])
def test_too_short_or_too_long_is_said(password):
    with pytest.raises(InputError, match=f"from 8 to 1024 characters, not {len(password)}"):
        hash_password(password)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "my password",
        "scrypt$32768$8$3$c2FsdA==",
        "scrypt$a$8$3$c2FsdA==$a2V5",
        "scrypt$32768$8$3$!$a2V5",
        "scrypt$1099511627776$8$3$c2FsdA==$MDEyMzQ1Njc4OWFiY2RlZg==",
        "scrypt$32768$8$3$c2FsdA==$",
        "$argon2id$v=19$m=65536,t=3,p=4$",
        "$argon2id$v=19$m=a,t=3,p=4$MDEyMzQ1Njc4OWFiY2RlZg$MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY",
        "$argon2id$v=19$m=4294967295,t=3,p=4$MDEyMzQ1Njc4OWFiY2RlZg$MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY",
        "scrypt$0$8$1$MDEyMzQ1Njc4OWFiY2RlZg==$MDEyMzQ1Njc4OWFiY2RlZg==",
        "scrypt$-4$-8$1$MDEyMzQ1Njc4OWFiY2RlZg==$MDEyMzQ1Njc4OWFiY2RlZg==",
        "scrypt$3$8$1$MDEyMzQ1Njc4OWFiY2RlZg==$MDEyMzQ1Njc4OWFiY2RlZg==",
        "$argon2id$v=19$m=1,t=1,p=1$MDEyMzQ1Njc4OWFiY2RlZg$MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY",
        "$argon2id$v=19$m=65536,t=0,p=1$MDEyMzQ1Njc4OWFiY2RlZg$MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY",
        "$argon2id$v=19$m=65536,t=3,p=4$!!!!!!!!!!!!!!!!!!!!!!$MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY",
        "$argon2id$v=19$m=65536,t=3,p=4$c2FsdA$MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY",
    ],
)
def test_what_is_no_hash_is_refused_and_not_repeated(text):
    with pytest.raises(InputError, match="no hash of a password") as refused:
        checked_hash(text)
    assert "my password" not in str(refused.value)


def test_a_file_holds_it_for_its_owner_only(tmp_path, stored):
    file = tmp_path / "password"
    write_hash(file, stored)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert read_hash(file) == stored
    write_hash(file, stored)
    assert [path.name for path in tmp_path.iterdir()] == ["password"]


def test_another_file_is_left_alone(tmp_path, stored):
    file = tmp_path / "diary.txt"
    file.write_text("dear diary")
    with pytest.raises(InputError, match="holds something else"):
        write_hash(file, stored)
    assert file.read_text() == "dear diary"
    with pytest.raises(InputError, match=r"diary\.txt: that is no hash"):
        read_hash(file)
    with pytest.raises(InputError, match="cannot read the password file"):
        read_hash(tmp_path / "none")
    with pytest.raises(InputError, match="cannot write"):
        write_hash(tmp_path / "no folder" / "password", stored)


def test_the_command_makes_one_from_a_pipe(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{PASSWORD}\n"))
    assert main(["ui", "--set-password", str(tmp_path / "p")]) == 0
    assert is_password(PASSWORD, read_hash(tmp_path / "p"))
    assert f"--password-file {tmp_path / 'p'}" in capsys.readouterr().err
