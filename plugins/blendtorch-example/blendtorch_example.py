"""An example of plug-ins, to copy: an annotator, `centers`, and a randomizer, `jitter`. See `docs/plugins.md`."""

import numpy as np
from blendtorch.core import Annotator, ArraySpec, Distribution, Randomizer, RandomizerOptions, Uniform, draw_vector, hookimpl


class Centers(Annotator):
    """Where in the picture the origin of each object is."""

    name = "centers"
    interface = 1

    @property
    def emits(self):
        return {"xy": ArraySpec("float64", ("objects", 2), unit="px"), "valid": ArraySpec("bool", ("objects",))}

    def annotate(self, moment, camera, inputs):
        from blendtorch.btb import blender

        origins = [blender.world_matrix(each.root or each.parts[0])[:3, 3] for each in moment.objects]
        xy, _ = camera.project(np.reshape(origins, (-1, 3)))
        return {"xy": xy, "valid": np.isfinite(xy).all(axis=1)}


class JitterOptions(RandomizerOptions, frozen=True, kw_only=True):
    objects: str = "*"
    offset: Distribution = Uniform(low=(-1, -1, 0), high=(1, 1, 0))


class Jitter(Randomizer):
    """Moves objects from where the file has them."""

    name = "jitter"
    interface = 1
    Options = JitterOptions

    def setup(self, context):
        from blendtorch.btb import blender

        found = blender.objects_matching(context.scene, self.options.objects)
        self.places = [(obj, np.array(obj.location)) for obj in found if obj.type == "MESH"]

    def writes(self):
        return [(obj, "location") for obj, _ in self.places]

    def randomize(self, moment, rng):
        offsets = {obj.name: draw_vector(self.options.offset, rng, 3, "offset") for obj, _ in self.places}
        for obj, place in self.places:
            obj.location = place + offsets[obj.name]
        return offsets


@hookimpl
def blendtorch_register_annotators():
    return Centers


@hookimpl
def blendtorch_register_randomizers():
    return Jitter
