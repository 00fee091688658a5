"""Trains every part of the pocket checkpoint, in order, two at a time where they do not need each other.

    TRAIN_HOURS=2 python -m cascade_app.training --to assets/pocket

The budget is the wall time of the whole; it may be stopped at any moment and goes on where it was when started again.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from cascade_app.training.workdir import add_work_dir_argument, work_dir

# Shares of the budget. Lanes of a phase run side by side; the parts of a lane one after another.
# REFINED goes on with what each of the two stages does wrong once both are trained, and SHARPEN with what Stage A makes of
# their work: for that there has to be a whole checkpoint.
REFINED = (((("stage_b --refine", 0.3),), (("stage_c --refine", 0.3),)),)
SHARPEN = (((("sharpen", 0.09),),),)
PHASES: tuple[tuple[tuple[tuple[str, float], ...], ...], ...] = (
    ((("stage_a", 0.09), ("clip", 0.07)), (("encoder", 0.25),)),
    ((("stage_b", 0.36),), (("reader", 0.01), ("previewer", 0.03), ("stage_c", 0.32))),
    *REFINED,
)


def lane_minutes(hours: float) -> dict[str, float]:
    """Training minutes of each part for a budget of hours."""
    return {part: hours * 60 * share for phase in (*PHASES, *SHARPEN) for lane in phase for part, share in lane}


def _command(part: str, *arguments: str) -> list[str]:
    module, *options = part.split()
    return [sys.executable, "-u", "-m", f"cascade_app.training.{module}", *options, *arguments]


def _run_phase(lanes: tuple, minutes: dict[str, float], common: list[str]) -> None:
    """Run every lane; a failing part stops the whole."""
    waiting = [list(lane) for lane in lanes]
    running: dict[int, subprocess.Popen] = {}
    try:
        while any(waiting) or running:
            for i, lane in enumerate(waiting):
                if i not in running and lane:
                    part, _ = lane.pop(0)
                    running[i] = subprocess.Popen(_command(part, "--minutes", f"{minutes[part]:.2f}", *common))
            for i, process in list(running.items()):
                try:
                    code = process.wait(timeout=1)
                except subprocess.TimeoutExpired:
                    continue
                del running[i]
                if code:
                    raise SystemExit(
                        f"{' '.join(process.args[3:5])} failed with exit code {code}; its message is above"
                    )
    finally:
        for process in running.values():
            process.terminate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_work_dir_argument(parser)
    parser.add_argument("--hours", type=float, default=float(os.environ.get("TRAIN_HOURS", "2")))
    parser.add_argument("--to", type=Path, default=Path("assets/pocket"), help="where the checkpoint is written")
    parser.add_argument("--init-from", type=Path, help="go on with Stage B and C of this exported checkpoint")
    parser.add_argument("--device", help="cpu, cuda ... (default: the best there is)")
    parser.add_argument("--pictures", type=int, default=16000)
    parser.add_argument("--no-evaluation", action="store_true", help="do not measure the result")
    arguments = parser.parse_args()
    work = work_dir(arguments.work_dir)
    common = ["--work-dir", str(work), "--pictures", str(arguments.pictures)]
    if arguments.init_from:
        common += ["--init-from", str(arguments.init_from)]
    if arguments.device:
        common += ["--device", arguments.device]
    # Drawn here once, so that two parts do not draw the same pictures side by side.
    from cascade_app.training.data import Pictures

    Pictures(work, arguments.pictures)
    # From an exported checkpoint the latents are given: only what works on them goes on.
    minutes = lane_minutes(arguments.hours / (0.39 if arguments.init_from else 1))
    checkpoint = ("--checkpoint", str(arguments.to))
    for phases, options in ((REFINED if arguments.init_from else PHASES, ()), (SHARPEN, checkpoint)):
        for lanes in phases:
            _run_phase(lanes, minutes, [*common, *options])
        subprocess.run(_command("export", "--work-dir", str(work), "--to", str(arguments.to)), check=True)
    if not arguments.no_evaluation:
        subprocess.run(_command("evaluate", "--work-dir", str(work), *checkpoint), check=True)


if __name__ == "__main__":
    main()
