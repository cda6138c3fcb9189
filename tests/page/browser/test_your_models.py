"""The tab *Your models* in a real browser, on tiny pipelines with random weights: `make test-page`."""

import pytest

pytest.importorskip("playwright.sync_api")

from adapters import tiny_diffusers as tiny
from page.browser.test_browser import browser, drag, new_page, server, shot  # noqa: F401

TITLES = ("A", "B", "A(+B)", "B(+A)")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    tiny.sd_gligen(tiny.ddim())[0].save_pretrained(folder / "gligen")
    for seed in (3, 4):
        unet = tiny.seeded(tiny.UNet2DConditionModel, **tiny.SD_UNET, seed=seed)
        tiny.sd(tiny.ddim(), unet)[0].save_pretrained(folder / f"plain{seed}")
    return folder


@pytest.fixture
def open_tab(new_page):  # noqa: F811
    """A function that opens the tab for one more visitor, who names the folders of A and B."""

    def open_one(*folders, prompt="a cat on a mat", steps=10):
        page = new_page()
        page.get_by_role("tab", name="Your models").click()
        page.wait_for_selector("#my-canvas canvas")
        for letter, folder in zip("AB", folders, strict=False):
            fill(page, f"#folder-{letter}", folder)
        fill(page, "#my-prompt", prompt)
        page.fill("#my-steps input", str(steps))
        page.press("#my-steps input", "Tab")
        return page

    return open_one


def fill(page, selector, text):
    page.locator(f"{selector} textarea, {selector} input").first.fill(str(text))


def place(page, x, y):
    at = page.locator("#my-canvas canvas").bounding_box()
    side = min(at["width"], at["height"])
    return at["x"] + (at["width"] - side) / 2 + x * side, at["y"] + y * side


def draw_box(page, phrase, *corners):
    page.locator("#my-canvas canvas").scroll_into_view_if_needed()
    drag(page, place(page, *corners[:2]), place(page, *corners[2:]))
    ok = page.get_by_role("button", name="OK")
    ok.wait_for()
    page.locator("#my-canvas input[role=listbox], .modal-container input").first.fill(phrase)
    page.keyboard.press("Enter")
    if ok.is_visible():
        ok.click()
    ok.wait_for(state="hidden")


def card(page, title):
    return page.locator(f'#my-cards [data-picture="{title}"]')


def pictures(page):
    """Draw, and return the four pictures."""
    page.evaluate("document.querySelectorAll('.done').forEach(card => card.classList.remove('done'))")
    page.click("#my-draw")
    found = {}
    for title in TITLES:
        card(page, title).and_(page.locator(".done")).wait_for()
        found[title] = card(page, title).locator("img").get_attribute("src")
    page.wait_for_function("document.querySelector('#my-problem').innerText.trim() == ''")
    return found


def test_boxes_become_pictures_of_two_folders(open_tab, folders):
    page = open_tab(folders / "gligen", folders / "plain3")
    page.get_by_text("told the prompt and the boxes").wait_for()
    draw_box(page, "a cat", 0.1, 0.2, 0.6, 0.7)
    draw_box(page, "a mat", 0.5, 0.5, 0.95, 0.95)
    shot(page, "my_boxes")
    found = pictures(page)
    assert len(set(found.values())) == 4
    assert "MiB" in page.inner_text("#my-memory")
    shot(page, "my_pictures")
    page.get_by_role("tab", name="How far apart").click()
    page.locator("#my-plot img").wait_for()
    shot(page, "my_plot")
    page.get_by_role("tab", name="Copy as TOML").click()
    told = page.inner_text("#my-code")
    assert 'gligen_phrases = ["a cat", "a mat"]' in told and "seeds = [0]" in told
    draw_box(page, "a bowl", 0.05, 0.75, 0.3, 0.95)
    again = pictures(page)
    assert again["A"] != found["A"] and again["B"] == found["B"]


def test_what_is_wrong_is_a_sentence_that_stays(open_tab, folders):
    page = open_tab(folders / "gligen", folders / "nothing")
    page.click("#my-draw")
    problem = page.locator("#my-problem .problem")
    problem.wait_for()
    assert (
        problem.inner_text()
        == "Expected a box on the canvas, with a phrase: its pipeline is told what is where (model A)."
    )
    draw_box(page, "a cat", 0.1, 0.2, 0.6, 0.7)
    page.click("#my-check")
    page.get_by_text("Model B: pipeline is").wait_for()
    assert "expected a folder with model_index.json" in problem.inner_text()
    shot(page, "my_problem")
    fill(page, "#folder-B", folders / "plain3")
    page.click("#my-check")
    problem.wait_for(state="hidden")
    assert "parameters in float32" in page.inner_text("#my-memory")
    assert card(page, "A").and_(page.locator(".waiting")).count() == 1
    shot(page, "my_memory")


def test_drawing_is_cancelled_and_begun_again(open_tab, folders):
    page = open_tab(folders / "plain4", folders / "plain3", steps=300)
    page.click("#my-draw")
    card(page, "A").and_(page.locator(".drawing")).locator("img").wait_for()
    page.click("#my-cancel")
    page.fill("#my-steps input", "10")
    page.press("#my-steps input", "Tab")
    pictures(page)


def test_drawing_again_ends_what_was_being_drawn(open_tab, folders):
    page = open_tab(folders / "plain4", folders / "plain3", steps=300)
    page.click("#my-draw")
    card(page, "A").and_(page.locator(".drawing")).locator("img").wait_for()
    page.fill("#my-steps input", "10")
    page.press("#my-steps input", "Tab")
    found = pictures(page)
    page.wait_for_timeout(1000)  # nothing of the first run comes later
    assert pictures_of(page) == found


def test_two_visitors_get_their_own_pictures(open_tab, folders):
    one = open_tab(folders / "plain3", folders / "plain4")
    other = open_tab(folders / "plain4", folders / "plain3")
    for page in (one, other):
        page.click("#my-draw")
    found = [pictures_of(page) for page in (one, other)]
    assert not set(found[0].values()) & set(found[1].values())
    assert pictures(one) == found[0]  # alone


def pictures_of(page):
    for title in TITLES:
        card(page, title).and_(page.locator(".done")).wait_for()
    return {title: card(page, title).locator("img").get_attribute("src") for title in TITLES}
