"""A password in an MLflow, Prefect or endpoint URL is in nothing that is shown or left behind. A real MLflow server behind the URL."""

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from modelyard.adapters import terminal
from modelyard.adapters.mlflow.registry import Candidate, Registry
from modelyard.adapters.mlflow.server import tolerated
from modelyard.adapters.mlflow.tracker import Tracker
from modelyard.adapters.servers import ui
from modelyard.adapters.terminal import StageLine
from modelyard.child_server import HOST, die_with_parent, end, free_port, wait_for
from modelyard.commands.app import main
from modelyard.commands.command import say
from modelyard.commands.tables import table
from modelyard.complaint import complaint, without_password
from modelyard.model.asked import Decoding
from modelyard.model.endpoint import Endpoint
from modelyard.store.artifacts import Store
from tests.unit.store.test_lineage import make_line
from tests.worlds.registry import log_directory

SECRET = "pa55-of-ada-77c1"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """URL with a password, and the directory where the server keeps everything."""
    home = tmp_path_factory.mktemp("mlflow-server")
    port = free_port(0)
    command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"]
    environment = {**os.environ, "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{home}/mlflow.db", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with open(home / "log", "wb") as log:
        process = subprocess.Popen(command, cwd=home, env=environment, stdout=log, stderr=log, preexec_fn=die_with_parent)
    try:
        wait_for(f"http://{HOST}:{port}/health", process, home / "log", "MLflow server")
        yield f"http://ada:{SECRET}@{HOST}:{port}", home
    finally:
        end(process)


@pytest.mark.integration
def test_run_and_release_through_a_url_with_a_password_leave_it_nowhere(
    server: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], caplog
) -> None:
    uri, home = server
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    store = Store(f"file://{tmp_path}/store", str(tmp_path / "scratch"))
    made = make_line(store)
    tracker, registry = Tracker(uri, "line"), Registry(uri, "line")
    with tracker.line_run("line", {"seed": 0}):
        for artifact in made.values():
            tracker.record(artifact, store.storage.path(artifact.ref), store.fetch)
    run_id = tracker.find(made["export"].fingerprint)
    candidate = Candidate("f", made["policy"].ref, made["results"].ref, None, "PROMOTE", {"store": store.storage.url})
    registry.register(candidate, store.fetch(made["export"]), run_id, log=log_directory)
    with pytest.raises(ConnectionError), tracker.line_run("line", {"seed": 1}):
        raise ConnectionError(f"GET {uri}/api: refused")
    with caplog.at_level(logging.WARNING), tolerated("a warning"):
        raise OSError(f"{uri}/api/2.0: refused")

    shown = capfd.readouterr()
    assert tracker.page(made["policy"].fingerprint).startswith(f"http://{HOST}:")
    assert SECRET not in shown.out + shown.err + caplog.text + tracker.page(made["policy"].fingerprint)
    left = [path for place in (home, tmp_path) for path in place.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    assert left == []


@pytest.mark.integration
def test_ui_on_a_database_with_a_password_does_not_show_it_to_ps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    seen: list[str] = []

    class StopError(Exception):
        """Ends the command once its server was started."""

    def look(home: Path) -> None:
        living = [one for one in psutil.Process().children(recursive=True) if one.status() != psutil.STATUS_ZOMBIE]
        seen.extend(" ".join(process.cmdline()) for process in living)
        raise StopError

    monkeypatch.setattr(ui, "prefect_server", look)
    with pytest.raises(StopError):
        ui.show(tmp_path / "prefect", f"postgresql://ada:{SECRET}@{HOST}:9/mlflow")

    assert any("mlflow server" in line for line in seen)
    assert not any(SECRET in line for line in seen)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://ada:secret@host/db", "postgresql://host/db"),
        ("sqlite:///a/b.db", "sqlite:///a/b.db"),
        ("http://secret@host:80/x", "http://host:80/x"),
        ("https://ada:se/cr@et#1@host/api: refused", "https://host/api: refused"),
        ("see 'http://a:secret@h/' and 'http://b:secret@i/'", "see 'http://h/' and 'http://i/'"),
        ("postgresql://h/db?user=ada&password=secret&sslmode=off", "postgresql://h/db?user=ada&password=...&sslmode=off"),
        ("http://h/v1?api_key=secret#m", "http://h/v1?api_key=..."),
        ("http:/ada:secret@host/x: cannot be read", "http:/host/x: cannot be read"),  # as a path is written
        ("https:/secret@host/x", "https:/host/x"),
        ("extra argument(s) (s3://key:secret@bucket)", "extra argument(s) (s3://bucket)"),
        (
            "http://h/x?X-Amz-Credential=secret&X-Amz-Security-Token=secret&n=1",
            "http://h/x?X-Amz-Credential=...&X-Amz-Security-Token=...&n=1",
        ),
        ("http://h/x?X-Amz-Signature=secret&sv=1&sig=secret%3D", "http://h/x?X-Amz-Signature=...&sv=1&sig=..."),
        ("http://h/x?access-token=secret&pwd=secret&auth=secret&key=secret", "http://h/x?access-token=...&pwd=...&auth=...&key=..."),
        ("http://h/x#access_token=secret&state=1", "http://h/x#access_token=...&state=1"),
        ("http://h/x?AWSAccessKeyId=secret&api-key=secret", "http://h/x?AWSAccessKeyId=...&api-key=..."),
        ("AccountName=a;AccountKey=secret==", "AccountName=a;AccountKey=..."),
        ("http://h/x?design=1&author=2&keyword=3&monkey=4", "http://h/x?design=1&author=2&keyword=3&monkey=4"),
        ("models:/tiny@production, runs:/1a/m@b, file:/a/b@c", "models:/tiny@production, runs:/1a/m@b, file:/a/b@c"),
        ("sqlite:///a@b.db", "sqlite:///a@b.db"),
        ("http://host:8080/a@b", "http://host:8080/a@b"),
        ("s3://bucket/a@b", "s3://bucket/a@b"),
        ("models:/tiny@production", "models:/tiny@production"),
        ("mail ada@example.org", "mail ada@example.org"),
    ],
)
def test_text_with_urls_is_shown_without_their_passwords(text: str, shown: str) -> None:
    assert without_password(text) == shown
    assert complaint(ValueError(text)) == shown


@pytest.mark.parametrize(
    "words",
    [
        ["verify", "tiny", f"s3://key:{SECRET}@bucket"],
        ["compare", f"http://ada:{SECRET}@h/x", "y.jsonl"],
        [f"http://ada:{SECRET}@h/x"],
    ],
)
def test_command_that_refuses_a_word_does_not_say_its_password(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    said = capsys.readouterr()
    assert said.err.startswith("modelyard")
    assert SECRET not in said.out + said.err


def test_what_commands_say_and_tabulate_holds_no_password(capsys: pytest.CaptureFixture[str]) -> None:
    url = f"http://ada:{SECRET}@h/x"
    say(url + table(("place",), [(url,)]))
    terminal.stage_done(StageLine("corpus", False, 1.0, url), terminal.console())
    assert SECRET not in capsys.readouterr().out


def test_endpoint_with_a_password_is_named_and_known_without_it() -> None:
    url = f"http://ada:{SECRET}@127.0.0.1:9/v1#m"
    with pytest.raises(ValueError, match=r"^http://127.0.0.1:9/v1: ConnectError") as caught:
        Endpoint(url, pause=0.0).complete(["x"], Decoding(max_new_tokens=1, temperature=0.0, samples=1, seed=0))
    with pytest.raises(ValueError, match="name the model after a #") as unnamed:
        Endpoint(url.removesuffix("#m"))

    assert SECRET not in f"{caught.value}{unnamed.value}"
    assert Endpoint(url).weights == Endpoint("http://127.0.0.1:9/v1#m").weights, "a new password makes no other judge"


@pytest.mark.parametrize("name", ["PREFECT_API_URL", "MLFLOW_TRACKING_URI"])
def test_pages_of_named_servers_are_shown_without_passwords(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://prefect/api")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow")
    monkeypatch.setenv(name, f"http://ada:{SECRET}@there{'/api' if 'PREFECT' in name else ''}")

    assert SECRET not in ui.named_pages()
    assert "http://there" in ui.named_pages()
