"""What is refused and what is withheld, and that nothing is made where it cannot be checked."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cascade_app.errors import InvalidRequest, Withheld
from cascade_app.events import Finished, ImageReady, Notice, RunStarted, StepDone, Waiting
from cascade_app.negative import Start
from cascade_app.request import GenerationRequest
from cascade_app.serving.safe import Safe, texts_told
from cascade_app.settings import Settings
from cascade_app.work import Origin, Work
from tests.fakes import SPEC, FakeBackend

REQUEST = GenerationRequest(prompt="hills", seed=1, width=128, height=128, images=3)


class Finds:
    """A checker that flags the pictures of these numbers, counted from the first one it is shown."""

    def __init__(self, *numbers: int) -> None:
        self.numbers, self.seen = numbers, 0

    def flagged(self, pictures):
        self.seen += len(pictures)
        return [self.seen - 1 in self.numbers]


@pytest.fixture
def blocklist(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("grue\n")
    return str(path)


def safe(backend=None, **settings) -> Safe:
    return Safe(backend or FakeBackend(), Settings(**settings))


def checked(checker, backend=None) -> Safe:
    one = safe(backend)
    one._checker = checker
    return one


# --- prompts ---


@pytest.mark.parametrize(
    "prompt", ["a grue", "a {grue|grue} at night", "a (gr:1.2)(ue:0.9)", r"a g\[rue", "g r u e", "a [GRÜE]"]
)
def test_the_words_that_are_sent_are_held_against_the_list(blocklist, prompt):
    backend = FakeBackend()
    with pytest.raises(InvalidRequest, match="not used here"):
        next(safe(backend, blocklist=blocklist).generate(replace(REQUEST, prompt=prompt)))
    assert backend.steps_done == 0


def test_what_is_drawn_for_any_image_counts(blocklist):
    request = replace(REQUEST, prompt="a {hill|valley|grue}", images=8)
    for seed in range(5):
        drawn = replace(request, seed=seed)
        words = [one.prompt for one in FakeBackend().plan(drawn).words]
        if any("grue" in one for one in words):
            with pytest.raises(InvalidRequest):
                next(safe(blocklist=blocklist).generate(drawn))
        else:
            next(safe(blocklist=blocklist).generate(drawn))


def test_an_open_seed_is_drawn_once(blocklist):
    started = next(iter(safe(blocklist=blocklist).generate(replace(REQUEST, seed=None))))
    assert isinstance(started, RunStarted) and started.plan.request.seed is not None


def test_both_ends_of_a_blend_count(blocklist):
    work = Work(origins=(Origin(1, "blend", start=Start(blend_prompt="a grue", blend=0.5)),))
    assert "a grue" in texts_told(FakeBackend().plan(REQUEST, work))
    with pytest.raises(InvalidRequest):
        next(safe(blocklist=blocklist).generate(REQUEST, work))


def test_a_negative_prompt_may_name_it(blocklist):
    request = replace(REQUEST, negative_prompt="grue")
    assert isinstance(list(safe(blocklist=blocklist).generate(request))[-1], Finished)


def test_on_a_desk_nothing_is_checked_and_hosted_the_bundled_list_is():
    request = replace(REQUEST, prompt="lolicon")
    assert list(safe().generate(request))
    assert list(safe(hosted=True, blocklist="off", image_checker="off").generate(request))
    with pytest.raises(InvalidRequest):
        next(safe(hosted=True, image_checker="off").generate(request))


# --- pictures ---


def test_no_preview_and_no_flagged_picture_comes_through():
    events = list(checked(Finds(1)).generate(REQUEST))
    assert not any(event.previews for event in events if isinstance(event, StepDone))
    assert [event.index for event in events if isinstance(event, ImageReady)] == [0, 2]
    assert Notice("The image checker withheld 1 of 3 pictures; the others are here.") in events
    assert isinstance(events[-1], Finished)


def test_sketches_are_checked_too():
    with pytest.raises(Withheld):
        list(checked(Finds(0, 1, 2)).generate(REQUEST, Work(sketch=True)))


def test_a_run_with_nothing_left_fails_in_a_sentence():
    events, one = [], checked(Finds(0, 1, 2)).generate(REQUEST)
    with pytest.raises(Withheld, match="Change the prompt or the seed"):
        events.extend(one)
    assert not any(isinstance(event, ImageReady) for event in events)


def test_a_checker_that_fails_lets_nothing_through():
    class Broken:
        def flagged(self, pictures):
            raise RuntimeError("broken")

    backend, events = FakeBackend(), []
    with pytest.raises(RuntimeError):
        for event in checked(Broken(), backend).generate(REQUEST):
            events.append(event)
    assert not any(isinstance(event, ImageReady) for event in events)
    assert not backend.lock.locked()


def test_closing_it_frees_the_engine():
    backend = FakeBackend()
    run = checked(Finds(), backend).generate(REQUEST)
    next(run)
    run.close()
    assert backend.closed_early == 1 and not backend.lock.locked()


# --- closed where a check cannot be made ---


def closed(one: Safe) -> str:
    """Why it is; the run and the status say the same."""
    with pytest.raises(Withheld) as refused:
        next(one.generate(REQUEST))
    status = one.status()
    assert (status.state, status.message) == ("failed", refused.value.message)
    return refused.value.message


def test_a_list_that_cannot_be_read_closes_it(tmp_path):
    assert "cannot be read: No such file" in closed(safe(blocklist=str(tmp_path / "nowhere.txt")))
    assert "cannot be read: Is a directory" in closed(safe(blocklist=str(tmp_path)))


def test_a_checker_that_cannot_be_loaded_closes_it(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name in (str(tmp_path), "nobody/has-this"):
        one = safe(image_checker=name)
        one.load()
        sentence = closed(one)
        assert "checker" in sentence and str(tmp_path.parent) not in sentence


def test_by_default_only_what_draws_little_is_served_without_a_checker(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    little, anything = FakeBackend(spec=replace(SPEC, draws="icons")), FakeBackend()
    for backend in (little, anything):
        one = safe(backend, hosted=True)
        one.load()
        assert one.status().state == "ready"
        if backend is little:
            assert isinstance(list(one.generate(REQUEST))[-1], Finished)
        else:
            with pytest.raises(Withheld, match="not at hand"):
                list(one.generate(REQUEST))


def test_a_run_waits_for_a_checker_that_is_loading(tmp_path):
    one = safe(image_checker=str(tmp_path))
    run = one.generate(REQUEST)
    assert next(run) == Waiting("Loading the image checker.")
    one.load()
    with pytest.raises(Withheld):
        next(run)


def test_the_bundled_checkpoint_says_what_it_draws(pocket):
    from cascade_app.catalogue import find_checkpoint

    assert find_checkpoint("pocket").draws and not find_checkpoint("stable-cascade").draws
