"""A session in a real browser: negatives to pictures and on, all of it there after a reload and a restart, and elsewhere."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from tests.e2e.conftest import Server, Watch, start_server, wait_for_page, wait_until_ready
from tests.e2e.test_page import finished, pixels, set_number, write

WORDS = "a white lighthouse on a rock in a blue sea at sunset"
# What a file dragged from the desktop does to a page.
DROP = """([name, type, data]) => {
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  const dataTransfer = new DataTransfer();
  dataTransfer.items.add(new File([bytes], name, {type}));
  for (const kind of ['dragenter', 'dragover', 'drop'])
    document.body.dispatchEvent(new DragEvent(kind, {dataTransfer, bubbles: true, cancelable: true}));
}"""


def end(server: Server) -> None:
    status, log = server.stop(), server.log_path.read_text()
    assert status == 0 and "Traceback" not in log, log


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    yield context.new_page()
    context.close()


@pytest.fixture
def begin(page: Page, tmp_path: Path) -> Iterator[Callable[[], Server]]:
    """Start a server, always over the same data, and have `page` on it; none is left behind by a test that fails."""
    servers: list[Server] = []

    def one() -> Server:
        servers.append(start_server(tmp_path))
        wait_for_page(servers[-1])
        page.goto(servers[-1].url)
        wait_until_ready(page)
        return servers[-1]

    yield one
    for server in servers:
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait()


def few_steps(page: Page) -> None:
    set_number(page, "prior_steps", "4")
    set_number(page, "decoder_steps", "2")
    page.locator("body").evaluate("() => document.activeElement.blur()")  # letters are keys from here on


def prints(page: Page):
    return page.locator("#easel [data-pick]")


def made(page: Page, act, count: int) -> list[str]:
    """The ids of what `act` makes: `count` new records, on the easel."""
    row = page.locator("#session [data-show]")
    before = {one.get_attribute("data-show") for one in row.all()}
    act()
    expect(row).to_have_count(len(before) + count)
    finished(page)
    return list(reversed([id for one in row.all() if (id := one.get_attribute("data-show")) not in before]))


def whole(page: Page, id: str) -> None:
    """That record alone on the easel, by its card."""
    page.locator(f'#session [data-show="{id}"]').click()
    expect(page.locator("#easel a.cs-print-frame")).to_have_attribute("data-id", id)


def kin(page: Page, title: str) -> list[str]:
    """The records beside `title` under the picture."""
    line = page.locator(".cs-kin", has_text=title)
    expect(line).to_be_visible()
    return [one.get_attribute("data-show") for one in line.locator("[data-show]").all()]


def check_tree(page: Page, sketch: str, developed: str, varied: list[str]) -> None:
    """From the youngest up to the negative it all came from, and down again."""
    whole(page, varied[0])
    assert kin(page, "Varied from") == [developed]
    page.locator(".cs-kin", has_text="Varied from").locator("[data-show]").click()
    expect(page.locator("#easel a.cs-print-frame")).to_have_attribute("data-id", developed)
    assert kin(page, "Became") == varied
    assert kin(page, "Developed from") == [sketch]
    page.locator(".cs-kin", has_text="Developed from").locator("[data-show]").click()
    expect(page.locator("#easel a.cs-print-frame")).to_have_attribute("data-id", sketch)
    assert developed in kin(page, "Became")


def drop(page: Page, path: Path, *, kind: str = "image/png", data: bytes | None = None) -> None:
    data = path.read_bytes() if data is None else data
    page.evaluate(DROP, [path.name, kind, base64.b64encode(data).decode("ascii")])


def test_a_session_lasts_and_its_pictures_travel(page, begin, tmp_path, open_page, server):
    watch = Watch()
    first = begin()
    watch.follow(page, first.port)
    write(page, WORDS)
    few_steps(page)
    sheet = made(page, lambda: page.keyboard.press("Control+Shift+Enter"), 8)
    expect(page.locator("#easel .cs-headline")).to_have_text("Contact sheet, 8 negatives")

    prints(page).nth(1).click()
    page.keyboard.press("5")
    expect(page.locator("#develop")).to_have_text("Develop 2")
    developed = made(page, lambda: page.keyboard.press("e"), 2)
    whole(page, developed[0])
    assert kin(page, "Developed from") == [sheet[1]]
    varied = made(page, lambda: page.keyboard.press("v"), 4)
    check_tree(page, sheet[1], developed[0], varied)

    page.reload()
    wait_until_ready(page)
    expect(page.locator("#field-prompt textarea")).to_have_value(WORDS)
    expect(page.locator("#easel .cs-headline")).to_have_text("Contact sheet, 4 negatives")
    check_tree(page, sheet[1], developed[0], varied)

    whole(page, developed[0])
    with page.expect_download() as download:
        page.keyboard.press("d")
    path = tmp_path / download.value.suggested_filename
    download.value.save_as(path)
    assert watch.complaints == [] and watch.foreign == []
    end(first)
    again = begin()
    expect(page.locator("#session [data-show]")).to_have_count(14)
    check_tree(page, sheet[1], developed[0], varied)
    whole(page, developed[1])
    page.keyboard.press("g")
    expect(page.locator("#shelf .cs-card")).to_have_count(14)
    end(again)

    elsewhere = open_page()  # another installation, and a visitor it has never seen
    expect(elsewhere.locator("#session [data-show]")).to_have_count(0)
    drop(elsewhere, path)
    expect(elsewhere.locator("#easel a.cs-print-frame")).to_have_attribute("data-id", developed[0])
    expect(elsewhere.locator("#field-prompt textarea")).to_have_value(WORDS)
    expect(elsewhere.locator("#field-prior_steps input[type=number]")).to_have_value("4")
    with Image.open(io.BytesIO(path.read_bytes())) as image:
        wanted = image.tobytes()
    elsewhere.locator("body").evaluate("() => document.activeElement.blur()")
    (by_develop,) = made(elsewhere, lambda: elsewhere.keyboard.press("e"), 1)
    (by_generate,) = made(elsewhere, lambda: elsewhere.keyboard.press("Control+Enter"), 1)
    assert pixels(elsewhere, server, by_develop) == wanted
    assert pixels(elsewhere, server, by_generate) == wanted


def fits(page: Page) -> bool:
    """Whether all of the sheet lies within the easel."""
    inner, outer = (page.locator(f"#easel {one}").bounding_box() for one in (".cs-sheet", ".cs-easel"))
    return all(
        inner[at] >= outer[at] and inner[at] + inner[side] <= outer[at] + outer[side] + 1
        for at, side in (("x", "width"), ("y", "height"))
    )


def test_a_grid_says_what_it_will_be_and_is_made_or_cancelled(open_page):
    page = open_page()
    write(page, "three sailboats at dawn")
    few_steps(page)
    page.keyboard.press("x")
    plan, values = page.locator("#grid-plan"), page.locator("#grid-across-values").locator("input, textarea")
    expect(plan).to_contain_text("3 x 2 pictures from 2 negatives")
    values.fill("nonsense")  # as pasting does, which is no typing
    expect(plan).to_contain_text("must be a whole number from 1 to 100")
    values.fill("1, 3")
    expect(plan).to_contain_text("2 x 2 pictures from 2 negatives")
    page.locator("#make-grid").scroll_into_view_if_needed()
    grid = made(page, lambda: page.locator("#make-grid").click(), 4)
    assert [one.get_attribute("data-pick") for one in prints(page).all()] == grid
    assert [one.inner_text() for one in page.locator(".cs-across, .cs-down").all()] == ["1", "3", "1", "2"]
    assert fits(page), "a grid of squares is as high as the easel"

    page.locator("body").evaluate("() => document.activeElement.blur()")
    for key in "12k":  # faster than the answers to them
        page.keyboard.press(key)
    expect(page.locator("#easel .cs-side")).to_have_text(["4 + 1 steps", "4 + 3 steps"])

    set_number(page, "prior_steps", "200")
    page.locator("#make-grid").click()
    expect(page.locator("#easel .cs-cell[data-progress=active]")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#message")).to_contain_text("Cancelled")
    expect(page.locator("#easel .cs-compare")).to_be_visible()


def test_what_was_picked_in_the_gallery_is_let_go_with_it(open_page):
    page = open_page()
    write(page, "three sailboats at dawn")
    few_steps(page)
    made(page, lambda: page.keyboard.press("Control+Shift+Enter"), 8)
    page.keyboard.press("g")
    for number in (0, 2):
        page.locator("#shelf .cs-dot").nth(number).click(force=True)
    expect(page.locator("#facts")).to_contain_text("2 picked")
    page.keyboard.press("g")
    expect(page.locator("#facts")).to_contain_text("Pick one or more")
    expect(page.locator("#delete")).to_be_disabled()


def test_the_gallery_compares_stars_deletes_and_brings_back(open_page, tmp_path):
    page = open_page()
    write(page, "three sailboats at dawn")
    few_steps(page)
    page.locator("#sketches input").fill("4")
    page.locator("#sketches input").blur()
    sheet = made(page, lambda: page.locator("#sketch").click(), 4)
    page.keyboard.press("f")  # nothing is picked: nothing happens
    page.keyboard.press("1")
    page.keyboard.press("3")
    expect(page.locator("#compare")).to_be_enabled()
    page.keyboard.press("k")
    frame = page.locator("#easel .cs-compare")
    expect(frame).to_have_attribute("data-ids", f"{sheet[0]} {sheet[2]}")
    frame.locator("input").fill("20")
    expect(frame).to_have_attribute("style", re.compile(r"--split: 20%"))
    page.keyboard.press("c")
    expect(prints(page)).to_have_count(4)

    page.locator("body").evaluate("() => document.activeElement.blur()")
    page.keyboard.press("g")
    cards = page.locator("#shelf .cs-card")
    expect(cards).to_have_count(4)
    page.locator(f'#shelf [data-pick="{sheet[0]}"]').click(force=True)
    expect(page.locator("#delete")).to_be_enabled()
    page.keyboard.press("f")
    expect(page.locator("#shelf .cs-star")).to_have_count(1)
    page.locator("#gallery-filter label", has_text="Favourites").click()
    expect(cards).to_have_count(1)
    page.locator("#gallery-filter label", has_text="All").click()
    expect(cards).to_have_count(4)
    page.locator("body").evaluate("() => document.activeElement.blur()")
    page.keyboard.press("Delete")
    expect(cards).to_have_count(3)
    page.keyboard.press("z")
    expect(cards).to_have_count(4)
    page.locator("#gallery-search input, #gallery-search textarea").fill("windmill")
    expect(page.locator("#shelf")).to_contain_text("No prompt has these words")
    page.keyboard.press("Escape")

    drop(page, tmp_path / "notes.txt", kind="text/plain", data=b"hello")
    expect(page.locator("#message")).to_contain_text("not a PNG, JPEG or WebP")
    drop(page, tmp_path / "big.png", data=b"\x89PNG" + bytes(33 * 10**6))
    expect(page.locator("#message")).to_contain_text("the limit is 32.0 MB")
