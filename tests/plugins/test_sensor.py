"""The sensor: each of its effects against a computation of its own, its noise in statistics, and that samples stay what they are."""

import json
import math
import sys

import numpy as np
import pytest
from blendtorch import btt
from blendtorch.core import ArraySpec, Randomizer, Renderer
from blendtorch.core.errors import ConfigurationError
from blendtorch.core.interfaces import EFFECTS, IMAGE
from blendtorch.core.schedule import Share
from blendtorch.core.testing import run
from blendtorch_standard.randomizers.imaging import compress, expose, gaussian, smooth
from PIL import Image

OFF = {"blur": 0, "vignetting": 0, "exposure": 0, "shot_noise": 0, "read_noise": 0, "jpeg_quality": None}
ON = {
    "blur": 0.8,
    "vignetting": 0.3,
    "exposure": 0.2,
    "shot_noise": 1e-3,
    "read_noise": 0.01,
    "jpeg_quality": 85,
    "jpeg_probability": 1,
}


def rng():
    return np.random.default_rng(5)


def decoded(levels):
    """Light of sRGB levels, by IEC 61966-2-1."""
    return np.array([x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in np.ravel(levels) / 255]).reshape(
        np.shape(levels)
    )


def encoded(light):
    """SRGB levels of light, not rounded."""
    light = np.clip(light, 0, 1)
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def grey(level, height=48, width=64):
    return np.full((height, width, 3), level, np.uint8)


def test_neutral_values_change_no_byte():
    picture = rng().integers(0, 256, (70, 90, 3), np.uint8)
    np.testing.assert_array_equal(expose(picture, rng()), picture)
    (sample,) = run(Textured, renderers=["textured"], randomizers=[{"name": "sensor", **OFF}])
    (without,) = run(Textured, renderers=["textured"])
    np.testing.assert_array_equal(sample["image"], without["image"])


@pytest.mark.parametrize("stops", [1, -2.5, 0.3])
def test_a_stop_doubles_linear_light(stops):
    picture = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    exposed = expose(picture, rng(), exposure=stops)
    # Half a level of rounding, and 0.05 for the steps of the table that encodes.
    assert np.abs(exposed - encoded(2**stops * decoded(picture))).max() < 0.56


def test_corners_are_darker_by_the_fourth_power_of_the_cosine():
    strength, height, width = 0.4, 120, 160
    light = decoded(expose(grey(200, height, width), rng(), vignetting=strength)[..., 1]) / decoded(200)
    # The picture as a plane at distance 1 from the lens, whose corner is seen at the angle of which cos^4 = 1 - strength.
    corner = math.tan(math.acos((1 - strength) ** 0.25))
    for row, column in ((0, 0), (119, 159), (60, 80), (0, 80), (30, 120)):
        r = math.hypot(column + 0.5 - 80, row + 0.5 - 60) / math.hypot(80, 60)
        assert light[row, column] == pytest.approx(math.cos(math.atan(corner * r)) ** 4, rel=0.01)  # half a level is 0.6 %
    assert light[60, 80] == pytest.approx(1, abs=0.001)
    assert light[0, 0] == pytest.approx(1 - strength, rel=0.02)  # its centre is half a pixel off the corner
    np.testing.assert_allclose(light, light[::-1, ::-1])


def bessel(order, t):
    """The modified Bessel function of the first kind, by its power series."""
    return sum((t / 2) ** (2 * k + order) / (math.factorial(k) * math.factorial(k + order)) for k in range(60))


@pytest.mark.parametrize("sigma", [0.1, 0.5, 1.0, 3.0])
def test_a_point_becomes_a_gaussian(sigma):
    weights = gaussian(sigma)
    reach = len(weights) - 1
    point = np.zeros((4 * reach + 1, 1), np.float32)
    point[2 * reach] = 1
    spread = smooth(point, weights)[:, 0].astype(float)
    offset = np.arange(-reach, reach + 1)
    assert spread.sum() == pytest.approx(1, abs=1e-6)
    assert spread @ offset == pytest.approx(0, abs=1e-6)
    assert spread @ offset**2 == pytest.approx(sigma**2, rel=0.02)  # what lies beyond four sigma is not there
    discrete = [math.exp(-(sigma**2)) * bessel(abs(each), sigma**2) for each in offset]
    np.testing.assert_allclose(spread, discrete, atol=5e-4)
    if sigma > 2:  # pixels are small for it: the bell curve
        bell = np.exp(-(offset**2) / (2 * sigma**2)) / (sigma * math.sqrt(2 * math.pi))
        np.testing.assert_allclose(spread, bell, atol=0.03 * bell.max())


@pytest.mark.parametrize("shape", [(70, 37), (3, 5)])  # more than one band; less than the blur reaches
def test_light_is_blurred_in_both_directions_and_up_to_the_border(shape):
    picture = rng().integers(0, 256, (*shape, 3), np.uint8)
    sigma = 1.2
    weights = gaussian(sigma).astype(float)
    reach = len(weights) - 1
    light = np.pad(decoded(picture), ((reach, reach), (reach, reach), (0, 0)), "edge")
    expected = sum(
        weights[abs(dy)] * weights[abs(dx)] * light[reach + dy : reach + dy + shape[0], reach + dx : reach + dx + shape[1]]
        for dy in range(-reach, reach + 1)
        for dx in range(-reach, reach + 1)
    )
    assert np.abs(expose(picture, rng(), blur=sigma) - encoded(expected)).max() < 0.56


@pytest.mark.parametrize(("shot", "read"), [(1e-3, 0.0), (0.0, 0.02), (1e-3, 0.01)])
def test_noise_has_the_variance_of_its_model(shot, read):
    for level in (90, 128, 180):
        light = float(decoded(level))
        noisy = decoded(expose(grey(level, 240, 320), rng(), shot_noise=shot, read_noise=read)) - light
        variance = shot * light + read**2
        # 230 thousand values: the variance is known to 0.3 %; the levels add up to 1 %.
        assert noisy.var() == pytest.approx(variance, rel=0.02)
        assert noisy.mean() == pytest.approx(0, abs=5 * math.sqrt(variance / noisy.size) + 1e-5)
        assert (np.abs(noisy) > 2 * math.sqrt(variance)).mean() == pytest.approx(0.0455, abs=0.012)
        # Each value for itself: neighbours and channels have nothing in common.
        for one, other in ((noisy[1:], noisy[:-1]), (noisy[:, 1:], noisy[:, :-1]), (noisy[..., 0], noisy[..., 1])):
            assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.015


def test_effects_come_in_the_order_of_a_camera():
    """Exposed light is noisy, and not the noise exposed; what the lens has dimmed is exposed; a sensor saturates."""
    bright = expose(grey(128, 240, 320), rng(), exposure=1, read_noise=0.02)
    assert decoded(bright).var() == pytest.approx(0.02**2, rel=0.03)
    assert decoded(bright).mean() == pytest.approx(2 * decoded(128), rel=0.01)
    corner = expose(grey(128), rng(), exposure=1, vignetting=0.5)[0, 0, 0]
    assert decoded(corner) == pytest.approx(decoded(128), rel=0.05)
    dots = np.zeros((48, 64, 3), np.uint8)
    dots[24, 32] = 255
    assert decoded(expose(dots, rng(), exposure=2, blur=1)).sum() == pytest.approx(
        3 * 4, rel=0.01
    )  # blurred before it saturates
    assert (expose(grey(255), rng(), exposure=3) == 255).all()


@pytest.mark.parametrize("quality", [1, 60, 100])
def test_jpeg_is_that_of_pillow(tmp_path, quality):
    picture = run(Textured, renderers=["textured"])[0]["image"]
    Image.fromarray(picture).save(tmp_path / "picture.jpg", quality=quality)
    with Image.open(tmp_path / "picture.jpg") as read:
        expected = np.array(read)
    assert (expected != picture).any()
    np.testing.assert_array_equal(compress(picture, quality), expected)
    (sample,) = run(
        Textured,
        renderers=["textured"],
        randomizers=[{"name": "sensor", **OFF, "jpeg_quality": quality, "jpeg_probability": 1}],
    )
    np.testing.assert_array_equal(sample["image"], expected)
    assert json.loads(sample["meta"]["drawn"])["sensor"]["jpeg_quality"] == quality


class Textured(Renderer):
    """The same picture for every camera, of soft shapes."""

    name, interface, shows = "textured", 1, EFFECTS
    emits = {"image": ArraySpec("uint8", ("height", "width", 3))}

    def render(self, moment, camera):
        y, x = np.indices(camera.shape)
        shapes = np.dstack([np.sin(x / 5) * np.cos(y / 7), np.cos(x / 9 + y / 4), np.sin(y / 6)])
        return {"image": (128 + 90 * shapes).astype(np.uint8)}


def test_noise_depends_on_seed_episode_frame_and_camera_alone():
    def pictures(share=None, seed=3, **options):
        randomizers = [{"name": "sensor", **ON, **options}]
        fields = {"renderers": ["textured"], "randomizers": randomizers, "seed": seed, "count": 4, "frames_per_episode": 2}
        samples = run(Textured, share=share, **fields)
        return {
            (sample["meta"]["index"], view): each["image"]
            for sample in samples
            for view, each in enumerate([sample, sample["Side"]])
        }

    alone = pictures()
    shared = {**pictures(Share(instances=2, instance=1)), **pictures(Share(instances=2))}
    assert len(alone) == len(shared) == 8
    for place, picture in alone.items():
        np.testing.assert_array_equal(picture, shared[place])
    assert len({picture.tobytes() for picture in [*alone.values(), *pictures(seed=4).values()]}) == 16
    noiseless = pictures(shot_noise=0, read_noise=0)
    assert len({picture.tobytes() for picture in noiseless.values()}) == 1


def test_values_are_drawn_for_each_episode_or_frame_and_recorded():
    def drawn(every):
        samples = run(randomizers=[{"name": "sensor", "every": every}], count=40, frames_per_episode=2, seed=1)
        return [json.loads(sample["meta"]["drawn"])["sensor"] for sample in samples]

    per_episode, per_frame = drawn("episode"), drawn("frame")
    assert per_episode[::2] == per_episode[1::2]
    assert len({each["exposure"] for each in per_episode}) == 20
    assert len({each["exposure"] for each in per_frame}) == 40
    assert set(per_frame[0]) == {*OFF}
    for name, low, high in (("blur", 0, 0.7), ("vignetting", 0, 0.3), ("exposure", -0.3, 0.3), ("read_noise", 1e-4, 1e-3)):
        assert all(low <= each[name] <= high for each in per_frame)
    qualities = [each["jpeg_quality"] for each in per_frame]
    assert 10 < qualities.count(None) < 30
    assert {type(each) for each in qualities} == {int, type(None)}


class Behind(Randomizer):
    """Puts grey behind the objects."""

    name, interface, changes, needs_transparent = "behind", 1, frozenset({IMAGE}), True

    def randomize(self, moment, rng):
        return {}

    def retouch(self, moment, camera, image, rng):
        return np.where(image[..., 3:] > 0, image[..., :3], np.uint8(90))


def test_it_sees_the_whole_picture_wherever_it_stands():
    entry = {"name": "sensor", **ON}
    (before,), (after,) = (run(Behind, randomizers=each) for each in ([entry, "behind"], ["behind", entry]))
    np.testing.assert_array_equal(before["image"], after["image"])
    assert before["image"].shape == (48, 64, 3)
    background = before["image"][:6, :6]  # by the fake's camera nothing is there
    assert 0 < decoded(background).std() < 0.05
    assert decoded(background).mean() == pytest.approx(0.7 * 2**0.2 * decoded(90), rel=0.15)


REFUSED = {
    "negative sigma": ({"blur": -0.5}, "blur may be -0.5: expected 0 to 50"),
    "range": ({"blur": {"draw": "uniform", "low": -1, "high": 1}}, "blur may be -1"),
    "normal": ({"blur": {"draw": "normal", "mean": 1, "std": 0.5}}, "blur may be -4: expected 0 to 50"),
    "quality 0": ({"jpeg_quality": 0}, "jpeg_quality may be 0: expected 1 to 100"),
    "quality 101": ({"jpeg_quality": {"draw": "choice", "values": [90, 101]}}, "jpeg_quality may be 101"),
    "black corners": ({"vignetting": 1}, "vignetting may be 1: expected 0 to 0.99"),
    "stops": ({"exposure": {"draw": "constant", "value": 21}}, "exposure may be 21: expected -20 to 20"),
    "variance": ({"shot_noise": {"draw": "log_uniform", "low": 0.1, "high": 2}}, "shot_noise may be 2: expected 0 to 1"),
    "text": ({"read_noise": "much"}, "read_noise: expected 1 numbers or one, got 'much'"),
    "probability": ({"jpeg_probability": 1.5}, "jpeg_probability is 1.5: expected a number from 0 to 1"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_impossible_options_are_refused_with_their_path(case):
    options, reason = REFUSED[case]
    with pytest.raises(ConfigurationError) as error:
        run(randomizers=[{"name": "sensor", **options}])
    assert reason in str(error.value)
    assert "`randomizers[0]`" in str(error.value)


def test_possible_options_are_not_refused():
    normal = {"draw": "normal", "mean": 0.5, "std": 0.2, "low": 0}
    run(
        randomizers=[
            {"name": "sensor", "blur": normal, "exposure": {"draw": "normal", "mean": 0, "std": 0.5}, "shot_noise": "1e-4"}
        ]
    )


def test_without_pillow_the_way_out_is_said_before_the_first_frame(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)  # as if it were not installed
    with pytest.raises(ConfigurationError, match=r"randomizers\[0\]: .*: jpeg_quality needs Pillow.* -m pip install pillow"):
        run(randomizers=["sensor"])
    run(randomizers=[{"name": "sensor", "jpeg_quality": None}])


@pytest.mark.blender
def test_one_instance_and_two_make_the_same_pictures(blender):
    """Bit for bit, noise and JPEG included: Cycles repeats itself."""

    def samples(instances):
        entry = {"name": "sensor", **ON, "exposure": {"draw": "uniform", "low": -1, "high": 1}}
        renderer = {"name": "cycles", "samples": 1, "denoiser": "off", "device": "cpu"}
        fields = {"renderer": renderer, "randomizers": [entry], "resolution": (64, 48), "count": 4, "frames_per_episode": 2}
        with btt.stream(blender=blender, num_instances=instances, seed=2, **fields) as dataset:
            return {sample["meta"]["index"]: sample for sample in dataset}

    alone, shared = samples(1), samples(2)
    assert sorted(alone) == sorted(shared) == [0, 1, 2, 3]
    assert {sample["meta"]["btid"] for sample in shared.values()} == {0, 1}
    for index, sample in alone.items():
        assert sample["meta"]["drawn"] == shared[index]["meta"]["drawn"]
        np.testing.assert_array_equal(sample["image"], shared[index]["image"])
    assert len({sample["image"].tobytes() for sample in alone.values()}) == 4
