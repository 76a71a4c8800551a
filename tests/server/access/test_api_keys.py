from __future__ import annotations

import base64
import hmac
import logging
import os
from pathlib import Path

import pytest
from shortlist_server.access import api_keys
from shortlist_server.access.api_keys import KeyStore, Scope, digest_of, entry, make_key, read_keys
from shortlist_server.errors import ConfigError


class Clock:
    """Stands until it is moved."""

    def __init__(self) -> None:
        self.s = 100.0

    def __call__(self) -> float:
        return self.s


def write(file: Path, *entries: str) -> None:
    """Replace the file, and make sure that its time differs."""
    number = file.stat().st_mtime_ns + 10**9 if file.exists() else 10**18
    file.write_text("\n".join(entries))
    os.utime(file, ns=(number, number))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.toml"


def test_key_is_256_random_bits() -> None:
    keys = {make_key() for _ in range(100)}
    assert len(keys) == 100
    for key in keys:
        assert key.startswith("sl_")
        assert len(base64.urlsafe_b64decode(key[3:] + "=")) == 32


def test_entry_holds_the_hash_alone_and_is_what_the_file_takes(file: Path) -> None:
    key = make_key()
    text = entry(key, name="shop", scopes=["recommend", "debug"], requests_per_second=2.5, burst=10)
    assert key not in text
    assert key[3:] not in text
    write(file, text)
    found = KeyStore(file).find(key)
    assert found is not None
    assert (found.name, found.digest) == ("shop", digest_of(key))
    assert found.scopes == {Scope.RECOMMEND, Scope.DEBUG}
    assert found.bucket is not None
    assert (found.bucket.per_second, found.bucket.burst) == (2.5, 10)


def test_burst_is_that_of_a_second_unless_it_is_said(file: Path) -> None:
    for rate, burst in ((0.1, 1), (2.5, 3), (100, 100)):
        write(file, entry(make_key(), name="a", scopes=["catalog"], requests_per_second=rate))
        (key,) = read_keys(file)
        assert key.bucket is not None
        assert key.bucket.burst == burst


def test_other_keys_are_not_found(file: Path) -> None:
    key = make_key()
    write(file, entry(key, name="a", scopes=["recommend"]))
    store = KeyStore(file)
    for other in ("", "sl_", make_key(), key[:-1], key + "A", key.lower(), f" {key}", f"{key}\n"):
        assert store.find(other) is None
    assert store.find(key) is not None


def test_hash_of_a_weak_word_opens_nothing(file: Path) -> None:
    write(file, f'[[key]]\nname = "a"\nsha256 = "{digest_of("1234").hex()}"\nscopes = ["admin"]')
    assert KeyStore(file).find("1234") is None


def test_every_entry_is_compared_in_constant_time(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [make_key() for _ in range(5)]
    write(file, *[entry(key, name=f"k{n}", scopes=["recommend"]) for n, key in enumerate(keys)])
    store = KeyStore(file)
    compared: list[bytes] = []
    real = hmac.compare_digest

    def count(ours: bytes, theirs: bytes) -> bool:
        compared.append(ours)
        return real(ours, theirs)

    monkeypatch.setattr(api_keys.hmac, "compare_digest", count)
    for key in (keys[0], keys[4], make_key()):
        compared.clear()
        store.find(key)
        assert compared == [digest_of(each) for each in keys]


GOOD = f'[[key]]\nname = "a"\nsha256 = "{"0" * 64}"\nscopes = ["recommend"]\n'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["expected 1..1000 [[key]] tables, got none"]),
        ("key = []", ["got 0"]),
        ("[[key", ["expected TOML"]),
        (GOOD + "[other]\n", ["[[key]] tables only", "other"]),
        ("key = [1]", ["key 1: expected a table, got int"]),
        (GOOD.replace("name", "nmae"), ["key 1: expected burst, name", "nmae"]),
        (GOOD.replace('"a"', '"a b"'), ["key 1: name: expected", "'a b'"]),
        (GOOD.replace('"a"', f'"{"a" * 65}"'), ["name: expected 1..64"]),
        (GOOD.replace("0" * 64, "0" * 63), ["key 1: sha256: expected 64 hexadecimal digits"]),
        (GOOD.replace("recommend", "recomend"), ["scopes: expected", "explain", "'recomend'"]),
        (GOOD.replace('["recommend"]', "[]"), ["scopes: expected"]),
        (GOOD.replace('["recommend"]', '"recommend"'), ["scopes: expected a list"]),
        (GOOD.replace('["recommend"]', "[[1]]"), ["scopes: expected"]),
        (GOOD + "requests_per_second = 0", ["requests_per_second: expected a number above 0"]),
        (GOOD + "requests_per_second = nan", ["requests_per_second: expected", "got nan"]),
        (GOOD + "requests_per_second = true", ["requests_per_second: expected", "got True"]),
        (GOOD + "requests_per_second = 1\nburst = 0", ["burst: expected an integer from 1"]),
        (GOOD + "burst = 5", ["burst: expected requests_per_second beside it"]),
        (GOOD + GOOD.replace("0" * 64, "1" * 64), ["key 2: name: expected another, got a twice"]),
        (GOOD + GOOD.replace('"a"', '"b"'), ["key 2: sha256: b is a key named before"]),
    ],
)
def test_wrong_file_is_refused_by_entry_and_field(file: Path, text: str, words: list[str]) -> None:
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        KeyStore(file)
    for word in [str(file), *words]:
        assert word in str(caught.value)


def test_missing_file_is_refused_by_name(file: Path) -> None:
    with pytest.raises(ConfigError, match=r"keys\.toml: cannot be read: No such file"):
        KeyStore(file)


@pytest.mark.parametrize(
    "place", ['"a"', f'"{"0" * 64}"', '"recommend"', "name =", "[[key]]"], ids=str
)
def test_key_in_the_wrong_place_is_in_no_message(file: Path, place: str) -> None:
    key = make_key()
    wrong = {"name =": f"{key} =", "[[key]]": f"[{key}]\n[[key]]"}.get(place, f'"{key}"')
    file.write_text(GOOD.replace(place, wrong))
    with pytest.raises(ConfigError) as caught:
        KeyStore(file)
    assert key[3:] not in str(caught.value)


def test_changed_file_is_read_again_after_a_second(file: Path) -> None:
    clock = Clock()
    old, new = make_key(), make_key()
    write(file, entry(old, name="old", scopes=["recommend"]))
    store = KeyStore(file, clock)
    write(file, entry(new, name="new", scopes=["recommend"]))
    clock.s += 0.9
    assert store.find(new) is None
    assert store.find(old) is not None
    clock.s += 0.2
    assert store.find(new) is not None
    assert store.find(old) is None


def test_file_is_looked_at_once_a_second(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    write(file, GOOD)
    store = KeyStore(file, clock)
    looks: list[Path] = []
    real = Path.stat

    def stat(self: Path, **options: bool) -> os.stat_result:
        looks.append(self)
        return real(self, **options)

    monkeypatch.setattr(Path, "stat", stat)
    for _ in range(1_000):
        store.find("sl_")
        clock.s += 0.01
    assert 9 <= len(looks) <= 10


def test_broken_file_leaves_the_keys_as_they_were_and_is_logged_once(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    key = make_key()
    good = entry(key, name="a", scopes=["recommend"])
    write(file, good)
    store = KeyStore(file, clock)
    for broken in ("[[key]]\nname = ", "", good.replace("recommend", "everything")):
        caplog.clear()
        write(file, broken)
        for _ in range(3):
            clock.s += 2
            assert store.find(key) is not None
        (record,) = caplog.records
        assert record.levelno == logging.ERROR
        assert "the keys stay as they were" in record.getMessage()
        assert key not in record.getMessage()
    caplog.clear()
    file.unlink()
    clock.s += 2
    assert store.find(key) is not None
    assert "No such file" in caplog.text
    write(file, good.replace('"a"', '"b"'))
    clock.s += 2
    found = store.find(key)
    assert found is not None
    assert found.name == "b"


def test_reading_again_does_not_give_back_what_was_used_of_a_limit(file: Path) -> None:
    clock = Clock()
    key = make_key()
    limited = entry(key, name="a", scopes=["recommend"], requests_per_second=0.001, burst=1)
    write(file, limited)
    store = KeyStore(file, clock)
    first = store.find(key)
    write(file, limited, entry(make_key(), name="b", scopes=["recommend"]))
    clock.s += 2
    second = store.find(key)
    assert first is not None
    assert second is not None
    assert first is not second
    assert first.bucket is second.bucket
    write(file, limited.replace("burst = 1", "burst = 9"))
    clock.s += 2
    third = store.find(key)
    assert third is not None
    assert third.bucket is not first.bucket
