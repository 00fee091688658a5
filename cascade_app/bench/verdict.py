"""What a soak's figures say: is memory flat, does everyone wait alike, and what must not be in a result.

    flat     the server's memory, after the warm-up, surely grew by less than FLAT of what it was: the upper end of the 95 %
             interval of the slope, over the time that was measured. The warm-up is half of a run unless asked otherwise, since
             a page's session is full only when its first picture has come, and that takes a round of all clients. What fills
             up and then stays passes in a run that is long enough, what leaks fails the surer the longer it runs.
    fair     no client waited FAIR times as long as another, in the mean. All ask again as soon as they are answered, so each
             waits about one round of all the others; who is passed over once each time waits two.

Knows nothing of servers and clients.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

from cascade_app.bench import measure

BLOCK_S = 5.0
BLOCKS = 12  # a minute: of less, the interval says nothing
FLAT = 0.05
FAIR = 2.0
ROUNDS = 2  # waits a client, on average: of less, the mean is a single wait, and that is as long as the machine was busy then


def memory(samples: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """Of (seconds, bytes): the slope in bytes a minute by least squares, with its 95 % interval, and whether that is flat.

    It is taken over means of BLOCK_S: one sample hangs on the one before. `growth` is the slope over the whole time, as a
    fraction of what memory was at first, `growth_interval` the interval's.
    """
    blocks: dict[int, list[tuple[float, float]]] = {}
    for at, n_bytes in samples:
        blocks.setdefault(int(at // BLOCK_S), []).append((at / 60, n_bytes))
    means = [tuple(map(statistics.mean, zip(*block, strict=True))) for block in blocks.values()]
    if len(means) < 3:
        return {"slope_bytes_per_min": None, "interval": None, "blocks": len(means), "flat": None}
    slope, low, high = measure.least_squares(means)
    (begin_min, first), (end_min, last) = means[0], means[-1]
    growth, least, most = (one * (end_min - begin_min) / first for one in (slope, low, high))
    return {
        "slope_bytes_per_min": round(slope), "interval": [round(low), round(high)], "blocks": len(means),
        "first_mb": measure.rounded(first / 1e6), "last_mb": measure.rounded(last / 1e6), "growth": measure.rounded(growth),
        "growth_interval": [measure.rounded(least), measure.rounded(most)],
        "flat": most < FLAT if len(means) >= BLOCKS else None,
    }  # fmt: skip


def fairness(waits: Sequence[tuple[int, float]]) -> dict[str, Any]:
    """Of (client, seconds): the largest client's mean over the smallest's, whether that is fair, and how far the waits spread."""
    by_client: dict[int, list[float]] = {}
    for client, seconds in waits:
        by_client.setdefault(client, []).append(seconds)
    if not waits:
        return {"clients": 0, "fair": None}
    means = [statistics.fmean(one) for one in by_client.values()]
    every = sorted(seconds for _client, seconds in waits)
    median, late = statistics.median(every), every[min(len(every) - 1, math.ceil(0.95 * len(every)) - 1)]
    apart = max(means) / min(means)
    return {
        "clients": len(means), "waits": len(every), "largest_over_smallest": measure.rounded(apart),
        "fair": apart < FAIR if len(every) >= ROUNDS * len(means) else None,
        "p95_over_median": measure.rounded(late / median), "median_s": measure.rounded(median),
        "longest_s": measure.rounded(every[-1]),
    }  # fmt: skip


def faults(result: dict[str, Any]) -> list[str]:
    """What must not be in a soak's result, in sentences."""
    memory, fairness = result["memory"], result["fairness"]
    found = {
        f"{result['lost']} of {result['asked']} answers were lost: {result['lost_by']}.": result["lost"],
        f"Errors came that were not announced: {result['errors']}.": result["errors"],
        "Nobody got a picture.": not result["answers"],
        f"The server ended with the status {result['exit_status']}.": result["exit_status"],
        f"Memory is not flat: it grew by a fraction of {memory.get('growth_interval')}, and the limit is {FLAT}.":
            memory["flat"] is False,
    }  # fmt: skip
    for kind, one in fairness.items():
        sentence = f"Clients of the {kind} wait {one.get('largest_over_smallest')} times as long as others; the limit is {FAIR}."
        found[sentence] = one["fair"] is False
    return [sentence for sentence, wrong in found.items() if wrong]
