"""Who may look, and what a description of a sample has."""

import http.client
import json
import stat
import time
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import numpy as np
import pytest
from blendtorch.btt.command import main
from blendtorch.btt.recording import FileRecorder
from blendtorch.btt.viewing.description import describe
from blendtorch.btt.viewing.recorded import RecordedSource
from blendtorch.btt.viewing.server import PageServer
from blendtorch.core.distortion import Distortion
from blendtorch.core.errors import AddressError
from blendtorch.core.geometry import Lens, intrinsics, project


@pytest.fixture
def url(tmp_path, make_sample, served):
    with FileRecorder(FileRecorder.filename(tmp_path / "out", 0)) as recorder:
        recorder.save(make_sample(0))
    with served(RecordedSource(tmp_path / "out")) as url:
        yield urlsplit(url)


def ask(url, path="/", method="GET", **headers):
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=10)
    connection.request(method, path, headers=headers)
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response, content


def test_only_who_has_the_token_gets_anything(url):
    token = f"?{url.query}"
    for path in ("/", "/about", "/events", "/samples/0", "/samples/0/0/picture", "/page/app.js"):
        for wrong in ("", "?token=", "?token=wrong", token[:-1], token + "x"):
            response, content = ask(url, path + wrong)
            assert response.status == 403, (path, wrong)
            assert b"blendtorch view" in content
            assert "Set-Cookie" not in response.headers
    response, content = ask(url, f"/{token}")
    assert response.status == 200
    assert b"<canvas" in content
    assert "HttpOnly; SameSite=Strict" in response.headers["Set-Cookie"]
    assert response.headers["Content-Security-Policy"].startswith("default-src 'self'")
    cookie = response.headers["Set-Cookie"].partition(";")[0]
    response, content = ask(url, "/samples/0", Cookie=cookie)
    assert response.status == 200
    assert msgspec.json.decode(content)["meta"]["index"] == "0"
    response, content = ask(url, "/samples/0/0/picture", Cookie=cookie)
    assert (response.status, content[:4]) == (200, b"\x89PNG")
    assert ask(url, "/samples/0/0/thumbnail", Cookie=cookie)[1][:2] == b"\xff\xd8"
    assert ask(url, "/samples/7", Cookie=cookie)[0].status == 204
    assert ask(url, "/page/..%2fserver.py", Cookie=cookie)[0].status == 404


def test_who_asks_by_a_foreign_name_is_refused(url):
    own = f"/?{url.query}"
    for foreign in ("evil.example", f"evil.example:{url.port}", "127.0.0.1.evil.example", "evil@127.0.0.1", ""):
        assert ask(url, own, Host=foreign)[0].status in (400, 421), foreign
    for good in ("localhost:8000", "127.0.0.1", "[::1]:9", f"127.0.0.1:{url.port}"):
        assert ask(url, own, Host=good)[0].status == 200, good


def test_nothing_can_be_written(url):
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        assert ask(url, f"/samples/0?{url.query}", method)[0].status == 405


def test_where_it_cannot_listen_is_said(url, tmp_path):
    source = RecordedSource(tmp_path / "out")
    with pytest.raises(AddressError, match="choose another --port"):
        PageServer(source, port=url.port)
    with pytest.raises(AddressError, match="expected 0 to 65535"):
        PageServer(source, port=65536 + 8000)
    with pytest.raises(AddressError, match=r"cannot listen on no\.such\.host\.invalid"):
        PageServer(source, host="no.such.host.invalid")


def test_what_is_in_space_is_drawn_where_the_camera_sees_it():
    corners = np.array([[x, y, z] for z in (4, 6) for y in (-1, 1) for x in (-1, 1)], float)
    for distortion in (None, Distortion(k1=-0.2)):
        K = intrinsics(Lens(width=80, height=60))
        sample = {
            "image": np.zeros((60, 80, 3), np.uint8),
            "camera": {"K": K, "distortion": np.zeros(5) if distortion is None else np.array([-0.2, 0, 0, 0, 0])},
            "boxes3d": {"corners": corners[None], "valid": np.array([True])},
            "poses": {"camera_from_object": np.eye(4)[None] + np.array([[0, 0, 0, 0], [0] * 4, [0, 0, 0, 5], [0] * 4])},
        }
        (view,) = describe(0, sample, {}).views
        boxes, poses = view.drawn
        expected = project(corners, K, distortion=distortion)[0]
        ends = {tuple(path[:2]) for path in boxes.shapes[0].paths} | {tuple(path[-2:]) for path in boxes.shapes[0].paths}
        assert len(boxes.shapes[0].paths) == 12
        for x, y in expected:
            assert min(np.hypot(x - a, y - b) for a, b in ends) < 0.01
        assert [shape.paths[0][:2] for shape in poses.shapes] == [[40.0, 30.0]] * 3
        assert poses.shapes[0].paths[0][-2] > 45, "x to the right"
        assert poses.shapes[1].paths[0][-1] > 35, "y down"


def test_an_orthographic_camera_is_known_by_the_legend():
    K = np.array([[10.0, 0, 40], [0, 10, 30], [0, 0, 1]])
    corners = np.array([[x, y, z] for z in (4, 6) for y in (-1, 1) for x in (-1, 1)], float)
    view = {"image": np.zeros((60, 80, 3), np.uint8), "camera": {"K": K}, "boxes3d": {"corners": corners[None]}}
    for names, sizes in ((["Camera"], (20, 5)), (["Side"], (5, 20)), (["Camera", "Side"], (20, 20)), ([], (5, 5)), (3, (5, 5))):
        legend = json.dumps({"categories": {}, "camera": {"orthographic": names}})
        for size, each in zip(sizes, describe(0, {**view, "Side": view, "meta": {"legend": legend}}, {}).views, strict=True):
            points = np.array(each.drawn[0].shapes[0].paths).reshape(-1, 2)
            assert np.allclose(np.ptp(points, axis=0), size)


def test_a_box_that_reaches_behind_the_camera_has_its_part_before_it():
    corners = np.array([[x, y, z] for z in (-1, 6) for y in (-1, 1) for x in (-1, 1)], float)
    sample = {"image": np.zeros((60, 80, 3), np.uint8), "camera": {"K": intrinsics(Lens(width=80, height=60))}}
    (view,) = describe(0, {**sample, "boxes3d": {"corners": corners[None]}}, {}).views
    paths = view.drawn[0].shapes[0].paths
    assert len(paths) > 12
    assert np.isfinite(np.concatenate([np.array(path) for path in paths])).all()
    (view,) = describe(0, {"image": sample["image"], "boxes3d": {"corners": corners[None]}}, {}).views
    assert view.drawn[0].missing == "needs the label camera"


@pytest.mark.parametrize(
    "odd",
    [
        {},
        {"image": None},
        {"image": np.zeros((0, 4, 3), np.uint8)},
        {"image": np.zeros((6, 8, 3), np.uint8), "boxes2d_tight": {"xyxy": np.zeros((2, 5)), "valid": np.ones(9, bool)}},
        {"image": np.zeros((6, 8), np.float32), "depth": {"depth": np.zeros((3, 3))}, "camera": {"K": "no"}},
        {"image": np.zeros((6, 8, 3), np.uint8), "boxes3d": {"corners": np.zeros((1, 8, 3))}, "camera": 3, "objects": [1]},
        {"keypoints": {"xy": np.full((1, 2, 2), 1e300), "skeleton": np.array([[0, 9]])}, "meta": {"drawn": "{", "seed": None}},
        {"visibility": {"fraction": np.array(["a"])}, "objects": {"instance_id": np.array([1]), "category_id": None}},
        {"text": "x" * 10**6, "deep": {"a": {"b": {"c": {"d": {"e": {"f": {"g": 1}}}}}}}, "list": [np.zeros(3), {}]},
        {"left": {"image": np.zeros((6, 8, 3), np.uint8)}, "masks": {"masks": np.zeros((2, 6, 8), bool)}},
    ],
)
def test_what_is_laid_out_otherwise_is_described_without_a_drawing(odd):
    text = msgspec.json.encode(describe(0, odd, {}))
    assert len(text) < 20_000
    assert msgspec.json.decode(text)["views"]


def test_what_cannot_be_looked_at_is_said(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "odd.json").write_text("[]")
    cases = [
        (["nothing"], "no recording with the prefix 'nothing'"),
        (["bracket.glb"], "'bracket.glb' does not exist"),
        (["odd.json"], "holds no launch information"),
        ([], "name models or a scene, or a configuration"),
    ]
    for arguments, text in cases:
        assert main(["view", "--no-open", *arguments]) == 1
        assert text in capsys.readouterr().err


def test_the_token_is_on_no_command_line(tmp_path, make_sample, view):
    """The browser is given a file that nobody else can read, which leads to the page, and is gone with it."""
    with FileRecorder(FileRecorder.filename(tmp_path / "out", 0)) as recorder:
        recorder.save(make_sample(0))
    program = tmp_path / "browser"
    program.write_text('#!/bin/sh\necho "$@" > arguments.part; mv arguments.part arguments\n')
    program.chmod(0o700)
    with view("out", program=program) as url:
        deadline = time.monotonic() + 20
        while not (tmp_path / "arguments").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        given = (tmp_path / "arguments").read_text().strip()
        assert given.startswith("file:///")
        assert urlsplit(url).query.partition("=")[2] not in given
        page = Path(urlsplit(given).path)
        assert [stat.S_IMODE(each.stat().st_mode) for each in (page, page.parent)] == [0o600, 0o700]
        assert f'content="0; url={url}"' in page.read_text()
    assert not page.parent.exists()
