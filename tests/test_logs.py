"""The log: one line an event whatever happens, and nothing of what a visitor wrote."""

from __future__ import annotations

import io
import json
import logging
import sqlite3
import sys
import traceback

import pytest

from cascade_app.errors import CheckpointDamaged, GalleryError, InvalidRequest, NotInGallery, RenderFailed
from cascade_app.logs import Lines, Printed, described, event, explained, set_up, visitor_shown
from cascade_app.settings import Settings

SECRET = "a heron on grandmother's porch"
OTHERWISE = "Something went wrong; please try again."
LOG = logging.getLogger("cascade_app.tests")


@pytest.fixture
def written(monkeypatch):
    """`set_up` for a test: call with settings; returns the stream that lines go to."""
    root, ours = logging.getLogger(), logging.getLogger("cascade_app")
    before = root.handlers[:], root.level, ours.level
    monkeypatch.setattr(sys, "stderr", sys.stderr)

    def start(**settings) -> io.StringIO:
        stream = io.StringIO()
        set_up(Settings(**settings), stream)
        return stream

    yield start
    root.handlers[:], root.level, ours.level = before
    logging.captureWarnings(False)


def lines(stream: io.StringIO) -> list[dict]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def raised(error: Exception, cause: Exception | None = None) -> Exception:
    try:
        raise error from cause
    except type(error) as caught:
        return caught


def test_an_event_is_one_line_of_json(written):
    stream = written(log_format="json")
    event(LOG, "run ended", reference="7f3a9c", pictures=2, note="two\nlines \ud800")
    (line,) = lines(stream)
    assert line.pop("time")[-6:] == "+00:00"
    assert line == {
        "level": "info", "logger": "cascade_app.tests", "event": "run ended", "reference": "7f3a9c", "pictures": 2,
        "note": "two\nlines \ud800",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "as_json"),
    [({}, False), ({"hosted": True}, True), ({"hosted": True, "log_format": "text"}, False), ({"log_format": "json"}, True)],
)
def test_json_where_hosted_and_words_on_a_desk(written, settings, as_json):
    stream = written(**settings)
    event(LOG, "run ended", outcome="not finished", visitor="", seconds=1.5)
    (line,) = stream.getvalue().splitlines()
    assert line.startswith("{") == as_json
    if not as_json:
        assert line[8:] == ' info run ended outcome="not finished" seconds=1.5'


@pytest.mark.parametrize("format", ["json", "text"])
def test_a_traceback_is_one_line_with_its_places(written, format):
    stream = written(log_format=format)
    try:
        event(None, "no logger")  # type: ignore[arg-type]
    except AttributeError as error:
        event(LOG, "fault", level=logging.ERROR, raised=error)
    (line,) = stream.getvalue().splitlines()
    assert "AttributeError" in line and "cascade_app/logs.py:" in line and "Traceback" not in line


@pytest.mark.parametrize(
    "error",
    [
        ValueError(SECRET), KeyError(SECRET), RuntimeError(f"bad {SECRET}"), InvalidRequest(f'"{SECRET}" is too long'),
        OSError(28, "No space left on device", f"/pictures/{SECRET}.png"), UnicodeEncodeError("utf-8", SECRET, 0, 1, SECRET),
    ],
)  # fmt: skip
def test_no_exception_says_what_a_visitor_wrote(written, error):
    stream = written(log_format="json")
    event(LOG, "fault", level=logging.ERROR, raised=raised(error, ValueError(SECRET)))
    logging.getLogger("some.library").error("Could not read %s", SECRET, exc_info=raised(error))
    logging.getLogger("mcp.server").warning(f"Not valid: {SECRET}")
    logging.getLogger("asyncio").error(f"Task exception was never retrieved\nfuture: <Task exception={error!r}>")
    try:
        raise error
    except type(error):
        traceback.print_exc()  # as Gradio does
    print(f"{SECRET} could not be parsed", file=sys.stderr)
    assert len(lines(stream)) >= 6
    assert "heron" not in stream.getvalue() and "porch" not in stream.getvalue()


def test_the_operator_may_ask_for_all_of_it(written):
    stream = written(log_format="json", log_prompts=True)
    event(LOG, "fault", level=logging.ERROR, raised=raised(ValueError(SECRET)))
    print(SECRET, file=sys.stderr)
    assert [line.get("reason", line["event"]) for line in lines(stream)] == [SECRET, SECRET]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(28, "No space left on device"), "No space left on device"),
        (sqlite3.OperationalError("database is locked"), "database is locked"),
        (CheckpointDamaged("pocket lacks its prior"), "pocket lacks its prior"),
        (ValueError("anything"), ""),
    ],
)
def test_reasons_that_quote_nobody_are_kept(error, reason):
    assert described(raised(error))["reason"] == reason


def test_what_led_to_an_error_is_named():
    cause = raised(OSError(28, "full"), sqlite3.OperationalError("locked"))
    assert described(raised(GalleryError("cannot be saved"), cause))["error"] == "GalleryError from OSError from OperationalError"


def test_a_fault_is_told_with_the_reference_of_its_one_line(caplog):
    error = raised(RenderFailed("Memory ran out; choose a smaller size."))
    sentence = explained(error, LOG, otherwise=OTHERWISE, reference="abc123")
    assert sentence == "Memory ran out; choose a smaller size (reference abc123)."
    assert explained(error, LOG, otherwise=OTHERWISE) == sentence
    (record,) = caplog.records
    assert record.fields["reference"] == "abc123" and record.levelname == "ERROR"
    unknown = explained(ZeroDivisionError(SECRET), LOG, otherwise=OTHERWISE)
    assert unknown.startswith("Something went wrong; please try again (reference ") and SECRET not in unknown


@pytest.mark.parametrize("error", [InvalidRequest("Prompt is empty.", field="prompt"), NotInGallery("It is not there.")])
def test_a_mistake_is_told_as_it_is(error, caplog):
    assert explained(error, LOG, otherwise=OTHERWISE) == error.message
    assert not caplog.records


def test_what_libraries_print_is_one_line_a_traceback(written):
    stream = written(log_format="json")
    printed = Printed(io.StringIO())
    printed.write("Traceback (most recent call last):\n  File \"/opt/site-packages/gradio/queueing.py\", line 12, in call\n")
    printed.write(f"    value = parse({SECRET!r})\n            ^^^^^\ngradio.exceptions.Error: {SECRET}\n")
    (line,) = lines(stream)
    assert line["event"] == "a library failed" and line["error"] == "Error"
    assert line["at"] == "gradio/queueing.py:12 call"


def test_a_log_that_cannot_be_written_stops_nothing(written):
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    written()
    logging.getLogger().handlers[0].setStream(Full())
    event(LOG, "run ended")


def test_visitors_are_told_apart_and_not_named():
    one = "a" * 32
    assert visitor_shown(one) == visitor_shown(one) != visitor_shown("b" * 32)
    assert visitor_shown(one) not in one and len(visitor_shown(one)) == 8 and visitor_shown("") == ""


def test_a_line_for_a_person_is_one_line():
    record = LOG.makeRecord(LOG.name, 20, "f", 1, "saved\nit", (), None, extra={"fields": {"why": 'a "b"\n', "none": None}})
    assert Lines(as_json=False).format(record)[8:] == ' info saved it why="a \\"b\\"\\n"'
