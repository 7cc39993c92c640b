"""Which copies of models an episode has."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from blendtorch.core import Moment, Randomizer, RandomizerOptions, SetupContext
from blendtorch.core.assets import ASSET, PLACE, SHOWN
from blendtorch.core.errors import SceneError
from blendtorch.core.interfaces import GEOMETRY

from blendtorch_standard.randomizers import targets
from blendtorch_standard.randomizers.arrangement import radius

_DEPTH = 1000.0  # under the scene, of copies that are not there: nothing meets them, physics included


class AssetsOptions(RandomizerOptions, frozen=True, kw_only=True):
    """Options of `assets`.

    Attributes
    ----------
    every : {'episode'}
        What is there stays for the episode.
    counts : tuple of (int, int)
        The least and the most copies of an episode, for each entry of the run's `assets`.
    """

    every: Literal["episode"] = "episode"
    counts: tuple[tuple[int, int], ...] = ()


class Assets(Randomizer):
    """Shows as many copies of the run's `assets` as it draws, and hides the others.

    A run with `assets` has it by itself, before all other randomizers. A copy that is shown stands upright on a grid, none in
    another, until another randomizer moves it.
    """

    name = "assets"
    interface = 1
    Options = AssetsOptions
    changes = frozenset({GEOMETRY})

    def setup(self, context: SetupContext) -> None:
        """Find the copies, and the places that they stand on."""
        from blendtorch.btb import blender

        copies = [obj for obj in context.scene.objects if targets.is_asset(obj)]
        copies.sort(key=lambda obj: str(obj.name))
        self._pools = [[obj for obj in copies if obj[ASSET] == n] for n in range(len(self.options.counts))]
        for number, (pool, (_, most)) in enumerate(zip(self._pools, self.options.counts, strict=True)):
            if len(pool) < most:
                raise SceneError(f"the scene has {len(pool)} copies of assets[{number}], and {most} are asked for")
        places = {tuple(obj.location[:2]) for obj in copies if not targets.is_parked(obj)}
        self._places = sorted(places, key=lambda place: (np.hypot(*place), np.arctan2(*place)))  # from the middle outwards
        self._apart = 3 * max((radius(obj, [obj]) for obj in copies), default=0.0)
        self._height = {obj.name: -float(blender.mesh(obj).vertices[:, 2].min()) for obj in copies}

    def writes(self) -> Sequence[tuple[Any, str]]:
        """Both switches of each copy, and where it stands."""
        return [(obj, path) for pool in self._pools for obj in pool for path in ("hide_render", "hide_viewport", "location")]

    def randomize(self, moment: Moment, rng: np.random.Generator) -> Mapping[str, Any]:  # noqa: ARG002
        """Choose copies of each entry; the record has their names."""
        chosen = []
        for pool, (least, most) in zip(self._pools, self.options.counts, strict=True):
            count = int(rng.integers(least, most + 1))
            chosen += [pool[number] for number in sorted(rng.permutation(len(pool))[:count])]
        places = {obj.name: place for obj, place in zip(chosen, self._places, strict=False)}
        for number, obj in enumerate(obj for pool in self._pools for obj in pool):
            shown = obj.name in places
            x, y = places.get(obj.name, (number * self._apart, 0.0))
            obj[SHOWN], obj[PLACE] = int(shown), (x, y, self._height[obj.name] if shown else -_DEPTH)
            obj.hide_render = obj.hide_viewport = not shown
            obj.location, obj.rotation_euler = obj[PLACE], (0.0, 0.0, 0.0)
        return {"shown": list(places)}
