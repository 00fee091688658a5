"""With thousands of records a page costs what it costs with few: bounded work, read off SQLite itself, not off a clock."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest

from cascade_app.gallery import index
from cascade_app.gallery.gallery import PAGE, Gallery
from cascade_app.gallery.index import page_sql
from cascade_app.gallery.item import Query, item_of
from cascade_app.record import new_id
from tests.gallery.test_gallery import ANNA, BERT, record_of

MANY = 5_000


def fill(gallery: Gallery, count: int) -> None:
    """Rows alone: the page reads nothing else."""
    record = record_of("a boat on the sea, oil on canvas, evening light " * 8)
    with gallery.index.write() as db:
        for number in range(count):
            for visitor in (ANNA, BERT):
                item = item_of(replace(record, id=new_id()), name=f"{number:08d}-a-boat.png", n_bytes=1000)
                kind = "sketch" if number % 50 == 0 else "picture"
                index.insert(db, visitor, item=replace(item, kind=kind, favourite=number % 10 == 0))


@pytest.fixture(scope="module")
def gallery(tmp_path_factory) -> Gallery:
    gallery = Gallery(tmp_path_factory.mktemp("many") / "pictures")
    gallery.open()
    fill(gallery, MANY)
    yield gallery
    gallery.close()


PAGES = [
    Query(), Query(after="00002500"), Query(favourites=True), Query(kind="sketch"), Query(kind="picture"),
    Query(checkpoint="pocket"), Query(trash=True), Query(search="boat"), Query(kind="picture", checkpoint="pocket"),
]  # fmt: skip


def steps(gallery: Gallery, query: Query) -> int:
    """Operations of SQLite's machine for one page, in hundreds."""
    count = 0

    def tick() -> None:
        nonlocal count
        count += 1

    with gallery.index.read() as db:
        db.set_progress_handler(tick, 100)
        index.page(db, ANNA, query=query, count=PAGE + 1)
        db.set_progress_handler(None, 0)
    return count


@pytest.mark.parametrize("query", PAGES, ids=str)
def test_a_page_is_found_by_an_index_and_never_sorted(gallery: Gallery, query: Query):
    statement, values = page_sql(ANNA, query, PAGE)
    with gallery.index.read() as db:
        plan = " ".join(row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {statement}", values))
    assert "SEARCH picture USING INDEX" in plan and "SCAN picture" not in plan and "TEMP B-TREE FOR ORDER" not in plan


@pytest.mark.parametrize("query", PAGES, ids=str)
def test_a_page_of_thousands_is_as_much_work_as_one_of_hundreds(gallery: Gallery, tmp_path: Path, query: Query):
    small = Gallery(tmp_path / "small")
    small.open()
    fill(small, 3_500 if query.after else 650 if query.favourites else 3_100 if query.kind == "sketch" else 100)
    few, many = steps(small, query), steps(gallery, query)
    assert many <= few * 1.2 + 2
    assert len(gallery.of(ANNA).page(query).items) == (0 if query.trash else PAGE)
    small.close()


def test_words_that_nowhere_occur_are_looked_for_once_in_each_of_ones_own_prompts(gallery: Gallery):
    """A search has no index, as a visitor's prompts are few: it is bounded by the visitor's own records."""
    assert steps(gallery, Query(search="no such words")) < MANY * 40 / 100


def test_memory_does_not_grow_with_their_number(gallery: Gallery):
    album = gallery.of(ANNA)
    album.page()
    tracemalloc.start()
    try:
        for query in PAGES:
            album.page(query)
        album.checkpoints(), album.usage(), album.what_would_go(n_bytes=1)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_usage_and_checkpoints_are_not_counted_up(gallery: Gallery):
    with gallery.index.read() as db:
        count = 0

        def tick() -> None:
            nonlocal count
            count += 1

        db.set_progress_handler(tick, 1)
        assert index.usage(db, ANNA).pictures == MANY and index.usage(db, index.ALL).pictures == 2 * MANY
        assert index.checkpoints(db, ANNA) == ["pocket"]
        db.set_progress_handler(None, 0)
    assert count < 200


def test_what_would_go_is_read_only_as_far_as_it_goes(gallery: Gallery):
    with gallery.index.read() as db:
        plans = []
        db.set_trace_callback(plans.append)
        first = next(iter(index.going(db, ANNA)))
        db.set_trace_callback(None)
        for statement in plans:
            plan = " ".join(row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {statement}"))
            assert "USING INDEX" in plan and "TEMP B-TREE" not in plan
    assert first[2] == "00000001-a-boat.png", "the oldest without a star"
