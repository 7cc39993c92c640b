"""A run without a script: plug-ins composed over the animation controller and the publisher.

In a script::

args, _ = btb.parse_blendtorch_args()
publisher = btb.DataPublisher(args.btsockets["DATA"], args.btid)
pipeline = btb.Pipeline(renderers=["workbench"], annotators=["keypoints"], count=100, seed=args.btseed)
pipeline.run(publisher)
"""

import functools
import sys
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

import bpy
from blendtorch.btb import blender
from blendtorch.btb.animation import AnimationController
from blendtorch.btb.assets import spawn
from blendtorch.btb.objects import objects_of_interest, table
from blendtorch.btb.publisher import Abandoned, DataPublisher
from blendtorch.core.composition import compose
from blendtorch.core.configuration import RunConfiguration, run_configuration
from blendtorch.core.discovery import Catalogue
from blendtorch.core.errors import SceneError
from blendtorch.core.interfaces import CameraView
from blendtorch.core.sampler import Sampler
from blendtorch.core.schedule import Episode, Share, episodes

_EPOCH_POLL_S = 0.02


def _is_over(asked: Callable[[], int], epoch: int) -> bool:
    return asked() > epoch


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class Pipeline:
    """Randomizes, renders, labels and publishes, episode by episode.

    Parameters
    ----------
    configuration : RunConfiguration, optional
        Default: made of `fields`.
    share : Share
        Which part of the run this instance has. Default: all of it.
    btid : int
        Number of this instance, for the record.
    installed : mapping of str to str
        What the trainer has installed, for errors.
    announce, notify : callable
        Called with what the run is about (what gets labels, on which device it renders), and with what the user should know.
        Default: both go to stderr.
    **fields
        Of `blendtorch.core.configuration.RunConfiguration`: renderers, annotators, randomizers, objects, cameras,
        assets, resolution, distortion, seed, start, count, frames_per_episode, exclude, plugins.

    Attributes
    ----------
    parts : Composition
        The plug-ins of the run.
    stage : SceneStage

    Raises
    ------
    ConfigurationError, PluginError, SceneError
        If the run cannot work. Nothing has been rendered then.
    """

    def __init__(
        self,
        configuration: RunConfiguration | None = None,
        share: Share | None = None,
        btid: int = 0,
        installed: Mapping[str, str] | None = None,
        announce: Callable[[str], None] = _say,
        notify: Callable[[str], None] = _say,
        **fields: Any,
    ) -> None:
        self.configuration = configuration or run_configuration(**fields)
        self._share = share or Share()
        self._announce = announce
        self.parts = compose(self.configuration, Catalogue(self.configuration.plugins, installed))
        self.stage = SceneStage(self.configuration, notify)
        self._sampler = Sampler(self.configuration, self.parts, self.stage, btid)
        first = self.stage.frame_range[0]
        last = first + self._sampler.preroll + self.configuration.frames_per_episode - 1
        self.stage.frame_range = first, last
        self._episode = Episode(0, ())
        self._devices_announced = False

    def summary(self) -> str:
        """Say what gets labels: categories, instances, meshes."""
        objects = self.stage.objects
        if not objects:
            return "No object of this scene gets labels: it has no mesh that a render shows."
        bare = not self.configuration.objects and not any("category_id" in o.root or "category_name" in o.root for o in objects)
        chosen = " (every mesh that a render shows: choose with objects=[...])" if bare else ""
        models = "\n".join(["Models:", *(f"  {each}" for each in self.stage.models)]) + "\n" if self.stage.models else ""
        return f"{models}Objects of interest{chosen}:\n{table(objects)}"

    def run(self, publisher: DataPublisher) -> None:
        """Play all episodes of this instance and publish their samples; in a window it returns at once.

        What an instance before this one has delivered is left out, as what the configuration excludes: whole episodes are not
        played, and of others only the rest is rendered.
        """
        self._guarded(lambda: self._play(publisher, self.configuration.count, at_end=self.close))

    def run_epochs(
        self,
        open_publisher: Callable[[int], DataPublisher],
        asked: Callable[[], int],
        finished: Callable[[int], None],
        following: int = 0,
    ) -> None:
        """Publish the same samples again and again, each time as a stream of its own; does not return.

        Parameters
        ----------
        open_publisher : callable
            Makes the publisher of an epoch.
        asked : callable
            Returns which epoch was asked for last, from 0; -1 for none. It gives up an older one that it is at.
        finished : callable
            Told that an epoch was delivered, or given up.
        following : int
            The first epoch to publish: an instance before this one has finished those before.
        """
        self._guarded(lambda: self._repeat(open_publisher, asked, finished, following))

    def _guarded(self, play: Callable[[], object]) -> None:
        try:
            self._announce(self.summary())
            AnimationController.setup_frame_range(self.stage.frame_range)
            self._sampler.setup()
            play()
        except BaseException:
            self.close()
            raise

    def _repeat(
        self,
        open_publisher: Callable[[int], DataPublisher],
        asked: Callable[[], int],
        finished: Callable[[int], None],
        following: int,
    ) -> None:
        while True:
            if (number := asked()) < following:
                time.sleep(_EPOCH_POLL_S)
                continue
            publisher = open_publisher(number)
            try:
                self._play(publisher, self.configuration.repeat, functools.partial(_is_over, asked, number))
                publisher.close()
            except Abandoned:
                publisher.abandon()
            finished(number)
            following = number + 1

    def _play(
        self,
        publisher: DataPublisher,
        count: int | None,
        abandoned: Callable[[], bool] = lambda: False,
        at_end: Callable[[], None] = lambda: None,
    ) -> None:
        first = self.stage.frame_range[0] + self._sampler.preroll
        animation = AnimationController()
        wanted: set[int] = set()  # the frames of the episode that become samples

        def undelivered() -> Generator[tuple[int, ...]]:
            begin = publisher.sequence
            for episode in self._own_episodes(count):
                if abandoned():
                    raise Abandoned
                end = begin + len(episode.frames)
                if all(map(publisher.delivered, range(begin, end))):
                    publisher.skip_to(end)
                else:
                    self._episode = episode
                    wanted.clear()
                    wanted.update(episode.frames)
                    yield ()
                begin = end

        def begin() -> None:
            self._sampler.begin_episode(self._episode.number)

        def randomize() -> None:
            # A simulation runs up to its first sample with what is drawn for that: else with what the last episode left.
            if animation.frameid == self.stage.frame_range[0] or animation.frameid > first:
                self._sampler.before_frame(max(0, animation.frameid - first))

        def publish() -> None:
            frame = animation.frameid - first
            if frame < 0:
                return
            if frame == self._episode.frames[-1]:
                animation.end_episode()
            if frame not in wanted:
                self._sampler.skip(frame)
            elif publisher.delivered(publisher.sequence):
                publisher.skip_to(publisher.sequence + 1)
                self._sampler.skip(frame)
            else:
                sample = self._sampler.sample(frame)
                publisher.publish_sample(sample, sample["meta"]["index"])
                self._announce_devices()

        animation.pre_animation.add(begin)
        animation.pre_frame.add(randomize)
        animation.post_frame.add(publish)
        animation.post_play.add(at_end)
        animation.play_each(self.stage.frame_range, undelivered())

    def close(self) -> None:
        """Close the plug-ins."""
        self._sampler.close()

    def _announce_devices(self) -> None:
        if not self._devices_announced:  # known once something was rendered
            self._devices_announced = True
            for label, device in self._sampler.devices().items():
                self._announce(f"Renderer {label} renders on: {device}")

    def _own_episodes(self, count: int | None) -> Iterator[Episode]:
        wanted = self.configuration
        return episodes(wanted.start, count, wanted.frames_per_episode, self._share, wanted.exclude)


class SceneStage:
    """The current scene, as a `blendtorch.core.sampler.Stage`."""

    def __init__(self, configuration: RunConfiguration, notify: Callable[[str], None]) -> None:
        self.scene = bpy.context.scene
        self.notify = notify
        if configuration.resolution is not None:
            render = self.scene.render
            render.resolution_x, render.resolution_y = configuration.resolution
            render.resolution_percentage = 100
        self.shape = blender.picture_shape(self.scene)
        self.models = spawn(self.scene, configuration.assets)
        for model in self.models:
            for notice in model.notices:
                notify(notice)
        self.cameras = self._cameras(configuration.cameras)
        if configuration.distortion is not None and configuration.distortion.distorts:
            for camera in self.cameras:
                blender.check_frame(camera)
        self.objects = objects_of_interest(self.scene, configuration.objects)
        self.frame_range: tuple[int, int] = (self.scene.frame_start, self.scene.frame_end)
        self.versions: Mapping[str, str] = {"blender": bpy.app.version_string}

    def view(self, camera: Any) -> CameraView:
        """Look at the evaluated frame through a camera."""
        return blender.view(camera, self.shape)

    def showing(self, view: CameraView) -> AbstractContextManager[None]:
        """Give a camera of Blender the lens of a view, and the scene's pictures its size, for a while."""
        return blender.showing(view)

    def overwritten(self, datablock: Any, path: str, every: str) -> str:
        """Say what of the scene would overwrite a property that a randomizer sets."""
        return blender.overwritten(datablock, path, every)

    def _cameras(self, names: tuple[str, ...]) -> tuple[Any, ...]:
        if not names:
            return (blender.scene_camera(),)
        if len(set(names)) < len(names):
            raise SceneError(f"cameras: {list(names)} names one twice")
        cameras = [obj for obj in self.scene.objects if obj.type == "CAMERA"]
        return tuple(blender.matching(cameras, name, "camera")[0] for name in names)
