import asyncio
import logging
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from jobs.cli import main
from serving import keys as keys_module
from serving.guarded import guarded
from serving.key_file import KeyEntry, add_key, hash_of, parsed, revoke_key
from serving.keys import Keys, UnauthorizedError
from sgl.errors import ConfigurationError
from tests.serving.asgi import ASK, Application, Clock, browser, config_of

QUESTION = {"messages": []}


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def raw(key: str, scheme: str = "Bearer") -> list[tuple[bytes, bytes]]:
    return [(b"authorization", f"{scheme} {key}".encode())]


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "keys.yaml")


def test_the_command_prints_a_key_once_and_keeps_its_hash_alone(
    path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    limits = ["--requests-per-minute", "30", "--tokens-per-minute", "5e3"]
    assert main(["key", "alice", "--file", path, *limits, "--expires", "2030-01-31"]) == 0
    key = capsys.readouterr().out.strip()
    text = Path(path).read_text()
    assert key.startswith("sgl-")
    assert len(key) >= 4 + 43  # 256 bits in base64
    assert key not in text
    assert key[4:20] not in text
    (entry,) = parsed(text.encode(), path).keys
    assert entry.sha256 == hash_of(key)
    assert (entry.requests_per_minute, entry.tokens_per_minute) == (30, 5000)
    assert str(entry.expires) == "2030-01-31"
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert main(["key", "bob", "--file", path]) == 0
    assert capsys.readouterr().out.strip() != key
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert main(["key", "--revoke", "alice", "--file", path]) == 0
    assert [one.name for one in parsed(Path(path).read_bytes(), path).keys] == ["bob"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["alice"], "there is a key 'alice'"),
        (["a b"], "name"),
        (["a\nINFO forged"], "name"),
        (["x", "--requests-per-minute", "0"], "requests_per_minute"),
        (["--revoke", "nobody"], "there is no key 'nobody'"),
        (["x", "--revoke", "alice"], "write NAME"),
        ([], "write NAME"),
    ],
)
def test_what_the_command_refuses(
    arguments: list[str], says: str, path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    add_key(path, "alice")
    before = Path(path).read_bytes()
    assert main(["key", *arguments, "--file", path]) == 2
    assert says in capsys.readouterr().err
    assert Path(path).read_bytes() == before


def test_the_date_must_be_one(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["key", "x", "--file", path, "--expires", "soon"])
    assert "soon" in capsys.readouterr().err
    assert not Path(path).exists()


def test_keys_that_are_made_at_the_same_time_are_all_there(path: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda number: add_key(path, f"k{number}"), range(24)))
    keys = Keys(path)
    assert {keys.owner(raw(key)).name for key in made} == {f"k{number}" for number in range(24)}


def test_only_a_key_of_the_file_is_somebodys(path: str) -> None:
    key, other = add_key(path, "alice"), add_key(path, "bob")
    keys = Keys(path)
    assert keys.owner(raw(key)).name == "alice"
    assert keys.owner(raw(other, "bEARER")).name == "bob"
    for headers in (
        [],
        raw(""),
        raw(key, "Basic"),
        raw(key[:-1]),
        raw(key + "x"),
        raw(key.upper()),
        raw(hash_of(key)),
        raw("sgl-\xff"),
        raw(key) + raw(key),
        raw(key) + raw(other),
    ):
        with pytest.raises(UnauthorizedError):
            keys.owner(headers)


def test_every_hash_is_compared_in_constant_time_whichever_fits(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [add_key(path, f"k{number}") for number in range(5)]
    keys = Keys(path)
    compared = []

    def counted(one: str, other: str) -> bool:
        compared.append(one)
        return one == other

    monkeypatch.setattr(keys_module.hmac, "compare_digest", counted)
    for key in made:
        compared.clear()
        keys.owner(raw(key))
        assert len(compared) == 5


def test_a_key_counts_to_the_end_of_its_last_day(path: str) -> None:
    today = datetime.now(UTC).date()
    last = add_key(path, "last", expires=today + timedelta(days=1))
    over = add_key(path, "over", expires=today - timedelta(days=1))
    keys = Keys(path)
    assert keys.owner(raw(last)).name == "last"
    with pytest.raises(UnauthorizedError, match="expired"):
        keys.owner(raw(over))
    entry = KeyEntry(name="x", sha256="0" * 64, expires="2030-01-31")
    assert not entry.has_expired(datetime(2030, 1, 31, 23, 59, tzinfo=UTC))
    assert entry.has_expired(datetime(2030, 2, 1, tzinfo=UTC))


def test_a_revoked_key_ends_without_a_restart(path: str) -> None:
    key, other, clock = add_key(path, "alice"), add_key(path, "bob"), Clock()
    keys = Keys(path, clock)
    keys.owner(raw(key))
    revoke_key(path, "alice")
    clock.now += 2
    with pytest.raises(UnauthorizedError):
        keys.owner(raw(key))
    later = add_key(path, "carol")
    clock.now += 2
    assert [keys.owner(raw(one)).name for one in (other, later)] == ["bob", "carol"]


@pytest.mark.parametrize("broken", [b"keys: [", b"keys: [{name: x}]", b"\xff\xfe", b"", None])
def test_a_broken_file_keeps_the_last_good_keys_and_is_told_once(
    broken: bytes | None, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    key, clock = add_key(path, "alice"), Clock()
    keys = Keys(path, clock)
    if broken is None:
        os.unlink(path)
    else:
        Path(path).write_bytes(broken)
    for _ in range(3):
        clock.now += 2
        assert keys.owner(raw(key)).name == "alice"
    assert caplog.text.count("last good") == 1
    Path(path).write_text("keys: []\n")
    clock.now += 2
    with pytest.raises(UnauthorizedError):
        keys.owner(raw(key))


def test_a_file_that_could_not_be_read_is_tried_again(
    path: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without any other sign of change: rights may come back and leave none."""
    key, clock = add_key(path, "alice"), Clock()
    keys = Keys(path, clock)
    revoke_key(path, "alice")

    def denied(_: Path) -> bytes:
        raise PermissionError("denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", denied)
        for _ in range(3):
            clock.now += 2
            assert keys.owner(raw(key)).name == "alice"
    assert caplog.text.count("last good") == 1
    clock.now += 2
    with pytest.raises(UnauthorizedError):
        keys.owner(raw(key))


def test_a_change_in_place_is_seen_whatever_its_time_says(path: str) -> None:
    key, clock = add_key(path, "alice"), Clock()
    keys = Keys(path, clock)
    before = os.stat(path)
    text = Path(path).read_text()
    Path(path).write_text(text.replace(hash_of(key), "f" * 64))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = os.stat(path)
    assert (after.st_ino, after.st_size) == (before.st_ino, before.st_size)
    clock.now += 2
    with pytest.raises(UnauthorizedError):
        keys.owner(raw(key))


def test_a_file_that_cannot_be_read_at_the_start_is_refused(path: str) -> None:
    with pytest.raises(ConfigurationError, match="sgl key NAME"):
        guarded(Application().app(), config_of(keys=path))
    Path(path).write_text("keys: 7")
    with pytest.raises(ConfigurationError, match="keys"):
        guarded(Application().app(), config_of(keys=path))


def test_a_key_is_never_told(path: str, caplog: pytest.LogCaptureFixture) -> None:
    """Not in logs, errors or representations; not even the application gets it."""
    caplog.set_level(logging.DEBUG)
    key, wrong = add_key(path, "alice"), "sgl-" + "w" * 43
    application = Application()
    keys = Keys(path)
    told = [repr(keys.owner(raw(key))), repr(parsed(Path(path).read_bytes(), path))]

    async def ask() -> None:
        async with browser(guarded(application.app(), config_of(keys=path))) as client:
            for one in (key, wrong):
                answer = await client.post(ASK, json=QUESTION, headers=bearer(one))
                told.append(answer.text + str(answer.headers))

    asyncio.run(ask())
    try:
        keys.owner(raw(wrong))
    except UnauthorizedError as error:
        told.append(repr(error) + str(error.body()))
    told += [caplog.text, repr(application.headers), repr(application.clients)]
    assert len(application.headers) == 1
    assert b"authorization" not in dict(application.headers[0])
    for text in told:
        assert key[4:] not in text
        assert hash_of(key) not in text
        assert wrong[4:] not in text
