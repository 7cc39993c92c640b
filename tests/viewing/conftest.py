"""A real browser, a sample with labels that are known by hand, and the command in a process of its own."""

import base64
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from io import BytesIO

import numpy as np
import pytest
from blendtorch.btt.viewing.server import PageServer
from PIL import Image
from playwright.sync_api import sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture
def browser():
    """Start one for each test: it adds processes when it likes, and none is to be left."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.fail("No Chromium is on PATH. On Debian: apt-get install -y --no-install-recommends chromium", pytrace=False)
    with sync_playwright() as playwright:
        # As root, in a container, Chromium's own sandbox cannot be made.
        chromium = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()


class Page:
    """A page that is watched: what it asks for, and what it complains about."""

    def __init__(self, page):
        self.page = page
        self.complaints, self.requests = [], []
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))

    def open(self, url):
        self.page.goto(url)
        return self

    def wait(self, number):
        """Wait until a sample is shown."""
        self.page.wait_for_selector(f"#canvas[data-number='{number}']", timeout=30_000)
        return self

    def switch(self, label, on):
        """Use a label's check box, and wait until it is drawn."""
        self.page.locator(f"#labels input[type=checkbox][name='{label}']").set_checked(on)
        shown = f"#canvas[data-shown~='{label}']"
        self.page.wait_for_selector(shown if on else f"#canvas:not([data-shown~='{label}'])", timeout=10_000)

    def text(self, selector):
        return self.page.locator(selector).inner_text()

    def canvas(self):
        """Read the canvas; shape (height * scale, width * scale, 3), and the scale."""
        url, scale = self.page.evaluate(
            "() => { const canvas = document.getElementById('canvas'); return [canvas.toDataURL(), canvas.dataset.scale]; }"
        )
        image = Image.open(BytesIO(base64.b64decode(url.partition(",")[2])))
        return np.asarray(image)[..., :3].astype(int), float(scale)

    def pixels(self, height, width):
        """Read what the canvas shows at the middle of each pixel of the picture; shape (height, width, 3)."""
        canvas, scale = self.canvas()
        rows, columns = (((np.arange(size) + 0.5) * scale).astype(int) for size in (height, width))
        return canvas[rows[:, None], columns]


@pytest.fixture
def new_page(browser):
    """Open pages that are closed with the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, color_scheme="dark")
    yield lambda: Page(context.new_page())
    context.close()


@pytest.fixture
def served():
    """Serve the page of a source in a thread; gives its address."""

    @contextmanager
    def serve(source):
        server = PageServer(source)
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            yield server.url
        finally:
            server.stop()
            thread.join()

    return serve


@pytest.fixture
def view(tmp_path):
    """Run `blendtorch view` in a process; gives its address. Ctrl-C ends it. `program` is run as the browser."""

    @contextmanager
    def view(*arguments, program=None):
        start = ["--no-open"] if program is None else []
        command = [sys.executable, "-W", "ignore::UserWarning", "-m", "blendtorch.btt.command", "view", *start, *arguments]
        environment = {**os.environ, **({} if program is None else {"DISPLAY": ":0", "BROWSER": f"{program} %s"})}
        errors = (tmp_path / "view.log").open("w+")
        process = subprocess.Popen(
            list(map(str, command)), cwd=tmp_path, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment
        )
        try:
            line = process.stdout.readline()
            match = re.search(r"http://\S+", line)
            assert match, f"{line}{(tmp_path / 'view.log').read_text()}"
            yield match[0]
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(30)
            finally:
                process.kill()
                process.stdout.close()
                errors.close()
        assert process.returncode == 130, (tmp_path / "view.log").read_text()

    return view


@pytest.fixture
def make_sample():
    """Make a sample of a picture that differs at each pixel, with a box, a mask, keypoints, a depth and drawn values."""

    def make(index, height=60, width=80):
        y, x = np.mgrid[:height, :width]
        image = np.stack([x * 2, y * 2, np.full_like(x, 40 + index)], axis=-1).astype(np.uint8)
        ids = np.zeros((height, width), np.int32)
        ids[20:40, 30:60] = 1
        return {
            "image": image,
            "boxes2d_tight": {"xyxy": np.array([[30.0, 20, 60, 40], [np.nan] * 4]), "valid": np.array([True, False])},
            "instance_ids": {"instance_ids": ids},
            "depth": {"depth": np.where(ids > 0, 2, np.inf).astype(np.float32)},
            "keypoints": {
                "xy": np.array([[[40.5, 30.5], [70.5, 50.5]], [[np.nan] * 2] * 2]),
                "state": np.array([[2, 0], [0, 0]], np.int8),
            },
            "visibility": {"fraction": np.array([0.75, np.nan])},
            "objects": {"instance_id": np.array([1, 2]), "category_id": np.array([1, 1])},
            "meta": {
                "seed": 2**62 + 1,
                "episode": index,
                "frame": 0,
                "index": index,
                "drawn": '{"material": {"name": "<b>red</b>", "roughness": 0.25}}',
                "versions": '{"blendtorch": "1"}',
                "btid": 0,
            },
        }

    return make
