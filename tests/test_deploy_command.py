"""`python -m cascade_app deploy`: a Space made, updated, rehearsed, and every refusal a sentence."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2 as httpx
import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

from cascade_app import cli, deploy_command
from cascade_app.deploy_command import LOG_LINES, Pace
from cascade_app.errors import CascadeError, InvalidRequest, LicenseNotAccepted, SettingsError
from cascade_app.published import LICENSE
from cascade_app.settings import Settings

QUICK = Pace(limit_s=0.2, settle_s=0.0, every_s=0.01)


@dataclass
class FakeHub:
    """A hub with at most one Space, and what is to go wrong.

    Attributes:
        refusals: method -> what it raises.
        stages: what the Space's runtime says, one after another; the last one stays.
        calls: the methods that changed something, in order.
    """

    space: dict[str, Any] | None = None
    refusals: dict[str, Exception] = field(default_factory=dict)
    stages: list[str] = field(default_factory=lambda: ["BUILDING", "APP_STARTING", "RUNNING"])
    calls: list[str] = field(default_factory=list)
    logs_asked: list[bool] = field(default_factory=list)

    def _enter(self, method: str) -> None:
        if method in self.refusals:
            raise self.refusals[method]

    def _change(self, method: str) -> None:
        self._enter(method)
        self.calls.append(method)

    def whoami(self) -> dict[str, str]:
        self._enter("whoami")
        return {"name": "ada"}

    def repo_exists(self, *, repo_id: str, repo_type: str) -> bool:
        return self.space is not None

    def space_info(self, *, repo_id: str) -> Any:
        return SimpleNamespace(private=self.space["private"])

    def create_repo(self, *, repo_id, repo_type, space_sdk, space_hardware, space_variables, space_secrets, private):
        self._change("create_repo")
        self.space = {
            "name": repo_id, "sdk": space_sdk, "hardware": space_hardware, "private": private, "files": {},
            "variables": {item["key"]: item["value"] for item in space_variables},
            "secrets": {item["key"]: item["value"] for item in space_secrets},
        }  # fmt: skip

    def add_space_variable(self, *, repo_id: str, key: str, value: str) -> None:
        self._change("add_space_variable")
        self.space["variables"][key] = value

    def add_space_secret(self, *, repo_id: str, key: str, value: str) -> None:
        self._change("add_space_secret")
        self.space["secrets"][key] = value

    def request_space_hardware(self, *, repo_id: str, hardware: str) -> None:
        self._change("request_space_hardware")
        self.space["hardware"] = hardware

    def upload_folder(self, *, repo_id, repo_type, folder_path, delete_patterns, commit_message) -> None:
        self._change("upload_folder")
        assert delete_patterns == "*"
        root = Path(folder_path)
        self.space["files"] = {
            path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()
        }

    def get_space_runtime(self, *, repo_id: str) -> Any:
        stage = self.stages.pop(0) if "upload_folder" in self.calls and len(self.stages) > 1 else self.stages[0]
        return SimpleNamespace(stage=stage, requested_hardware=self.space["hardware"])

    def fetch_space_logs(self, *, repo_id: str, build: bool) -> Iterator[str]:
        self.logs_asked.append(build)
        yield from (f"line {number}\n" for number in range(100))


def run(hub: Any, *words: str, settings: Settings | None = None, pace: Pace = QUICK) -> None:
    arguments = cli.build_parser().parse_args(["deploy", "--space", "ada/studio", *words])
    deploy_command.run(arguments, settings or Settings(), hub=lambda: hub, pace=pace)


def existing(**changed: Any) -> dict[str, Any]:
    plain = {"hardware": "cpu-basic", "private": False, "files": {"old.py": b""}, "variables": {}, "secrets": {}}
    return plain | changed


def refused(status: int) -> HfHubHTTPError:
    request = httpx.Request("POST", "https://hub.example/api")
    return HfHubHTTPError("no", response=httpx.Response(status, request=request))


def test_a_space_is_made(capsys, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_abc")
    hub = FakeHub()
    run(hub, "--hardware", "t4-small", "--variable", "CASCADE_QUEUE_SIZE=8", "--secret", "HF_TOKEN")
    assert hub.calls == ["create_repo", "upload_folder"]
    space = hub.space
    assert (space["name"], space["sdk"], space["hardware"], space["private"]) == ("ada/studio", "gradio", "t4-small", False)
    assert space["variables"] == {
        "CASCADE_CHECKPOINT": "pocket", "CASCADE_ACCEPT_LICENSE": "none", "CASCADE_QUEUE_SIZE": "8"
    }  # fmt: skip
    assert space["secrets"] == {"HF_TOKEN": "hf_abc"}
    assert {"app.py", "README.md", "requirements.txt", "cascade_app/runtime/generate.py"} <= set(space["files"])
    out = capsys.readouterr().out
    assert "hf_abc" not in out and "BUILDING" in out and "RUNNING" in out
    assert f"line {100 - LOG_LINES}\n" in out and f"line {99 - LOG_LINES}\n" not in out and hub.logs_asked == [False]
    assert out.endswith("ada/studio runs: https://huggingface.co/spaces/ada/studio\n")


def test_signing_in_at_the_hub_is_asked_for_where_the_app_will(monkeypatch):
    for more, asked in ((["--variable", "CASCADE_LOGIN=hub"], True), ([], False)):
        hub = FakeHub()
        run(hub, "--hardware", "cpu-basic", *more)
        assert (b"\nhf_oauth: true\n" in hub.space["files"]["README.md"]) == asked


def test_a_space_is_updated_and_what_it_no_longer_needs_is_gone(monkeypatch):
    monkeypatch.setenv("CASCADE_LOGIN", "ada:lovelace")
    hub = FakeHub(existing(variables={"CASCADE_ACCEPT_LICENSE": LICENSE, "KEPT": "1"}))
    run(hub, "--hardware", "zero-a10g", "--secret", "CASCADE_LOGIN")
    assert hub.calls == [*["add_space_variable"] * 2, "add_space_secret", "request_space_hardware", "upload_folder"]
    assert hub.space["variables"] == {"CASCADE_CHECKPOINT": "pocket", "CASCADE_ACCEPT_LICENSE": "none", "KEPT": "1"}
    assert hub.space["secrets"] == {"CASCADE_LOGIN": "ada:lovelace"} and hub.space["hardware"] == "zero-a10g"
    assert "old.py" not in hub.space["files"] and b"torch==2.11.0" in hub.space["files"]["requirements.txt"]
    again = FakeHub(hub.space)
    run(again, "--hardware", "zero-a10g")
    assert again.calls == [*["add_space_variable"] * 2, "upload_folder"]


def test_the_stage_of_what_ran_before_is_not_taken_for_the_new_one(capsys):
    hub = FakeHub(existing(), stages=["RUNNING", "RUNNING", "RUNNING_BUILDING", "BUILD_ERROR"])
    with pytest.raises(CascadeError, match="could not be built"):
        run(hub, pace=Pace(limit_s=30, settle_s=30, every_s=0.01))
    assert hub.logs_asked == [True] and "build log" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("stage", "sentence"),
    [("PAUSED", "is paused; restart it"), ("RUNTIME_ERROR", "its log above"), ("DELETING", "is in the stage DELETING")],
)
def test_a_space_that_does_not_run_is_a_failure(stage, sentence):
    with pytest.raises(CascadeError, match=sentence):
        run(FakeHub(stages=["BUILDING", stage]))


def test_waiting_ends():
    with pytest.raises(CascadeError, match="still BUILDING after 0 minutes"):
        run(FakeHub(stages=["BUILDING"]))


# --- licences ----------------------------------------------------------------------------------------------------------


def test_a_published_checkpoint_needs_its_licence_accepted(capsys, tmp_path):
    hub = FakeHub()
    with pytest.raises(LicenseNotAccepted, match=f"set CASCADE_ACCEPT_LICENSE to {LICENSE}"):
        run(hub, "--checkpoint", "stable-cascade", settings=Settings(data_dir=tmp_path))
    assert hub.calls == []
    assert "no commercial use, and no serving of the model to others" in capsys.readouterr().out


def test_with_it_accepted_the_space_is_private_and_says_so(capsys, tmp_path):
    hub = FakeHub()
    run(hub, "--checkpoint", "stable-cascade", settings=Settings(data_dir=tmp_path, accept_license=LICENSE))
    assert hub.space["private"] is True
    assert hub.space["variables"] == {"CASCADE_CHECKPOINT": "stable-cascade", "CASCADE_ACCEPT_LICENSE": LICENSE}
    assert "no commercial use" in hub.space["files"]["README.md"].decode()
    assert "the Space will be private" in capsys.readouterr().out


def test_no_published_checkpoint_on_a_public_space(tmp_path):
    accepted = Settings(data_dir=tmp_path, accept_license=LICENSE)
    hub = FakeHub(existing())
    with pytest.raises(CascadeError, match="ada/studio is public, and this checkpoint may not be served to others"):
        run(hub, "--checkpoint", "stable-cascade", settings=accepted)
    assert hub.calls == []
    run(FakeHub(existing(private=True)), "--checkpoint", "stable-cascade", settings=accepted)


# --- rehearsal ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hardware", ["cpu-basic", "t4-small", "zero-a10g"])
def test_a_rehearsal_names_every_call_and_file_and_asks_nobody(capsys, hardware):
    class Nobody:
        def __getattr__(self, name: str) -> Any:
            raise AssertionError(f"{name} was called")

    run(Nobody(), "--hardware", hardware, "--dry-run")
    rehearsed = capsys.readouterr().out
    hub = FakeHub()
    run(hub, "--hardware", hardware)
    run(again := FakeHub(existing(hardware="l4x1")), "--hardware", hardware)
    for call in {*hub.calls, *again.calls, "whoami", "repo_exists", "get_space_runtime", "fetch_space_logs"}:
        assert f"  {call}(" in rehearsed
    files = {
        line.split(maxsplit=1)[1]: int(line.split()[0].replace(",", ""))
        for line in rehearsed.partition(" MB:\n")[2].splitlines()[:-1]
    }
    assert files == {name: len(content) for name, content in hub.space["files"].items()}
    assert rehearsed.endswith("Nothing was sent (--dry-run).\n")
    made = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("create_repo("))
    assert f"  {made}\n" in rehearsed


def test_a_rehearsal_through_the_front_door(capsys, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert cli.main(["deploy", "--space", "ada/studio", "--dry-run"]) == 0
    out, err = capsys.readouterr()
    assert "create_repo(" in out and err == ""


# --- mistakes and failures ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--space", "studio"], "write it as OWNER/NAME"),
        (["--space", "../etc/passwd"], "write it as OWNER/NAME"),
        (["--space", "a/b\nc"], "write it as OWNER/NAME"),
        (["--hardware", "h100"], "the hub has cpu-basic, cpu-upgrade, zero-a10g, t4-small"),
        (["--checkpoint", "./weights"], "a Space can have one of pocket, stable-cascade"),
        (["--variable", "QUEUE"], "write it as NAME=VALUE"),
        (["--variable", "CASCADE_CHECKPOINT=x"], "follows from --checkpoint"),
        (["--variable", "HF_TOKEN=hf_abc"], "use --secret HF_TOKEN"),
        (["--variable", "CASCADE_LOGIN=ann:password"], "use --secret CASCADE_LOGIN"),
        (["--secret", "HF_TOKEN=hf_abc"], "write only its name"),
        (["--secret", "NOT_SET_HERE"], "which is not set"),
    ],
)
def test_mistakes_are_sentences_before_anything_is_asked(words, sentence):
    hub = FakeHub()
    with pytest.raises(InvalidRequest, match=sentence):
        run(hub, *words)
    assert hub.calls == []


def test_a_setting_the_app_would_refuse_is_refused_here():
    with pytest.raises(SettingsError, match="CASCADE_QUEUE_SIZE"):
        run(FakeHub(), "--variable", "CASCADE_QUEUE_SIZE=many")


@pytest.mark.parametrize(
    ("status", "sentence"),
    [(401, "does not know this token"), (402, "cpu-basic to be paid for"), (403, "Use one that may write for ada"),
     (404, "does not show ada/studio"), (429, "in a few minutes"), (503, "with status 503")],
)  # fmt: skip
@pytest.mark.parametrize("method", ["whoami", "create_repo", "upload_folder"])
def test_what_the_hub_refuses_is_a_sentence(method, status, sentence):
    with pytest.raises(CascadeError, match=sentence):
        run(FakeHub(refusals={method: refused(status)}))


@pytest.mark.parametrize("error", [httpx.ConnectError("no route"), httpx.ReadTimeout("late"), ConnectionResetError()])
@pytest.mark.parametrize("method", ["whoami", "upload_folder"])
def test_a_lost_network_is_a_sentence(method, error):
    with pytest.raises(CascadeError, match=r"The hub cannot be reached.*goes on from there"):
        run(FakeHub(refusals={method: error}))


def test_a_broken_upload_is_a_sentence():
    hub = FakeHub(refusals={"upload_folder": RuntimeError("Data processing error:\nCAS service")})
    with pytest.raises(CascadeError, match=r"broke off \(Data processing error: CAS service\)"):
        run(hub)


# --- with the library itself -------------------------------------------------------------------------------------------


@contextmanager
def hub_that_answers(status: int) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def test_the_library_without_a_token(monkeypatch, tmp_path):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(CascadeError, match="There is no token for the hub here"):
        run(HfApi())


def test_the_library_with_a_hub_that_refuses():
    with hub_that_answers(401) as url, pytest.raises(CascadeError, match="does not know this token"):
        run(HfApi(endpoint=url, token="hf_abc"))


def test_the_library_without_a_network():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        api = HfApi(endpoint=f"http://127.0.0.1:{closed.getsockname()[1]}", token="hf_abc")
        with pytest.raises(CascadeError, match="The hub cannot be reached"):
            run(api)
