"""The site in a real browser, opened from the file system."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

from tgfbench.leaderboards.site import build_site

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
SYSTEM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def browser():
    """The system's Chromium, else the one of `playwright install chromium`."""
    with playwright.sync_playwright() as driver:
        if not SYSTEM and not Path(driver.chromium.executable_path).is_file():
            pytest.skip("no Chromium: install one, or run `playwright install chromium`")
        running = driver.chromium.launch(executable_path=SYSTEM, args=["--no-sandbox", "--disable-gpu"])
        yield running
        running.close()


@pytest.fixture
def page(browser):
    """A page whose console errors, script errors and requests outside the file system fail the test."""
    troubles: list[str] = []
    opened = browser.new_page(viewport={"width": 1280, "height": 900})
    opened.on("console", lambda message: troubles.append(message.text) if message.type == "error" else None)
    opened.on("pageerror", lambda error: troubles.append(str(error)))
    opened.on("requestfailed", lambda request: troubles.append(f"failed: {request.url}"))
    opened.on(
        "request", lambda request: None if request.url.startswith(("file:", "data:")) else troubles.append(request.url)
    )
    opened.set_default_timeout(60_000)
    yield opened
    opened.close()
    assert troubles == []


@pytest.fixture(scope="module")
def site(hostile_site_frames, hostile_predictions, hostile_labels, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("browser") / "site"
    predictions = pd.concat([hostile_predictions, hostile_labels], ignore_index=True)
    build_site(*hostile_site_frames, folder, predictions=predictions)
    return folder


def _column(page, number: int) -> list[str]:
    return page.locator(f"table.board tbody tr > :nth-child({number})").all_inner_texts()


def test_a_column_sorts_by_value_and_the_filter_keeps_matching_rows(page, site):
    page.goto((site / "board-roadscene-test-core.html").as_uri())
    header = page.locator("table.board thead th", has_text="VIF")
    orders = []
    for direction in ("ascending", "descending"):
        header.click()
        # DataTables sorts a moment after the click.
        page.locator(f"th[aria-sort={direction}]", has_text="VIF").wait_for()
        orders.append([float(text.split()[0]) for text in _column(page, 5)])
    assert sorted(orders[0]) == orders[0]
    assert orders[1] == orders[0][::-1]
    page.get_by_role("searchbox").fill("average")
    assert len(_column(page, 1)) == 1
    assert "average" in _column(page, 1)[0]
    page.get_by_role("searchbox").fill("")
    header.focus()
    page.keyboard.press("Enter")
    assert page.locator("th[aria-sort]").count() <= 1


def test_an_image_opens_the_slider_is_dragged_and_keys_work(page, site):
    page.goto((site / "index.html").as_uri())
    page.get_by_role("link", name="Gallery of images").first.click()
    page.locator("#thumbs button").first.click()
    assert page.locator("#viewer").is_visible()
    page.wait_for_function("[...document.querySelectorAll('.pane:not([hidden]) img')].every(i => i.naturalWidth > 0)")
    assert "<b>prompt</b>" in page.locator("#prompt-left, #prompt-right").all_inner_texts()[1]
    handle = page.locator(".handle").first
    handle.scroll_into_view_if_needed()
    box = handle.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + 150, box["y"] + box["height"] / 2, steps=4)
    page.mouse.up()
    dragged = float(page.locator("#slide").input_value())
    assert dragged > 55
    page.locator("#slide").focus()
    page.keyboard.press("ArrowLeft")
    assert float(page.locator("#slide").input_value()) < dragged
    name = page.locator("#name").inner_text()
    page.keyboard.press("n")
    assert page.locator("#name").inner_text() != name
    page.keyboard.press("d")
    assert "difference" in page.locator("#panes").get_attribute("class")
    blend = page.locator(".over").first.evaluate("element => getComputedStyle(element).mixBlendMode")
    assert blend == "difference"


def test_detections_and_segmentations_lie_over_both_images(page, site):
    page.goto((site / "gallery-roadscene-test-core.html").as_uri())
    page.locator("#thumbs button").first.click()
    assert page.locator(".found > *").count() == 0
    page.select_option("#overlay", index=1)
    boxes = page.locator(".found:not(.over) > div:visible")
    boxes.nth(1).wait_for()
    assert page.locator(".found.over > div").count() == 2
    assert boxes.nth(0).inner_text() == "car 0.30"
    # The better box lies on top: x from 16 to 32 of 64, y from 12 to 36 of 48 pixels.
    stage, box = page.locator(".stage").first.bounding_box(), boxes.nth(1).bounding_box()
    assert (box["x"] - stage["x"]) / stage["width"] == pytest.approx(0.25, abs=0.01)
    assert box["height"] / stage["height"] == pytest.approx(0.5, abs=0.01)
    assert "Left: 1 × car, 1 × <script>" in page.locator("#found").inner_text()
    page.fill("#least", "0.5")
    page.locator("#least").press("Tab")
    assert boxes.count() == 1
    assert page.locator("#legend li").count() == 1
    page.locator("#name").focus()
    page.keyboard.press("o")
    assert page.locator("#overlay").evaluate("select => select.selectedOptions[0].text") == "segmentation: quick"
    page.wait_for_function(
        "[...document.querySelectorAll('.pane:not([hidden]) .found img')].every(i => i.naturalWidth > 0)"
    )
    assert page.locator(".pane:not([hidden]) .found img").count() == 2
    page.keyboard.press("o")
    assert page.locator(".found > *").count() == 0


def test_labels_lie_beside_predictions_and_look_different(page, site):
    page.goto((site / "gallery-roadscene-test-core.html").as_uri() + "#test-0001")
    page.select_option("#truth", index=1)
    labels = page.locator(".found:not(.over) > .truth:visible")
    labels.nth(1).wait_for()
    assert labels.nth(0).inner_text() == "car"
    # Of a run without rows of labels, too: they belong to the image. x from 16 to 48 of 64 pixels.
    stage, box = page.locator(".stage").first.bounding_box(), labels.nth(0).bounding_box()
    assert box["width"] / stage["width"] == pytest.approx(0.5, abs=0.01)
    assert page.locator("#found").inner_text().startswith("Labels: 1 × car, 1 × <script>")
    assert page.locator("#legend li").all_inner_texts()[0] == "car (label)"
    assert page.locator("#least-choice").is_hidden()
    page.select_option("#overlay", index=1)
    page.wait_for_function("document.querySelectorAll('.found:not(.over) > div').length > 2")
    style = "(element, before) => getComputedStyle(element, before).borderTopStyle"
    assert labels.nth(0).evaluate(style, "::before") == "dashed"
    assert page.locator(".found:not(.over) > div:not(.truth)").first.evaluate(style) == "solid"
    page.fill("#least", "1")
    page.locator("#least").press("Tab")
    page.wait_for_function("document.querySelectorAll('.found:not(.over) > div:not(.truth)').length === 0")
    assert labels.count() == 2, "labels have no score"
    page.locator("#name").focus()
    page.keyboard.press("l")
    page.wait_for_function("[...document.querySelectorAll('.found img.truth')].some(i => i.naturalWidth > 0)")
    assert "gradient" in page.locator(".found img.truth").first.evaluate("e => getComputedStyle(e).maskImage")
    assert page.locator("#legend .mask.truth").count() == 1
    page.keyboard.press("l")
    assert page.locator(".found .truth").count() == 0
    page.goto((site / "gallery-roadscene-test-core.html").as_uri() + "#test-0000")
    page.reload()
    page.select_option("#truth", index=1)
    assert page.locator("#found").inner_text() == "Labels: no object."


def test_zoom_keeps_both_panes_in_step(page, site):
    page.goto((site / "gallery-roadscene-test-core.html").as_uri())
    page.locator("#thumbs button").first.click()
    page.select_option("#mode", "side")
    for _ in range(3):
        page.locator("#in").click()
    first, second = page.locator(".pane").all()
    first.evaluate("element => element.scrollTo(60, 20)")
    page.wait_for_function("document.querySelectorAll('.pane')[1].scrollLeft === 60")
    widths = [pane.locator(".stage").evaluate("element => element.offsetWidth") for pane in (first, second)]
    assert widths[0] == widths[1]


@pytest.mark.parametrize("name", ["index", "board-roadscene-test-core", "gallery-roadscene-test-core", "metrics"])
def test_nothing_overflows_a_narrow_screen(page, site, name):
    page.set_viewport_size({"width": 400, "height": 800})
    page.goto((site / f"{name}.html").as_uri())
    if name.startswith("gallery"):
        page.locator("#thumbs button").first.click()
        page.select_option("#overlay", index=1)
        page.select_option("#truth", index=1)
    assert page.evaluate("document.documentElement.scrollWidth") <= 400


def test_dark_and_light_follow_the_reader(page, site):
    colours = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.goto((site / "index.html").as_uri())
        colours.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert colours == ["rgb(255, 255, 255)", "rgb(13, 17, 23)"]


def test_scripts_in_names_and_prompts_never_run(page, site):
    for name in ("index", "board-roadscene-test-core", "gallery-roadscene-test-core", "metrics"):
        page.goto((site / f"{name}.html").as_uri())
        if name.startswith("gallery"):
            page.locator("#thumbs button").first.click()
            page.select_option("#overlay", index=1)
            page.select_option("#truth", index=1)
        assert page.evaluate("window.harmed") is None
