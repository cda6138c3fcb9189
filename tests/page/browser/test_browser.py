"""The page in a real browser: `make test-page`. No request of the page or its server leaves this machine."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from amdm.page.methods import METHODS

sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
if CHROMIUM is None:
    pytest.skip("there is no chromium: apt install chromium", allow_module_level=True)

HOST = "127.0.0.1"
ROOT = Path(__file__).parents[3]
SHOTS = Path(os.environ.get("SHOTS", ROOT / "out" / "page"))
WAIT = 90_000
"""Milliseconds: other programs may have the machine."""

# The server without a network: a connection or a look-up of another host is refused, and told.
SERVER = """
import socket, sys
def is_here(address):
    return not isinstance(address, tuple) or address[0] in ("127.0.0.1", "localhost", "::1", "0.0.0.0", "")
def refusing(function, host_of):
    def call(*args, **kwargs):
        if not is_here(host_of(args)):
            print("REFUSED", host_of(args), flush=True)
            raise OSError("there is no network")
        return function(*args, **kwargs)
    return call
socket.socket.connect = refusing(socket.socket.connect, lambda args: args[1])
socket.socket.connect_ex = refusing(socket.socket.connect_ex, lambda args: args[1])
socket.getaddrinfo = refusing(socket.getaddrinfo, lambda args: (args[0] or "",))
from amdm.page.__main__ import main
main(sys.argv[1:])
"""


def free_port():
    with socket.socket() as s:
        s.bind((HOST, 0))
        return s.getsockname()[1]


class Server:
    """The page's server as a process of its own, which has no network."""

    def __init__(self, folder):
        self.port, self.log, started = free_port(), folder / "log", time.monotonic()
        command = [sys.executable, "-c", SERVER, "--port", str(self.port)]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=ROOT)
        while "The page is at" not in self.log.read_text():
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.1)
        self.seconds = time.monotonic() - started

    @property
    def url(self):
        return f"http://{HOST}:{self.port}"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("server"))
    yield server
    server.process.terminate()
    server.process.wait(20)
    told = server.log.read_text()
    assert "REFUSED" not in told
    assert "Traceback" not in told, told


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


@pytest.fixture
def new_page(server, browser):
    """A function that opens the page for one more visitor; at the end nothing may have gone wrong."""
    errors, elsewhere, contexts = [], [], []

    def note(route):
        if route.request.url.startswith((server.url, "data:", "blob:")):
            return route.continue_()
        elsewhere.append(route.request.url)
        return route.abort()

    def open_page():
        context = browser.new_context(viewport={"width": 1400, "height": 1000})
        contexts.append(context)
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        context.route("**/*", note)
        page = context.new_page()
        page.set_default_timeout(WAIT)
        page.on("console", lambda said: said.type in ("error", "warning") and errors.append(said.text))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(server.url, wait_until="domcontentloaded")
        page.wait_for_selector("#canvas canvas")
        page.wait_for_selector("#wanted img")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert elsewhere == [] and errors == []


@pytest.fixture
def page(new_page):
    return new_page()


def shot(page, name):
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"{name}.png")


def card(page, picture):
    return page.locator(f'#cards [data-picture="{picture}"]')


def drawn(page, picture="B(+A)"):
    """Wait until a picture is judged, and return its verdict and its image."""
    found = card(page, picture)
    found.and_(page.locator(".right, .wrong")).wait_for()
    return found.locator(".verdict").inner_text(), found.locator("img").get_attribute("src")


def draw(page):
    """Draw, and wait for the last picture and what comes after it."""
    page.click("#draw")
    drawn(page)
    page.locator("#plot img").wait_for()


def choose(page, selector, option):
    page.click(f"{selector} input")
    page.fill(f"{selector} input", option)
    page.press(f"{selector} input", "Enter")


def choose_method(page, name):
    """Choose a method, and wait until its settings are there."""
    choose(page, "#method", name)
    page.wait_for_function(
        "said => document.querySelector('#says').innerText.startsWith(said)", arg=METHODS[name].says
    )


def set_number(page, selector, value):
    page.fill(f"{selector} input", str(value))
    page.press(f"{selector} input", "Tab")


def place(page, x, y):
    """The place on the screen of a point of the canvas, in parts of its side."""
    at = page.locator("#canvas canvas").bounding_box()
    side = min(at["width"], at["height"])
    return at["x"] + (at["width"] - side) / 2 + x * side, at["y"] + y * side


def drag(page, start, *ends):
    page.mouse.move(*start)
    page.mouse.down()
    for end in ends:
        page.mouse.move(*end, steps=8)
    page.mouse.up()


def test_it_opens_quickly_and_explains_itself(server, page):
    print(f"\nserver started in {server.seconds:.1f} s")
    assert page.title() == "amdm"
    text = page.inner_text("body")
    for said in ("A(+B) is A enriched with what B controls", "layout: is told where each shape is"):
        assert said in text
    fonts = page.evaluate("getComputedStyle(document.querySelector('#draw')).fontFamily")
    assert fonts.startswith("system-ui")
    scripts = page.evaluate(
        "[...document.querySelectorAll('script[src], link[href]')].map(e => e.src || e.href)"
    )
    assert scripts and all(each.startswith(server.url) for each in scripts)
    shot(page, "opened")


def test_boxes_are_drawn_with_the_mouse_and_labelled(page):
    before = page.locator("#wanted img").get_attribute("src")
    page.get_by_label("Create box").click()
    drag(page, place(page, 0.58, 0.6), place(page, 0.8, 0.8), place(page, 0.93, 0.95))
    page.get_by_role("button", name="OK").wait_for()
    page.get_by_label("Label", exact=True).fill("cyan triangle")
    shot(page, "label")
    page.get_by_label("Label", exact=True).press("Enter")
    page.wait_for_function("b => document.querySelector('#wanted img')?.src != b", arg=before)
    draw(page)
    shot(page, "four_boxes")
    page.get_by_role("tab", name="Copy as Python").click()
    assert "present=torch.tensor([[True, True, True, True]])" in page.inner_text("#code")


def test_pictures_are_shown_while_they_are_drawn_and_judged(page):
    started = time.monotonic()
    page.click("#draw")
    card(page, "A").and_(page.locator(".drawing")).locator("img").wait_for()
    preview = time.monotonic() - started
    drawn(page, "A")
    first = time.monotonic() - started
    card(page, "A(+B)").and_(page.locator(".drawing")).wait_for()
    shot(page, "drawing")
    drawn(page)
    whole = time.monotonic() - started
    print(f"\npreview after {preview:.1f} s, first picture {first:.1f} s, all four {whole:.1f} s")
    page.locator("#plot img").wait_for()
    images = [drawn(page, picture)[1] for picture in ("A", "B", "A(+B)", "B(+A)")]
    assert len(set(images)) == 4
    shot(page, "drawn")


def test_drawing_can_be_cancelled(page):
    set_number(page, "#steps", 400)
    page.click("#draw")
    joined = card(page, "A(+B)")
    joined.and_(page.locator(".drawing")).wait_for()
    page.click("#cancel")
    page.get_by_text("Cancelled.").wait_for()
    time.sleep(0.5)
    state = joined.locator(".verdict").inner_text()
    time.sleep(2)
    assert joined.locator(".verdict").inner_text() == state and re.fullmatch(r"step \d+ of 400", state)
    set_number(page, "#steps", 3)
    draw(page)


def test_the_window_is_moved_with_the_mouse(page):
    choose_method(page, "AMDM (the paper's)")
    page.wait_for_function("document.querySelector('#says').innerText.includes('28 network passes')")
    to = page.locator("#window .to")
    at = to.bounding_box()
    thumb = lambda part: (at["x"] + 8 + part * (at["width"] - 16), at["y"] + at["height"] / 2)
    value = int(to.input_value()) / 1000
    drag(page, thumb(value), thumb(0.6), thumb(0.75))
    page.wait_for_function("!document.querySelector('#says').innerText.includes('28 network passes')")
    assert int(to.input_value()) == pytest.approx(750, abs=25)
    origin = page.locator("#window .from")
    drag(page, thumb(0), thumb(0.1), thumb(0.2))
    assert int(origin.input_value()) == pytest.approx(200, abs=25)
    draw(page)
    shot(page, "window")
    page.get_by_role("tab", name="Copy as Python").click()
    low, high = map(
        float, re.search(r"sigma_window\(([\d.]+), ([\d.]+)\)", page.inner_text("#code")).groups()
    )
    assert low == pytest.approx(13.12 * (0.0413 / 13.12) ** 0.75, rel=0.2)
    assert high == pytest.approx(13.12 * (0.0413 / 13.12) ** 0.2, rel=0.2)
    drag(page, thumb(0.2), thumb(0.9))  # not beyond the other end
    assert int(origin.input_value()) <= int(to.input_value())


def test_the_steps_are_scrubbed(page):
    set_number(page, "#steps", 4)
    draw(page)
    page.get_by_role("tab", name="Step by step").click()
    first = page.locator("#strip img").first
    first.wait_for()
    assert page.locator("#strip b").all_inner_texts() == [
        "the noisy latent", "what layout makes of it", "what attribute makes of it", "what the step follows"
    ]  # fmt: skip
    before = first.get_attribute("src")
    page.locator("#step input[type=range]").focus()
    page.keyboard.press("Home")
    page.wait_for_function("b => document.querySelector('#strip img').src != b", arg=before)
    assert page.locator("#step input[type=number]").input_value() == "1"
    shot(page, "scrubbed")
    noisy = first.get_attribute("src")
    page.locator("#which").get_by_label("B", exact=True).check()
    page.wait_for_function("b => document.querySelector('#strip img').src != b", arg=noisy)


def test_the_program_is_copied_and_gives_the_picture(page, tmp_path):
    set_number(page, "#steps", 3)
    draw(page)
    page.get_by_role("tab", name="Copy as Python").click()
    page.locator("#code button[title*=opy], #code button[aria-label*=opy]").first.click()
    time.sleep(0.5)
    program = page.evaluate("navigator.clipboard.readText()")
    shot(page, "copied")
    assert "sample_projective_guidance(" in program
    done = subprocess.run(
        [sys.executable, "-"],
        input=program + "\nfrom amdm.shapes import scores\nprint(scores.find(images, scenes))\n",
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "picture.png").exists() and done.stdout.startswith("Found(shapes=")


def test_every_method_can_be_chosen_and_says_what_it_costs(page):
    page.click("#method input")
    options = page.get_by_role("option").all_inner_texts()
    page.keyboard.press("Escape")
    names = [option.removeprefix("✓").strip() for option in options]
    assert names == list(METHODS)
    for name in ("FKC", "Mean of predictions"):
        choose_method(page, name)
        assert "network passes (AMDM as published: 140)." in page.inner_text("#says")
    set_number(page, "#steps", 3)
    draw(page)
    choose_method(page, "Weight averaging")
    page.get_by_text("Not possible here").wait_for()


def test_a_port_that_is_taken_is_one_line(server):
    command = [sys.executable, "-m", "amdm.page", "--port", str(server.port)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        f"amdm page: error: --port is {server.port}, expected one that is free"
    )


def test_bad_input_is_a_sentence(page):
    def refused(words):
        page.click("#draw")
        toast = page.get_by_test_id("toast-body").last
        toast.wait_for()
        assert words in toast.inner_text()
        assert "Traceback" not in page.inner_text("body") and "File " not in toast.inner_text()
        page.get_by_test_id("toast-close").last.click()
        toast.wait_for(state="detached")

    choose_method(page, "Energy SMC")
    refused("it needs the models' densities")
    choose_method(page, "AMDM (the paper's)")
    set_number(page, "#steps", 1)
    refused("There are 1 steps: choose 2 to 1000.")
    set_number(page, "#steps", "")
    refused("The field steps is empty")
    set_number(page, "#steps", 3)
    set_number(page, "#weight", 2)
    refused("weights")
    set_number(page, "#weight", 0.5)
    choose(page, "#target", "bottom right")
    page.get_by_text("There is no box at the bottom right").first.wait_for()
    refused("There is no box at the bottom right")
    shot(page, "refused")
    choose(page, "#target", "top right")
    draw(page)


def test_two_people_at_once_get_their_own_pictures(new_page):
    pages = [new_page(), new_page()]
    for seed, each in zip((1, 2), pages, strict=True):
        set_number(each, "#seed", seed)
        set_number(each, "#steps", 6)
    for each in pages:
        each.click("#draw")
    together = [[drawn(each, picture)[1] for picture in ("A", "A(+B)")] for each in reversed(pages)]
    for each in pages:
        each.locator("#plot img").wait_for()
    programs = []
    for each in pages:
        each.get_by_role("tab", name="Copy as Python").click()
        programs.append(each.inner_text("#code"))
    assert "seeds = [1]" in programs[0] and "seeds = [2]" in programs[1]
    third = new_page()
    set_number(third, "#seed", 2)
    set_number(third, "#steps", 6)
    draw(third)
    assert [drawn(third, picture)[1] for picture in ("A", "A(+B)")] == together[0] != together[1]


def test_eight_seeds_are_drawn_at_once(page):
    set_number(page, "#steps", 3)
    page.get_by_label("Eight seeds").check()
    draw(page)
    assert re.fullmatch(r"\d of 8 images all right", drawn(page, "A(+B)")[0])
    shot(page, "eight")


def test_the_other_model_can_lead(page):
    set_number(page, "#steps", 3)
    draw(page)
    a, b = drawn(page, "A")[1], drawn(page, "B")[1]
    page.locator("#lead").get_by_label("attribute").check()
    page.click("#draw")
    page.wait_for_function("""a => document.querySelector('[data-picture="B"] img')?.src == a""", arg=a)
    assert drawn(page, "A")[1] == b
