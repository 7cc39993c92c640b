"""Lamps: energy, colour and place."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from blendtorch.core import Distribution, Moment, Randomizer, RandomizerOptions, SetupContext
from blendtorch.core.interfaces import LIGHTS

from blendtorch_standard.randomizers import rotations
from blendtorch_standard.randomizers.values import check, check_one_of, number, vector


class LightsOptions(RandomizerOptions, frozen=True, kw_only=True):
    """Options of `lights`.

    Attributes
    ----------
    lamps : str
        Names of objects that are lamps, with the wildcards `*`, `?` and `[]`. Each draws for itself; lamps that share their
        data share energy and colour.
    energy : distribution of one number, or None
        In watts, of a sun in watts per square metre. None leaves it as it is.
    color : distribution of three numbers, or None
        Linear red, green and blue from 0 to 1, as Blender's field of this name; no sRGB.
    location : distribution of three numbers, or None
        In scene units, in the frame of the parent.
    rotation_deg : distribution of three numbers, or None
        Degrees about x, then y, then z of the frame of the parent: where suns, spots and areas shine to.
    relative : bool
        Start from what the lamp has when the run begins: multiply the energy, add the location, rotate further. The colour is
        absolute always.
    """

    lamps: str = "*"
    energy: Distribution | None = None
    color: Distribution | None = None
    location: Distribution | None = None
    rotation_deg: Distribution | None = None
    relative: bool = False

    def __post_init__(self) -> None:
        """Check that there is something to draw, and that it fits."""
        check_one_of(self, "energy", "color", "location", "rotation_deg")
        check(self, energy=1, color=3, location=3, rotation_deg=3)


class Lights(Randomizer):
    """Changes the lamps of the scene; their number stays."""

    name = "lights"
    interface = 1
    Options = LightsOptions
    changes = frozenset({LIGHTS})

    def setup(self, context: SetupContext) -> None:
        """Find the lamps, and keep what they start from."""
        from blendtorch.btb import blender

        lamps = [obj for obj in context.scene.objects if obj.type == "LIGHT"]
        self._lamps = blender.matching(lamps, self.options.lamps, "lamp")
        self._data = {lamp.data.name: lamp.data for lamp in self._lamps}
        self._energy = {name: data.energy for name, data in self._data.items()}
        self._start = {lamp.name: (np.array(lamp.location), blender.rotation(lamp)) for lamp in self._lamps}

    def writes(self) -> Sequence[tuple[Any, str]]:
        """What the options name."""
        from blendtorch.btb import blender

        options = self.options
        written = [(data, "energy") for data in self._data.values() if options.energy is not None]
        written += [(data, "color") for data in self._data.values() if options.color is not None]
        written += [(lamp, "location") for lamp in self._lamps if options.location is not None]
        written += [(lamp, blender.rotation_path(lamp)) for lamp in self._lamps if options.rotation_deg is not None]
        return written

    def randomize(self, moment: Moment, rng: np.random.Generator) -> Mapping[str, Any]:  # noqa: ARG002
        """Set each lamp; the record has what was drawn, by the names of the lamps' data and of the lamps."""
        return {
            "data": {name: self._shine(data, rng) for name, data in self._data.items()},
            "lamps": {lamp.name: self._place(lamp, rng) for lamp in self._lamps},
        }

    def _shine(self, data: Any, rng: np.random.Generator) -> dict[str, Any]:
        options = self.options
        drawn: dict[str, Any] = {}
        if options.energy is not None:
            drawn["energy"] = number(options.energy, rng)
            data.energy = drawn["energy"] * (self._energy[data.name] if options.relative else 1)
        if options.color is not None:
            data.color = drawn["color"] = vector(options.color, rng)
        return drawn

    def _place(self, lamp: Any, rng: np.random.Generator) -> dict[str, Any]:
        from blendtorch.btb import blender

        options, drawn = self.options, {}
        location, rotation = self._start[lamp.name]
        if options.location is not None:
            drawn["location"] = vector(options.location, rng)
            lamp.location = drawn["location"] + (location if options.relative else 0)
        if options.rotation_deg is not None:
            drawn["rotation_deg"] = vector(options.rotation_deg, rng)
            turn = rotations.from_degrees(drawn["rotation_deg"])
            blender.set_rotation(lamp, turn @ rotation if options.relative else turn)
        return drawn
