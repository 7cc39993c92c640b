"""Playing the animation of a scene, with callbacks around each frame.

Headless it is a plain loop around `scene.frame_set`. (Blender's own player does nothing in background, and handlers on
frame changes fire twice for every render.) In a window the same loop advances by a timer, so that the window lives.
"""

from collections.abc import Generator, Iterator
from contextlib import closing

import bpy
from blendtorch.btb import episodes, instance, randomness
from blendtorch.btb.signal import Signal
from blendtorch.core.errors import SceneError


class AnimationController:
    """Plays frames of the current scene and calls back.

    Attributes
    ----------
    pre_play, post_play : Signal
        Before the first and after the last episode.
    pre_animation, post_animation : Signal
        Before the first and after the last frame of each episode.
    pre_frame : Signal
        Before Blender evaluates a frame: the place to randomize. What the scene animates itself (keyframes, active
        rigid bodies after the first frame) overwrites what is set here.
    post_frame : Signal
        After the frame is evaluated: the place to render and to publish.
    """

    def __init__(self) -> None:
        self.pre_play = Signal()
        self.pre_animation = Signal()
        self.pre_frame = Signal()
        self.post_frame = Signal()
        self.post_animation = Signal()
        self.post_play = Signal()
        self._frames: Iterator[None] | None = None
        self._frameid: int | None = None
        self._rewind = self._ends = False

    @property
    def frameid(self) -> int:
        """The frame being played; already the new one in `pre_animation` and `pre_frame`."""
        return int(bpy.context.scene.frame_current) if self._frameid is None else self._frameid

    def play(
        self,
        frame_range: tuple[int, int] | None = None,
        num_episodes: int = -1,
        use_animation: bool = True,
        use_offline_render: bool = True,  # noqa: ARG002 - accepted for scripts written for 0.4
        use_physics: bool = True,
    ) -> None:
        """Play episodes; returns after the last one, in a window at once.

        `btb.rng` is seeded for each frame. In an instance that was started again, episodes whose messages were delivered are
        left out.

        Parameters
        ----------
        frame_range : tuple of int, optional
            First and last frame, both played. Default: the scene's.
        num_episodes : int
            -1 for ever.
        use_animation : bool
            In a window: keep it alive between frames. False plays everything before the window reacts again.
        use_offline_render : bool
            Accepted for scripts written for 0.4: rendering in `post_frame` is always possible.
        use_physics : bool
            Let the rigid body simulation span the frame range.

        Raises
        ------
        SceneError
            If this controller is playing already, or the frame range is empty.
        """
        self._start(frame_range, episodes.of_script(num_episodes), use_animation, use_physics)

    def play_each(self, frame_range: tuple[int, int] | None, places: Generator[tuple[int, ...]]) -> None:
        """Play one episode for each place that a generator yields, as `play` does.

        Parameters
        ----------
        frame_range : tuple of int, optional
            As for `play`.
        places : generator of tuple of int
            Asked just before each episode. `btb.rng` draws what belongs to the place; it is left alone where that is empty.
        """
        self._start(frame_range, places)

    def _start(
        self,
        frame_range: tuple[int, int] | None,
        places: Generator[tuple[int, ...]],
        use_animation: bool = True,
        use_physics: bool = True,
    ) -> None:
        if self._frames is not None:
            raise SceneError("this AnimationController is playing already")
        first, last = self.setup_frame_range(frame_range, physics=use_physics)
        self._frames = self._play(first, last, places)
        if bpy.app.background or not use_animation:
            for _ in self._frames:
                pass
        else:
            bpy.app.timers.register(self._advance)

    def rewind(self) -> None:
        """Go back to the first frame after the present one: the episode begins anew, its `post_animation` is not called."""
        self._rewind = True

    def end_episode(self) -> None:
        """Play no frame after the present one: the episode ends, its `post_animation` is called."""
        self._ends = True

    @staticmethod
    def setup_frame_range(frame_range: tuple[int, int] | None, physics: bool = True) -> tuple[int, int]:
        """Give the scene, and its rigid body simulation, a frame range; default: the one it has.

        Raises
        ------
        SceneError
            If the range is empty.
        """
        scene = bpy.context.scene
        first, last = frame_range or (scene.frame_start, scene.frame_end)
        if last < first:
            raise SceneError(f"frame_range {(first, last)} is empty: give first and last frame, both are played")
        scene.frame_start, scene.frame_end = first, last
        if physics and scene.rigidbody_world:
            cache = scene.rigidbody_world.point_cache
            cache.frame_start, cache.frame_end = first, last
        return first, last

    def _play(self, first: int, last: int, places: Generator[tuple[int, ...]]) -> Iterator[None]:
        """Play, and yield after each frame."""
        try:
            self.pre_play.invoke()
            with closing(places):
                for place in places:
                    instance.exchange_when_due()
                    yield from self._play_episode(first, last, place)
            self.post_play.invoke()
        finally:
            self._frames = self._frameid = None

    def _play_episode(self, first: int, last: int, place: tuple[int, ...]) -> Iterator[None]:
        frame, rewinds = first, 0
        while frame <= last:
            self._rewind = self._ends = False
            self._frameid = frame
            if place:
                # An episode that is rewound draws something new: it was rewound for what it drew, perhaps.
                randomness.reseed(*place, rewinds, frame)
            if frame == first:
                self.pre_animation.invoke()
            self.pre_frame.invoke()
            bpy.context.scene.frame_set(frame)
            self.post_frame.invoke()
            yield
            if self._rewind:
                frame, rewinds = first, rewinds + 1
            elif self._ends:
                break
            else:
                frame += 1
        self.post_animation.invoke()

    def _advance(self) -> float | None:
        """Play one frame for a window's timer; returns the pause until the next one in seconds, or None after the last."""
        with instance.reporting():
            for _ in self._frames or ():
                return 0.0
            if self._frames is None:  # and `post_play` has not begun anew: the window stays, the stream ends
                instance.finish()
        return None
