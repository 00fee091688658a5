"""Every CASCADE_* variable is read once, checked, and refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from cascade_app.errors import SettingsError
from cascade_app.settings import Settings

WHOLE = {
    "CASCADE_PORT": 65535, "CASCADE_THREADS": 1024, "CASCADE_QUEUE_SIZE": 100_000, "CASCADE_DEBUG": 1,
    "CASCADE_GALLERY_PICTURES": 10**9, "CASCADE_GALLERY_ALL_PICTURES": 10**9, "CASCADE_GALLERY_TRASH_DAYS": 36_500,
    "CASCADE_UPLOAD_PIXELS": 2**28, "CASCADE_HOSTED": 1, "CASCADE_PROXIES": 16, "CASCADE_VISITOR_WAITING": 100_000,
    "CASCADE_VISITOR_PICTURES": 10**6, "CASCADE_REQUEST_PIXELS": 2**40, "CASCADE_JOB_SECONDS": 10**6, "CASCADE_STREAMS": 10**6,
}  # fmt: skip


def refused(**environ: str) -> str:
    with pytest.raises(SettingsError) as caught:
        Settings.from_env(environ)
    message = caught.value.message
    assert "\n" not in message
    assert len(message) < 200
    assert message.startswith(next(iter(environ)))
    return message


def test_nothing_set_means_the_defaults(monkeypatch: pytest.MonkeyPatch):
    assert Settings.from_env({}) == Settings()
    monkeypatch.delenv("CASCADE_DATA_DIR")
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    assert Settings.from_env() == Settings()


def test_empty_and_blank_mean_the_defaults():
    names = ["HOST", "PORT", "CHECKPOINT", "DATA_DIR", "DEVICE", "DTYPE", "THREADS", "QUEUE_SIZE", "DEBUG"]
    for blank in ("", "  "):
        assert Settings.from_env({f"CASCADE_{name}": blank for name in names}) == Settings()


def test_everything_set():
    settings = Settings.from_env(
        {
            "CASCADE_HOST": "0.0.0.0", "CASCADE_PORT": " 08080 ", "CASCADE_CHECKPOINT": "folder", "CASCADE_DATA_DIR": "/data",
            "CASCADE_DEVICE": "cuda:1", "CASCADE_DTYPE": "bfloat16", "CASCADE_THREADS": "4", "CASCADE_QUEUE_SIZE": "8",
            "CASCADE_DEBUG": "1", "CASCADE_LATER": "ignored",
        }
    )  # fmt: skip
    assert settings == Settings(
        host="0.0.0.0", port=8080, checkpoint="folder", data_dir=Path("/data"), device="cuda:1", dtype="bfloat16", threads=4,
        queue_size=8, debug=True,
    )  # fmt: skip


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize(
    "value",
    ["-1", "1.5", "nan", "inf", "1e3", "0x10", "seven", "9" * 5000, "٣", "²", "1 2", "1\n2"],
    ids=lambda value: ascii(value)[:9],
)
def test_whole_numbers(name: str, value: str):
    assert f"a whole number from 0 to {WHOLE[name]}" in refused(**{name: value})


@pytest.mark.parametrize("name", WHOLE)
def test_limits(name: str):
    Settings.from_env({name: str(WHOLE[name])})
    Settings.from_env({name: "0"})
    refused(**{name: str(WHOLE[name] + 1)})


@pytest.mark.parametrize("value", ["fp16", "Float32", "float64", "x" * 9000])
def test_dtype(value: str):
    assert "auto, float32, bfloat16, float16" in refused(CASCADE_DTYPE=value)


def test_the_data_folder(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", "/home/someone")
    assert Settings.from_env({}).data_dir == Path("/home/someone/.local/share/cascade-studio")
    assert Settings.from_env({"XDG_DATA_HOME": "/xdg"}).data_dir == Path("/xdg/cascade-studio")
    assert Settings.from_env({"CASCADE_DATA_DIR": "~/pictures"}).data_dir == Path("/home/someone/pictures")
    assert "no such user" in refused(CASCADE_DATA_DIR="~nobody-of-that-name/x")


@pytest.mark.parametrize("name", ["CASCADE_GALLERY_BYTES", "CASCADE_GALLERY_ALL_BYTES", "CASCADE_UPLOAD_BYTES"])
def test_sizes_are_written_as_people_do(name: str):
    attribute = name.removeprefix("CASCADE_").lower()
    assert getattr(Settings.from_env({name: "1.5 GB"}), attribute) == 1_500_000_000
    assert "write a size such as 12GB" in refused(**{name: "plenty"})


def test_a_space_is_hosted_unless_told_otherwise():
    assert not Settings.from_env({}).hosted
    assert Settings.from_env({"SPACE_ID": "ann/studio"}).hosted
    assert not Settings.from_env({"SPACE_ID": "ann/studio", "CASCADE_HOSTED": "0"}).hosted
    assert Settings.from_env({"CASCADE_HOSTED": "1"}).hosted


def test_hosted_has_limits_that_a_desk_has_not():
    limits = ("visitor_waiting", "visitor_pictures", "request_pixels", "job_seconds")
    desk, hosted = Settings.from_env({}), Settings.from_env({"CASCADE_HOSTED": "1"})
    assert [getattr(desk, name) for name in limits] == [0, 0, 0, 0]
    assert [getattr(hosted, name) for name in limits] == [4, 120, 2**24, 600]
    assert Settings.from_env({"CASCADE_HOSTED": "1", "CASCADE_VISITOR_WAITING": "0"}).visitor_waiting == 0
    assert (hosted.proxies, Settings.from_env({"SPACE_ID": "ann/studio"}).proxies) == (0, 1)


def test_a_login_is_a_name_and_a_password_or_the_hubs(tmp_path: Path):
    assert Settings.from_env({"CASCADE_LOGIN": " ann:pass:word "}).login == "ann:pass:word"
    assert Settings.from_env({"CASCADE_LOGIN": "hub"}).login == "hub"
    file = tmp_path / "login"
    file.write_text("ann:p\u00e4ss word\nmore\n", encoding="utf-8")
    assert Settings.from_env({"CASCADE_LOGIN": f"@{file}"}).login == "ann:p\u00e4ss word"
    assert "p\u00e4ss" not in repr(Settings.from_env({"CASCADE_LOGIN": f"@{file}"}))


@pytest.mark.parametrize("value", ["secret", "ann:", ":secret", ":", "Hub", "ann:sec\nret", "ann:sec\x00ret"])
def test_a_malformed_login_is_refused_without_being_told(value: str, tmp_path: Path):
    assert "secret" not in refused(CASCADE_LOGIN=value) and "sec" not in refused(CASCADE_LOGIN=value)


def test_a_login_file_that_holds_none(tmp_path: Path):
    empty = tmp_path / "empty"
    empty.write_text("")
    assert "holds no login" in refused(CASCADE_LOGIN=f"@{empty}")
    assert "cannot be read" in refused(CASCADE_LOGIN=f"@{tmp_path / 'none'}")
    empty.write_bytes(b"\xff\xfe:a")
    assert "cannot be read" in refused(CASCADE_LOGIN=f"@{empty}")
