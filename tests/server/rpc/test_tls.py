from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
from certificates import Authority, Pair
from shortlist_server.errors import ConfigError
from shortlist_server.rpc.tls import Certificates, TlsFiles, check_plaintext


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority("tests")


@pytest.fixture
def files(tmp_path: Path, authority: Authority) -> TlsFiles:
    found = TlsFiles(
        certificate=tmp_path / "server.pem", key=tmp_path / "key.pem", client_ca=tmp_path / "ca.pem"
    )
    write(found, authority.issue("one"))
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    return found


def write(files: TlsFiles, pair: Pair) -> None:
    pair.write(files.certificate, files.key)


def test_unchanged_files_are_not_read_again(
    files: TlsFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificates = Certificates(files)
    monkeypatch.setattr(Path, "read_bytes", None)
    assert certificates.changed() is None


@pytest.mark.parametrize("name", ["certificate", "key", "client_ca"])
def test_missing_file_is_refused_by_name(files: TlsFiles, name: str) -> None:
    getattr(files, name).unlink()
    with pytest.raises(ConfigError, match=r"tls_certificate_file.*No such file"):
        Certificates(files)


@pytest.mark.parametrize("name", ["certificate", "key", "client_ca"])
def test_file_that_is_no_pem_is_refused(files: TlsFiles, name: str) -> None:
    getattr(files, name).write_text("not a certificate")
    with pytest.raises(ConfigError, match="cannot be used"):
        Certificates(files)


def test_key_of_another_certificate_is_refused(files: TlsFiles, authority: Authority) -> None:
    files.key.write_bytes(authority.issue("two").key)
    with pytest.raises(ConfigError, match=r"KEY_VALUES_MISMATCH|key values mismatch"):
        Certificates(files)


def test_key_with_a_passphrase_is_refused_without_asking_for_it(
    files: TlsFiles, authority: Authority
) -> None:
    write(files, authority.issue("two", passphrase=b"secret"))
    with pytest.raises(ConfigError, match="without a passphrase"):
        Certificates(files)


def test_renewed_files_are_read_once(
    files: TlsFiles, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    certificates = Certificates(files)
    write(files, authority.issue("two"))
    with caplog.at_level(logging.INFO):
        assert certificates.changed() is not None
        assert certificates.changed() is None
    assert [record.levelno for record in caplog.records] == [logging.INFO]


def test_half_of_a_renewal_keeps_the_old_ones_and_is_logged_once(
    files: TlsFiles, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    certificates = Certificates(files)
    pair = authority.issue("two")
    whole = files.key.read_bytes()
    for half in (pair.key, pair.key[:100], b""):
        caplog.clear()
        files.key.write_bytes(half)
        os.utime(files.key, ns=(len(half), len(half)))
        assert certificates.changed() is None
        assert certificates.changed() is None
        (record,) = caplog.records
        assert record.levelno == logging.WARNING
        assert "the old certificates stay" in record.getMessage()
        assert "PRIVATE KEY" not in record.getMessage()
    caplog.clear()
    files.key.unlink()
    assert certificates.changed() is None
    assert certificates.changed() is None
    assert len(caplog.records) == 1
    files.key.write_bytes(whole)
    assert certificates.changed() is not None
    write(files, pair)
    assert certificates.changed() is not None


def test_files_that_change_while_they_are_read_are_read_again(
    files: TlsFiles, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificates = Certificates(files)
    write(files, authority.issue("two"))
    real = Path.read_bytes

    def read(self: Path) -> bytes:
        data = real(self)
        os.utime(self, ns=(1, 1))
        return data

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", read)
        assert certificates.changed() is None
    assert certificates.changed() is not None


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "127.8.9.1:1", "[::1]:8500", "localhost:8500"])
def test_plain_text_may_listen_on_loopback(listen: str) -> None:
    check_plaintext(listen)


@pytest.mark.parametrize(
    "listen",
    [
        "0.0.0.0:8500",
        "[::]:8500",
        "10.0.0.1:1",
        "example:1",
        "localhost.example:1",
        "127.0.0.1.a:1",
    ],
)
def test_plain_text_may_not_listen_elsewhere(listen: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_plaintext(listen)
    for word in ("listen: expected", listen, "tls_certificate_file", "allow_plaintext"):
        assert word in str(caught.value)
