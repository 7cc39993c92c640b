"""The page in a real browser: what it shows is what the samples are."""

from urllib.parse import urlsplit

import numpy as np
import pytest
from blendtorch.btt.recording import FileRecorder
from blendtorch.btt.viewing.opening import opened
from blendtorch.btt.viewing.recorded import RecordedSource

pytestmark = pytest.mark.browser


@pytest.fixture
def recorder(tmp_path):
    with FileRecorder(FileRecorder.filename(tmp_path / "out", 0)) as recorder:
        yield recorder


def test_the_page_shows_the_sample_and_each_label_where_it_is(recorder, tmp_path, make_sample, served, new_page):
    sample = make_sample(0)
    recorder.save(sample)
    with served(RecordedSource(tmp_path / "out")) as url:
        page = new_page().open(url).wait(0)
        for label in ("boxes2d_tight", "keypoints", "instance_ids"):  # what is on at first
            page.switch(label, on=False)
        plain = page.pixels(60, 80)
        assert (plain == sample["image"]).all()
        before, scale = page.canvas()
        page.switch("boxes2d_tight", on=True)
        y, x = np.nonzero((page.canvas()[0] != before).any(axis=-1))
        edges = np.array([x.min(), y.min(), x.max() + 1, y.max() + 1]) / scale
        assert np.abs(edges - (30, 20, 60, 40)).max() < 0.3, "the box is drawn where it is"
        inside = (x > 31 * scale) & (x < 59 * scale) & (y > 21 * scale) & (y < 39 * scale)
        assert not inside.any(), "and it is a line"
        page.switch("boxes2d_tight", on=False)
        assert (page.pixels(60, 80) == plain).all()
        page.switch("instance_ids", on=True)
        changed = (page.pixels(60, 80) != plain).any(axis=-1)
        assert (changed == (sample["instance_ids"]["instance_ids"] > 0)).all()
        page.switch("instance_ids", on=False)
        page.switch("keypoints", on=True)
        changed = (page.pixels(60, 80) != plain).any(axis=-1)
        assert changed[30, 40]
        assert not changed[45:, 60:].any(), "what is outside of the picture is not drawn"
        assert page.complaints == []
        assert {urlsplit(each).netloc for each in page.requests} == {urlsplit(url).netloc}, "nothing is loaded from elsewhere"


def test_the_page_tells_of_the_sample_and_reads_nothing_as_html(recorder, tmp_path, make_sample, served, new_page):
    recorder.save(make_sample(0))
    with served(RecordedSource(tmp_path / "out")) as url:
        page = new_page().open(url).wait(0)
        assert "seed\n4611686018427387905" in page.text("#meta"), "all digits"
        assert "name: <b>red</b>" in page.text("#drawn")
        assert page.page.locator("#drawn b", has_text="red").count() == 0
        assert page.text("#objects tbody tr:first-child").split() == ["1", "1", "75", "%", "30", "20", "60", "40"]
        page.page.locator("#all summary").click()
        assert "float32 (60, 80)" in page.text("#fields")
        assert page.text("#instances tbody").split()[:3] == ["0", "recorded", "1"]


def test_a_recording_that_grows_is_followed_and_a_page_that_stays_stays(recorder, tmp_path, make_sample, served, new_page):
    recorder.save(make_sample(0))
    with served(RecordedSource(tmp_path / "out")) as url:
        following, staying = new_page().open(url).wait(0), new_page().open(url).wait(0)
        staying.page.locator("#follow").click()
        recorder.save(make_sample(1))
        following.wait(1)
        following.switch("instance_ids", on=False)
        assert following.pixels(60, 80)[0, 0].tolist() == [0, 0, 41]
        staying.page.wait_for_selector("#strip button[title='sample 1']")
        assert staying.page.locator("#canvas").get_attribute("data-number") == "0"
        staying.page.locator("#strip button[title='sample 1']").click()
        staying.wait(1)
        staying.page.keyboard.press("ArrowLeft")
        staying.wait(0)
        assert following.complaints == staying.complaints == []


def test_items_of_scripts_without_our_conventions_are_shown(recorder, tmp_path, served, new_page):
    picture = np.full((60, 80, 4), (10, 20, 30, 255), np.uint8)
    recorder.save({"rgb": picture, "xy": np.array([[20.5, 10.5], [60.5, 50.5]], np.float32), "frameid": 7, "btid": 3})
    with served(RecordedSource(tmp_path / "out")) as url:
        page = new_page().open(url).wait(0)
        shown = page.pixels(60, 80)
        assert shown[30, 40].tolist() == [10, 20, 30]
        assert (shown[10, 20] != (10, 20, 30)).any()
        assert (shown[50, 60] != (10, 20, 30)).any()
        page.switch("xy", on=False)
        assert (page.pixels(60, 80) == (10, 20, 30)).all()
        assert "frameid\n7" in page.text("#meta")
        page.page.locator("#all summary").click()
        assert "uint8 (60, 80, 4)" in page.text("#fields")
        assert page.complaints == []


def test_cameras_are_switched(recorder, tmp_path, make_sample, served, new_page):
    left, right = make_sample(0), make_sample(0)
    recorder.save({**left, "right": {"image": right["image"][:, ::-1].copy()}})
    with served(RecordedSource(tmp_path / "out")) as url:
        page = new_page().open(url).wait(0)
        for label in ("boxes2d_tight", "keypoints", "instance_ids"):
            page.switch(label, on=False)
        page.page.locator("#views button", has_text="right").click()
        page.page.wait_for_selector("#canvas[data-view=right]")
        assert (page.pixels(60, 80) == right["image"][:, ::-1]).all()
        assert page.complaints == []


def test_the_file_that_the_browser_is_given_leads_to_the_page(recorder, tmp_path, make_sample, served, new_page, monkeypatch):
    recorder.save(make_sample(0))
    given = []
    monkeypatch.setattr("webbrowser.open", given.append)
    with served(RecordedSource(tmp_path / "out")) as url, opened(url):
        page = new_page().open(given[0]).wait(0)
        assert page.complaints == []
