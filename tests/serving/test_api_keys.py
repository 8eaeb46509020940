"""Keys: shown once, kept as hashes, ended at once; and the `nbo keys` commands."""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from features.errors import BadInput, NotFound
from serving import customer_token
from serving.commands import keys as commands
from serving.keys import FRESH_S, SCOPES, KeyLimits, Keys
from tests.conftest import NOW


@pytest.fixture
def open_keys(tmp_path):
    opened = []

    def make():
        opened.append(Keys(tmp_path / "facts.db"))
        return opened[-1]

    yield make
    for keys in opened:
        keys.close()


def test_a_key_is_known_by_its_text_and_only_by_all_of_it(open_keys):
    keys = open_keys()
    token = keys.create("secret", ["events", "decide"], "shop", NOW)
    found = keys.verify(token)
    assert (found.kind, found.scopes, found.name, found.created_at) == ("secret", ("decide", "events"), "shop", NOW)
    assert token.startswith(f"{found.key_id}_")
    for wrong in (token[:-1], token + "x", found.key_id, found.key_id + "_", "", "sk", "\udcff", token.upper()):
        assert keys.verify(wrong) is None


def test_no_file_holds_the_text_of_a_key(open_keys, tmp_path):
    token = open_keys().create("secret", ["admin"], "", NOW)
    secret = token.split("_", 2)[2].encode()
    for file in tmp_path.iterdir():
        assert secret not in file.read_bytes()


def test_a_key_made_elsewhere_is_seen_at_once_and_one_revoked_there_a_moment_later(open_keys):
    here, there = open_keys(), open_keys()
    token = there.create("public", ["decide"], "", NOW)
    key_id = here.verify(token).key_id
    there.revoke(key_id, NOW)
    time.sleep(FRESH_S)
    assert here.verify(token) is None
    assert there.verify(token) is None
    assert here.all()[0].revoked_at == NOW


def test_the_first_start_makes_keys_once_also_when_many_start(open_keys):
    with ThreadPoolExecutor(8) as pool:
        made = [keys for keys in pool.map(lambda _: open_keys().first_start(NOW), range(8)) if keys is not None]
    ((secret, public),) = made
    keys = open_keys()
    assert keys.verify(secret).scopes == SCOPES
    assert keys.verify(public).kind == "public"
    assert keys.first_start(NOW) is None


def test_revoking_every_key_does_not_bring_back_the_first_start(open_keys):
    keys = open_keys()
    keys.first_start(NOW)
    for key in keys.all():
        keys.revoke(key.key_id, NOW)
    assert keys.first_start(NOW) is None


@pytest.mark.parametrize(
    ("kind", "scopes"),
    [
        ("secret", []),
        ("secret", ["everything"]),
        ("public", ["catalogue"]),
        ("public", ["admin"]),
        ("open", ["decide"]),
    ],
)
def test_a_kind_or_scope_that_is_none_is_refused(open_keys, kind, scopes):
    with pytest.raises(BadInput):
        open_keys().create(kind, scopes, "", NOW)


def test_revoking_an_unknown_key_says_so(open_keys):
    with pytest.raises(NotFound):
        open_keys().revoke("sk_none", NOW)


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("NBO_HOME", str(tmp_path))
    return tmp_path


def test_create_prints_the_key_alone(home, capsys):
    commands.create(kind="secret", scope="decide, events")
    token = capsys.readouterr().out
    assert re.fullmatch(r"sk_[0-9a-f]{12}_[\w-]{43}\n", token)


@pytest.mark.parametrize(("kind", "scopes"), [("secret", list(SCOPES)), ("public", ["decide", "events"])])
def test_a_key_made_without_a_scope_may_do_all_that_its_kind_may(home, capsys, kind, scopes):
    commands.create(kind=kind)
    capsys.readouterr()
    commands.list_keys(as_json=True)
    assert [key["scopes"] for key in json.loads(capsys.readouterr().out)["keys"]] == [scopes]


def test_list_shows_ids_and_never_keys(home, capsys):
    commands.create(scope="decide,events", name="shop")
    token = capsys.readouterr().out.strip()
    commands.list_keys(as_json=True)
    (shown,) = json.loads(capsys.readouterr().out)["keys"]
    assert (shown["kind"], shown["scopes"], shown["name"], shown["revoked_at"]) == (
        "secret",
        ["decide", "events"],
        "shop",
        None,
    )
    commands.revoke(shown["key_id"])
    commands.list_keys()
    out = capsys.readouterr().out
    assert "revoked" in out
    assert token not in out


def test_a_public_key_is_for_the_origins_as_browsers_send_them(open_keys):
    keys = open_keys()
    given = ("https://Shop.Example/", "https://shop.example:443", "http://localhost:3000", "http://[::1]:80")
    found = keys.verify(keys.create("public", ["decide"], "", NOW, KeyLimits(given)))
    assert found.limits.origins == ("https://shop.example", "http://localhost:3000", "http://[::1]")
    assert keys.origins() == set(found.limits.origins)
    keys.revoke(found.key_id, NOW)
    assert keys.origins() == set()


@pytest.mark.parametrize(
    "origin",
    [
        "*",
        "null",
        "shop.example",
        "https://",
        "https://shop.example/page",
        "ftp://a",
        "https://a b",
        "",
        "https://*.a.b",
    ],
)
def test_what_is_no_origin_is_refused(open_keys, origin):
    with pytest.raises(BadInput, match="is not an origin"):
        open_keys().create("public", ["decide"], "", NOW, KeyLimits((origin,)))


def test_secret_keys_have_no_origin_and_rates_are_above_zero(open_keys):
    for kind, limits in (
        ("secret", KeyLimits(("https://shop.example",))),
        ("public", KeyLimits(per_s=0.0)),
        ("public", KeyLimits(visitor_per_s=float("nan"))),
        ("secret", KeyLimits(per_s=-1.0)),
    ):
        with pytest.raises(BadInput):
            open_keys().create(kind, ["decide"], "", NOW, limits)


def test_public_keys_are_limited_and_secret_ones_are_not(open_keys):
    keys = open_keys()
    public, secret = (keys.verify(keys.create(kind, ["decide"], "", NOW)) for kind in ("public", "secret"))
    assert (public.limits, secret.limits) == (KeyLimits((), 1000.0, 10.0), KeyLimits())
    assert keys.verify(keys.create("public", ["decide"], "", NOW, KeyLimits(per_s=5.0))).limits == KeyLimits(
        (), 5.0, 10.0
    )
    assert re.fullmatch(r"ss_[\w-]{43}", public.signing_secret)
    assert secret.signing_secret is None
    assert public.signing_secret not in repr(public)


def test_keys_from_before_there_were_origins_go_on(tmp_path, open_keys):
    token = "pk_0123456789ab_x"
    with sqlite3.connect(tmp_path / "facts.db") as db:  # as release 0.1 made it
        db.execute(
            "CREATE TABLE keys (key_id TEXT PRIMARY KEY, kind TEXT NOT NULL, scopes TEXT NOT NULL, name TEXT NOT NULL, "
            "hash BLOB NOT NULL, created_us INTEGER NOT NULL, revoked_us INTEGER) WITHOUT ROWID"
        )
        row = (token[:15], "public", "decide", "old", hashlib.sha256(token.encode()).digest(), 7)
        db.execute("INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?, NULL)", row)
    db.close()
    for keys in (open_keys(), open_keys()):
        found = keys.verify(token)
        assert (found.name, found.limits, found.signing_secret) == ("old", KeyLimits((), 1000.0, 10.0), None)
    assert keys.verify(keys.create("public", ["decide"], "new", NOW)).signing_secret is not None


def test_create_tells_the_signing_secret_apart_from_the_key(home, capsys):
    commands.create(kind="public", origins=["https://shop.example"])
    out, err = capsys.readouterr()
    assert re.fullmatch(r"pk_[0-9a-f]{12}_[\w-]{43}\n", out)
    assert "https://shop.example" in err
    assert re.search(r"ss_[\w-]{43}", err)
    commands.create(kind="public", per_s=5.0, as_json=True)
    made = json.loads(capsys.readouterr().out)
    assert (made["key"][:15], made["per_s"], made["signing_secret"][:3]) == (made["key_id"], 5.0, "ss_")


def test_a_token_to_try_a_public_key_with(home, capsys, open_keys):
    commands.create(kind="public")
    text = capsys.readouterr().out.strip()
    key = open_keys().verify(text)
    commands.token(text, "c-1")
    customer_token.check(key, "c-1", capsys.readouterr().out.strip(), time.time())
    commands.create(kind="secret")
    with pytest.raises(BadInput, match="secret keys need no customer_token"):
        commands.token(capsys.readouterr().out.strip()[:15], "c-1")
    with pytest.raises(NotFound):
        commands.token("pk_none", "c-1")
