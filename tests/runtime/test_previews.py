"""Previews take their share of a run and no more, on a clock of our own."""

from __future__ import annotations

import pytest
import torch

from cascade_app.catalogue import find_checkpoint
from cascade_app.events import StepDone
from cascade_app.runtime.generate import generate
from cascade_app.runtime.manager import PipelineManager
from cascade_app.runtime.previews import Costs, PreviewBudget
from cascade_app.settings import Settings

CPU = torch.device("cpu")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def run(costs: Costs, *, cost_s: float, steps: int = 100, step_s: float = 0.01, share: float = 0.03) -> tuple[list[int], float]:
    """The steps that showed something, and the share of the run's time that it took."""
    clock, shown = Clock(), []
    budget = PreviewBudget(share, costs, CPU, clock=clock)

    def computed():
        for step in range(steps):
            clock.now += step_s
            yield step

    def preview() -> None:
        clock.now += cost_s

    for step in budget.follow(computed()):
        if budget.affords("C", fraction=step / steps):
            budget.make("C", preview)
            shown.append(step)
        clock.now += 7.0  # what the reader does with it
    return shown, len(shown) * cost_s / (steps * step_s)


def test_what_costs_little_is_shown_at_every_step():
    costs = Costs()
    assert len(run(costs, cost_s=0.0002)[0]) == len(run(costs, cost_s=0.0002)[0]) == 100


@pytest.mark.parametrize("cost_s", [0.001, 0.004, 0.01, 0.02])
def test_what_costs_much_is_shown_as_often_as_the_share_pays_for_and_from_early_on(cost_s):
    costs = Costs()
    run(costs, cost_s=cost_s)
    shown, share = run(costs, cost_s=cost_s)
    assert 0.03 / 2 < share <= 0.03
    assert shown[0] < 50 and (len(shown) < 3 or max(later - step for step, later in zip(shown, shown[1:])) < 70)


def test_a_first_time_that_took_long_is_not_believed():
    clock, costs = Clock(), Costs()
    budget = PreviewBudget(0.03, costs, CPU, clock=clock)
    for cost_s in (5.0, 0.001, 0.003):
        assert budget.affords("C", fraction=0.1)
        budget.make("C", lambda cost_s=cost_s: setattr(clock, "now", clock.now + cost_s))
    assert costs.seconds["C"] == pytest.approx(0.001)


def test_what_was_measured_under_strain_is_tried_again_some_time():
    costs = Costs()
    run(costs, cost_s=1.0)
    assert any(len(run(costs, cost_s=0.0001)[0]) == 100 for _ in range(80))


def test_a_loaded_checkpoint_knows_what_its_previews_cost(manager, small_folder):
    manager.checkpoint(find_checkpoint(str(small_folder)))
    for stage in ("prior", "decoder"):
        assert any(what[0] == stage and manager.preview_costs.believed(what) for what in manager.preview_costs.seconds)


def test_a_share_of_nothing_is_none_at_all():
    assert run(Costs(), cost_s=0.0, share=0.0)[0] == []


@pytest.mark.parametrize(("share", "seen"), [(0.0, 0), (float("inf"), 5)])
def test_a_run_shows_what_its_manager_pays_for_and_makes_the_same_picture(ask, manager, share, seen):
    eager = PipelineManager(Settings(device="cpu", dtype="float32"), preview_share=share)
    events = list(generate(eager, ask(images=2)))
    steps = [event for event in events if isinstance(event, StepDone)]
    assert [len(step.previews) for step in steps[:-1]] == [2 if seen else 0] * 5
    expected = [event.image.tobytes() for event in generate(manager, ask(images=2)) if hasattr(event, "image")]
    assert [event.image.tobytes() for event in events if hasattr(event, "image")] == expected
