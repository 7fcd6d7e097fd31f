"""Who gets in, and what nobody may do: sessions, forms of other sites, roles, rates, the audit log."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sql
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy.exc import DBAPIError

from modelyard.commands.app import main
from modelyard.desk import accounts, audit
from modelyard.desk.database import VERSION_TABLE, Database
from modelyard.desk.tables import PREFIX, Account, SignedIn, Table
from modelyard.serving.book import Book
from modelyard.store.file_hash import sha256_file
from tests.unit.desk.browsing import PASSWORD, POSTGRESQL, Person, desk, people, postgresql, shown

HTMX = "a0abb04f2f45a1f89d1d4844023245537e5e6014c87b144553e0607b4cc32130"
"""Of dist/htmx.min.js in the npm package htmx.org 4.0.1."""
STATIC = Path(accounts.__file__).parent / "web/static"


def test_vendored_htmx_is_the_published_file_with_its_licence() -> None:
    assert sha256_file(STATIC / "htmx.min.js") == HTMX
    assert "Zero-Clause BSD" in (STATIC / "htmx.LICENSE.txt").read_text()


def test_sign_in_refuses_wrong_passwords_closed_accounts_and_unknown_names_alike(database: Database) -> None:
    people(database, "ann", "bob")
    with database.write() as session:
        accounts.set_active(session, "test", accounts.find(session, "bob"), False)
    app = desk(database)
    for name, password in (("ann", "wrong wrong wrong"), ("bob", PASSWORD), ("nobody", PASSWORD), ("a\0nn", "x\0"), ("", "")):
        person = Person(app, name or " ", password)
        assert person.said.status_code == 401
        assert "Name and password do not fit" in shown(person.said)
        assert person.get("/").url.path == "/sign-in"
    assert "Good day, ann" in shown(Person(app, "ann").get("/"))
    with database.read() as session:
        stored = session.scalars(sql.select(Account.password)).first()
        token = session.scalars(sql.select(SignedIn.token)).one()
    assert stored.startswith("$argon2id$")
    assert PASSWORD not in stored
    assert len(token) == 64


def test_cookie_is_kept_from_scripts_and_other_sites_and_ends_with_the_session(database: Database) -> None:
    people(database, "ann")
    ann = Person(desk(database), "ann")
    cookie = ann.said.history[0].headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    stolen = ann.client.cookies["desk_session"]
    ann.post("/sign-out")
    ann.client.cookies.set("desk_session", stolen)
    assert ann.get("/").url.path == "/sign-in"


def test_every_post_without_the_sessions_token_or_from_another_site_is_refused(database: Database) -> None:
    people(database, "ann", role="admin")
    app = desk(database)
    ann = Person(app, "ann")
    paths = [path.replace("{number}", "1") for path, methods in app.openapi()["paths"].items() if "post" in methods]
    assert len(paths) > 5
    for path in paths:
        assert ann.client.post(path, data={"csrf": "x", "name": "eve", "password": PASSWORD}).status_code == 403, path
    form = {"csrf": ann.csrf, "name": "eve", "password": PASSWORD, "role": "admin"}
    for headers in ({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
        assert ann.client.post("/accounts", data=form, headers=headers).status_code == 403
    assert ann.client.post("/accounts", data=form, headers={"Host": "evil.example"}).status_code == 421
    assert ann.client.post("/accounts", content=b"x" * (5 << 20)).status_code == 413
    with database.read() as session:
        assert [one.name for one in session.scalars(sql.select(Account))] == ["ann"]
    assert ann.client.post("/accounts", data=form, headers={"Origin": "http://localhost"}).status_code == 200
    assert "eve" in shown(ann.get("/accounts"))


def test_pages_are_for_their_roles_and_say_nothing_to_strangers(database: Database) -> None:
    people(database, "lea")
    people(database, "ada", role="admin")
    app = desk(database)
    lea, ada = Person(app, "lea"), Person(app, "ada")
    for path in ("/accounts", "/audit"):
        assert lea.get(path).status_code == 403
        assert ada.get(path).status_code == 200
        assert Person(app).get(path).url.path == "/sign-in"
    assert lea.post("/accounts", name="eve", role="admin", password=PASSWORD).status_code == 403
    assert ada.get("/batches/1").status_code == 403
    assert Person(app).get("/no/such/page").status_code == 404
    assert Person(app).get("/static/../app.py").status_code == 404


def test_numbers_that_no_database_could_look_for_are_pages_that_are_not_there(database: Database) -> None:
    people(database, "lea")
    people(database, "ada", role="admin")
    app = desk(database)
    lea, ada = Person(app, "lea"), Person(app, "ada")
    for path in ("/items/{}", "/batches/{}", "/chats/{}", "/findings/{}"):
        for number in (10**30, 2**31, -(10**30)):
            assert lea.get(path.format(number)).status_code == 404
    for path in ("/accounts/{}", "/batches/{}"):
        assert ada.post(path.format(10**30), action="open").status_code == 404
    assert ada.get(f"/audit?before={10**30}").status_code == 400
    assert ada.get("/audit?before=5").status_code == 200


def test_headers_let_no_script_of_others_run_and_names_are_shown_as_text(database: Database) -> None:
    people(database, "<script>alert(1)</script>\N{EURO SIGN}", role="admin")
    ann = Person(desk(database), "<script>alert(1)</script>\N{EURO SIGN}")
    page = ann.get("/accounts")
    assert "<script>alert" not in page.text
    policy = page.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert page.headers["cache-control"] == "no-store"
    for name in ("\u202eann", "", "a" * 81, "a\nb"):
        with database.write() as session, pytest.raises(accounts.AccountError, match="name"):
            accounts.create(session, "test", name, ["admin"], None)


def test_attempts_to_sign_in_are_limited_by_name(database: Database) -> None:
    people(database, "ann", "bob")
    app = desk(database, sign_ins_per_minute=3)
    said = [Person(app, "ann", "wrong wrong wrong").said.status_code for _ in range(4)]
    assert said == [401, 401, 401, 429]
    assert [Person(app, name).said.status_code for name in ("ann", " ann", "ann  ")] == [429] * 3
    assert Person(app, "bob").said.status_code == 200


def test_proxy_is_believed_on_this_machine_alone_and_passwords_are_not(database: Database) -> None:
    from starlette.testclient import TestClient

    people(database, "ann")
    app = desk(database, proxy_header="X-Forwarded-User")
    near = TestClient(app, base_url="http://localhost", client=("127.0.0.1", 1), headers={"X-Forwarded-User": "ann"})
    far = TestClient(app, base_url="http://localhost", client=("10.0.0.9", 1), headers={"X-Forwarded-User": "ann"})
    assert "Good day, ann" in near.get("/").text
    assert far.get("/").status_code == 403
    assert near.get("/", headers={"X-Forwarded-User": "nobody"}).status_code == 403
    assert near.post("/me/consent", data={"csrf": ""}).status_code == 403
    assert near.post("/sign-in", data={"name": "ann", "password": PASSWORD}).status_code == 403


def test_the_last_admin_stays_and_a_removed_account_takes_everything_along(database: Database) -> None:
    people(database, "ann", role="admin")
    ann = Person(desk(database), "ann")
    for form in ({"action": "close"}, {"action": "remove", "confirmed": "ann"}, {"action": "roles", "role": "labeler"}):
        assert "is the only admin" in shown(ann.post("/accounts/1", **form))
    assert "write its name" in shown(ann.post("/accounts/1", action="remove"))
    assert ann.get("/accounts").status_code == 200


def databases(tmp_path: Path) -> list[object]:
    return ["sqlite", pytest.param("postgresql", marks=pytest.mark.skipif(not POSTGRESQL, reason="no PostgreSQL server is installed"))]


@pytest.mark.parametrize("kind", databases(Path()))
def test_audit_log_is_kept_by_the_database_and_a_change_behind_its_back_is_found(kind: str, tmp_path: Path) -> None:
    if kind == "postgresql":
        with postgresql(tmp_path) as url:
            _audit(url)
    else:
        _audit(f"sqlite:///{tmp_path}/desk.db")


def _audit(url: str) -> None:
    Book(url)  # the serving application's tables lie beside
    database = Database(url)
    people(database, "ann", "bob")
    for change in ("UPDATE desk_audit SET actor = 'x'", "DELETE FROM desk_audit"):
        with pytest.raises(DBAPIError, match="append-only"), database.write() as session:
            session.execute(sql.text(change))
    with database.read() as session:
        assert [row.number for row in audit.entries(session)] == [2, 1]
        assert audit.broken(session) is None
    off = "DROP TRIGGER desk_audit_UPDATE" if database.engine.dialect.name == "sqlite" else "DROP TRIGGER desk_audit_kept ON desk_audit"
    with database.write() as session:
        session.execute(sql.text(off))
        session.execute(sql.text("UPDATE desk_audit SET subject = 'x' WHERE number = 1"))
    with database.read() as session:
        assert audit.broken(session) == 1
    with database.engine.connect() as connection:
        ours = {"version_table": VERSION_TABLE, "include_name": lambda name, kind, _: kind != "table" or str(name).startswith(PREFIX)}
        assert compare_metadata(MigrationContext.configure(connection, opts=ours), Table.metadata) == []
    database.close()


def test_account_command_makes_the_first_admin_and_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    book, secret = f"sqlite:///{tmp_path}/desk.db", tmp_path / "secret"
    secret.write_text(f"{PASSWORD}\nmore\n")
    assert main(["account", "ann", "--role", "admin", "expert", "--password-file", str(secret), "--book", book]) == 0
    assert capsys.readouterr().out.startswith("ann: expert, admin; in records p-")
    database = Database(book)
    assert "Good day, ann" in shown(Person(desk(database), "ann").get("/"))
    for words, said in (
        (["ann"], "missing --role"),
        (["eve", "--role", "king", "--no-password"], "roles: some of labeler"),
        (["eve", "--remove"], "no such account"),
        (["eve", "--role", "labeler", "--no-password", "--book", f"sqlite:///{tmp_path}"], "unable to open database"),
        (["eve", "--remove", "--book", f"sqlite:///{tmp_path}/none.db"], "none.db: no such database"),
        (["eve", "--role", "labeler", "--no-password", "--book", "sqlite://"], "sqlite://: name a file"),
        (["ann", "--remove"], "is the only admin"),
        (["eve", "--role", "labeler", "--password-file", str(tmp_path / "none")], "none"),
    ):
        assert main(["account", *words, *([] if "--book" in words else ["--book", book])]) == 2
        assert said in (line := capsys.readouterr().err)
        assert line.count("\n") == 1
    secret.write_text("short\n")
    assert main(["account", "eve", "--role", "labeler", "--password-file", str(secret), "--book", book]) == 2
    assert "password: needs 12 to 1000 characters, got 5" in capsys.readouterr().err
    with database.read() as session:
        assert len(session.scalars(sql.select(Account)).all()) == 1


def test_desk_of_labelers_starts_without_torch() -> None:
    program = (
        "import sys, modelyard.desk.web.app; sys.exit(any(m in sys.modules for m in ('torch', 'pandas', 'mlflow', 'ray', 'transformers')))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
