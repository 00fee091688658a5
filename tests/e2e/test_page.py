"""The main job in a real browser: words to a picture, watched as it forms, kept, and made again."""

from __future__ import annotations

import io
import re

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from cascade_app.gallery.png import read_request
from tests.e2e.conftest import SCREENSHOTS, Server

LIGHTHOUSE = "a white lighthouse on a rock in a blue sea at sunset"

# Notes every new picture on the easel and every stage that lights up, from now on.
WATCH_EASEL = """() => {
  const easel = document.querySelector('#easel');
  window.seen = {frames: new Set(), stages: new Set(), heights: new Set()};
  const look = () => {
    for (const image of easel.querySelectorAll('img')) if (image.src.startsWith('data:')) window.seen.frames.add(image.src);
    const active = easel.querySelector('.cs-cell[data-progress=active] .cs-letter');
    if (active) window.seen.stages.add(active.textContent);
    window.seen.heights.add(Math.round(easel.getBoundingClientRect().height));
  };
  new MutationObserver(look).observe(easel, {subtree: true, childList: true, attributes: true, characterData: true});
}"""
# A short run may begin and end between two looks at the page; an observer misses nothing.
NOTE_START = """() => {
  window.started = false;
  const easel = document.querySelector('#easel');
  const look = new MutationObserver(() => {
    if (!easel.querySelector('[data-state=running], [data-state=waiting]')) return;
    window.started = true;
    look.disconnect();
  });
  look.observe(easel, {subtree: true, childList: true, attributes: true});
}"""
SEEN = "() => ({frames: seen.frames.size, stages: [...seen.stages].join(''), heights: [...seen.heights]})"


def write(page: Page, prompt: str) -> None:
    page.locator("#field-prompt textarea").fill(prompt)


def set_number(page: Page, field: str, value: str) -> None:
    box = page.locator(f"#field-{field} input[type=number]")
    box.fill(value)
    box.blur()


def set_long(page: Page) -> None:
    """A run that outlasts whatever is looked at meanwhile: one picture of 200 steps is two seconds where bfloat16 is quick."""
    set_number(page, "prior_steps", "200")
    set_number(page, "images", "8")


def generate(page: Page) -> None:
    page.evaluate(NOTE_START)
    page.keyboard.press("Control+Enter")
    page.wait_for_function("() => window.started")


def finished(page: Page) -> None:
    expect(page.locator("#easel .cs-stage")).to_have_attribute("data-state", "done")
    expect(page.locator("#generate")).to_be_enabled()


def thumbnails(page: Page):
    return page.locator("#session .cs-thumb")


def pixels(page: Page, server: Server, id: str) -> bytes:
    """Of a saved picture, as this page's visitor gets it."""
    with Image.open(io.BytesIO(page.request.get(f"{server.url}pictures/{id}.png").body())) as image:
        assert image.format == "PNG"
        return image.tobytes()


def seed_shown(page: Page) -> int:
    return int(re.search(r"seed (\d+)", page.locator("#facts").inner_text()).group(1))


def test_words_become_a_picture_that_is_kept(open_page, tmp_path):
    page = open_page()
    write(page, LIGHTHOUSE)
    page.evaluate(WATCH_EASEL)
    generate(page)
    finished(page)
    seen = page.evaluate(SEEN)
    assert seen["frames"] >= 10
    assert {"C", "B"} <= set(seen["stages"])
    assert len(seen["heights"]) == 1, "the picture's room changed its height"

    picture = page.locator("#easel .cs-print-frame img")
    page.wait_for_function("() => document.querySelector('#easel .cs-print-frame img').naturalWidth === 256")
    assert picture.get_attribute("alt") == LIGHTHOUSE
    with page.expect_download() as download:
        page.keyboard.press("Tab")  # out of the prompt, where letters are letters
        page.locator("#download").click()
    path = tmp_path / download.value.suggested_filename
    download.value.save_as(path)
    request = read_request(path)
    assert (request.prompt, request.seed, request.width) == (LIGHTHOUSE, seed_shown(page), 256)


def test_the_same_seed_makes_the_same_picture(open_page, server):
    page = open_page()
    write(page, "a red sun over blue mountains")
    set_number(page, "prior_steps", "4")
    set_number(page, "decoder_steps", "2")
    generate(page)
    finished(page)
    seed = seed_shown(page)
    page.locator("#reuse-seed").click()
    expect(page.locator("#field-seed input")).to_have_value(str(seed))
    expect(page.locator("#randomise input")).not_to_be_checked()
    generate(page)
    expect(thumbnails(page)).to_have_count(2)
    finished(page)
    assert seed_shown(page) == seed
    ids = [thumb.get_attribute("data-show") for thumb in thumbnails(page).all()]
    assert ids[0] != ids[1] and pixels(page, server, ids[0]) == pixels(page, server, ids[1])


def test_cancel_in_the_middle_and_generate_again(open_page):
    page = open_page()
    write(page, "a cabin between pine trees")
    counted = page.locator("#easel .cs-cell[data-progress=active] .cs-count")
    for made in (1, 2):
        set_long(page)
        generate(page)
        expect(counted).to_have_text(re.compile(r"^([3-9]|\d\d+) / 200"))
        page.keyboard.press("Escape")
        expect(page.locator("#message")).to_contain_text("Cancelled")
        expect(page.locator("#easel .cs-stage")).to_have_attribute("data-state", "empty" if made == 1 else "done")
        expect(page.locator("#cancel")).to_be_disabled()
        assert page.locator("#field-prompt textarea").input_value() == "a cabin between pine trees"
        set_number(page, "images", "1")
        set_number(page, "prior_steps", "3")
        set_number(page, "decoder_steps", "2")
        generate(page)
        expect(thumbnails(page)).to_have_count(made)
        finished(page)
        expect(page.locator("#message .cs-message")).to_have_count(0)


def test_bad_input_keeps_the_form_and_the_next_request_works(open_page):
    page = open_page()
    too_long = "x" * 20_000
    for prompt, sentence in (("", "Prompt is empty"), (too_long, "20,000 characters; the limit is 2,000")):
        write(page, prompt)
        page.locator("#field-negative_prompt textarea").fill("people")
        page.keyboard.press("Control+Enter")
        expect(page.locator("#message")).to_contain_text(sentence)
        assert page.locator("#field-prompt textarea").input_value() == prompt
        assert page.locator("#field-negative_prompt textarea").input_value() == "people"
        expect(page.locator("#generate")).to_be_enabled()
    assert "Traceback" not in page.content()
    write(page, "three sailboats at dawn")
    set_number(page, "prior_steps", "2")
    set_number(page, "decoder_steps", "2")
    generate(page)
    finished(page)


def test_the_plan_states_the_real_size_before_the_run(open_page):
    page = open_page()
    plan = page.locator("#plan")
    expect(plan).to_contain_text("256 x 256 px")
    page.locator("#aspect label", has_text="3:2").click()
    expect(plan).not_to_contain_text("256 x 256 px")
    wide = re.search(r"(\d+) x (\d+) px", plan.inner_text()).groups()
    assert int(wide[0]) > int(wide[1])
    page.locator("#swap").click()
    expect(plan).to_contain_text(f"{wide[1]} x {wide[0]} px")
    set_number(page, "images", "3")
    expect(plan).to_contain_text("3 pictures")


def test_several_pictures_form_side_by_side(open_page):
    page = open_page()
    page.locator("#examples button").first.click()
    page.locator("#examples .cs-chip").nth(1).click()
    expect(page.locator("#field-prompt textarea")).to_have_value("a red sun over blue mountains")
    set_number(page, "images", "2")
    set_number(page, "prior_steps", "3")
    set_number(page, "decoder_steps", "2")
    generate(page)
    finished(page)
    expect(page.locator("#easel .cs-print-frame img")).to_have_count(2)
    page.locator("#easel [data-pick]").nth(1).click()
    expect(page.locator("#facts")).to_contain_text(re.compile(r"seed \d+"))
    chosen = seed_shown(page)
    page.keyboard.press("Enter")  # to see it whole
    expect(page.locator("#easel a.cs-print-frame")).to_be_visible()
    page.keyboard.press("ArrowRight")  # the row has the newest first
    expect(page.locator("#facts")).to_contain_text(f"seed {chosen - 1}")
    page.locator("#reuse-settings").click()
    expect(page.locator("#field-seed input")).to_have_value(str(chosen - 1))


def test_a_second_tab_hears_its_place_and_a_closed_tab_frees_the_engine(open_page):
    first, second = open_page(), open_page()
    for page in (first, second):
        write(page, "a windmill on green hills at noon")
        set_number(page, "decoder_steps", "2")
    set_long(first)
    set_number(second, "prior_steps", "2")
    generate(first)
    expect(first.locator("#easel .cs-cell[data-progress=active]")).to_be_visible()
    generate(second)
    expect(second.locator("#easel .cs-stage")).to_have_attribute("data-state", "waiting")
    expect(second.locator("#easel .cs-headline")).to_contain_text("1st of 1 in the queue")
    first.close()
    expect(second.locator("#easel .cs-stage")).to_have_attribute(
        "data-state", re.compile("running|done"), timeout=6_000
    )
    finished(second)


def test_light_and_dark_stay_as_chosen(open_page):
    page = open_page(scheme="dark")
    body = page.locator("body")
    expect(body).to_have_class(re.compile(r"\bdark\b"))
    page.locator("#theme-toggle").click()
    expect(body).not_to_have_class(re.compile(r"\bdark\b"))
    page.reload()
    expect(page.locator("#plan .cs-plan")).not_to_be_empty()
    expect(body).not_to_have_class(re.compile(r"\bdark\b"))


def choose_checkpoint(page: Page, title: str) -> None:
    page.locator("#field-checkpoint input").click()
    page.locator("[role=option]", has_text=title).click()
    expect(page.locator("#header .cs-checkpoint")).to_contain_text(title)


def few_steps(page: Page) -> None:
    set_number(page, "prior_steps", "2")
    set_number(page, "decoder_steps", "2")


def test_the_system_panel_tells_of_the_engine(open_page):
    page = open_page()
    write(page, LIGHTHOUSE)
    few_steps(page)
    generate(page)
    finished(page)
    page.locator("#system > button").click()
    report = page.locator("#system-report")
    for part in ("text encoder", "prior", "decoder", "vqgan"):
        expect(report.locator(".cs-parts")).to_contain_text(part)
    expect(report.locator("dd").first).to_have_text(re.compile(r"\w.*, (float32|bfloat16|float16)$"))
    expect(report).to_contain_text(re.compile(r"Pocket loaded in\s*\d+\.\d s"))
    expect(report).not_to_contain_text("Decided with the first picture")
    page.locator("#system-again").click()
    expect(report.locator(".cs-parts")).to_be_visible()


def test_another_checkpoint_asks_for_its_licence_and_pocket_is_still_there(open_page):
    page = open_page()
    plan, about = page.locator("#plan"), page.locator("#checkpoint-about")
    write(page, LIGHTHOUSE)
    choose_checkpoint(page, "Stable Cascade, 3.6B + 1.5B")
    expect(about).to_contain_text("no commercial use")
    expect(page.locator("#header")).to_contain_text("stable-cascade-nc-community")
    expect(plan).to_contain_text("1024 x 1024 px")
    page.locator("[data-preset=authors]").click()
    expect(page.locator("#field-decoder_guidance input[type=number]")).to_have_value("1.1")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#message")).to_contain_text("Accept it on the page, or set CASCADE_ACCEPT_LICENSE")
    expect(page.locator("#generate")).to_be_enabled()

    choose_checkpoint(page, "Pocket")
    expect(plan).to_contain_text("256 x 256 px")
    expect(page.locator("#field-width input[type=range]")).to_have_attribute("max", "384")
    expect(page.locator("#field-decoder_guidance input[type=number]")).to_have_value("0")
    expect(about.locator("#accept-license")).to_have_count(0)
    few_steps(page)
    generate(page)
    finished(page)
    assert page.locator("#field-prompt textarea").input_value() == LIGHTHOUSE


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("name", "width", "height"), [("wide", 1440, 900), ("phone", 390, 844)])
def test_screenshots_of_the_checkpoint_and_the_system(open_page, name, width, height, scheme):
    SCREENSHOTS.mkdir(exist_ok=True)
    page = open_page(width=width, height=height, scheme=scheme, phone=name == "phone")
    choose_checkpoint(page, "Stable Cascade, 3.6B + 1.5B")
    expect(page.locator("#plan")).to_contain_text("1024 x 1024 px")
    page.locator("#system > button").click()
    expect(page.locator("#system-report .cs-parts").first).to_be_visible()
    page.wait_for_timeout(300)
    page.screenshot(path=SCREENSHOTS / f"{name}-{scheme}-4-checkpoint.png", full_page=True)
    overflow = page.evaluate("() => document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert overflow <= 0, "the page can be scrolled sideways"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("name", "width", "height"), [("wide", 1440, 900), ("phone", 390, 844)])
def test_screenshots_for_people_to_look_at(open_page, name, width, height, scheme):
    SCREENSHOTS.mkdir(exist_ok=True)
    page = open_page(width=width, height=height, scheme=scheme, phone=name == "phone")
    page.wait_for_timeout(300)
    page.screenshot(path=SCREENSHOTS / f"{name}-{scheme}-1-empty.png")
    write(page, LIGHTHOUSE)
    generate(page)
    page.wait_for_function("() => document.querySelector('.cs-cell:nth-child(2)').dataset.progress !== 'ahead'")
    page.screenshot(path=SCREENSHOTS / f"{name}-{scheme}-2-running.png")
    finished(page)
    page.wait_for_timeout(300)
    page.screenshot(path=SCREENSHOTS / f"{name}-{scheme}-3-done.png", full_page=True)
    overflow = page.evaluate("() => document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert overflow <= 0, "the page can be scrolled sideways"
    easel, prompt = (page.locator(one).bounding_box() for one in ("#easel .cs-easel", "#field-prompt"))
    assert easel["y"] < prompt["y"] if name == "phone" else easel["x"] < prompt["x"]
