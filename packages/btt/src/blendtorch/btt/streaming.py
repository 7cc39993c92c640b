"""A stream of samples without a script: plug-ins render, label and randomize a scene."""

import logging
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import msgspec
from blendtorch.btt.dataset import DEFAULT_TIMEOUT_MS, RemoteIterableDataset
from blendtorch.btt.launch_info import Addresses
from blendtorch.btt.launcher import BlenderLauncher
from blendtorch.btt.receiver import Receiver
from blendtorch.btt.recording.recording import check_prefix
from blendtorch.btt.shards import share_of
from blendtorch.btt.supervision import RestartPolicy
from blendtorch.core import schedule
from blendtorch.core.assets import Unit, resolve
from blendtorch.core.composition import compose
from blendtorch.core.configuration import RunConfiguration, run_configuration
from blendtorch.core.discovery import Catalogue
from blendtorch.core.distortion import Distortion
from blendtorch.core.errors import ConfigurationError, LaunchError, PluginError
from blendtorch.core.launch import InstanceFiles, RunSpec, epoch_address
from blendtorch.core.messages import Frame
from blendtorch.core.transport import DEFAULT_QUEUE_SIZE

logger = logging.getLogger("blendtorch")

Entry = str | Mapping[str, Any]
ENDLESS = 2**62


class SampleDataset(RemoteIterableDataset):
    """What a run of plug-ins publishes: `{"image": ..., <annotator>: {field: array}, "objects": ..., "meta": {...}}`.

    `objects` has `instance_id` and `category_id` of each row that arrays per object have, int64. `meta` has seed, episode,
    frame, index, what was drawn and versions (as JSON strings), and btid. See `RemoteIterableDataset` for the rest.
    """

    repeat = False  # each epoch is a stream of its own, of the same samples
    _epoch = 0

    @property
    def categories(self) -> dict[int, str]:
        """The names of the categories, by their ids; known from the first sample on.

        Raises
        ------
        LaunchError
            If no instance has opened the scene yet.
        """
        if (categories := self._categories_to_record()) is not None:
            return categories
        raise LaunchError(
            "the categories are known once an instance has opened the scene: after the first sample at the latest"
        )

    def _categories_to_record(self) -> dict[int, str] | None:
        for files in self._files():
            if (categories := files.read_report().categories) is not None:
                return categories
        return None

    def _begin_epoch(self, number: int) -> None:
        if self.repeat:
            self.close()
            self._epoch = number
            self._files()[0].ask_for_epoch(number)

    def _is_over(self) -> bool:
        # Workers that live on fetch ahead: one that is at an epoch that was broken off shall not wait for the rest of it.
        return self.repeat and self._files()[0].asked_epoch() > self._epoch

    def _open_receiver(self) -> Receiver:
        if not self.repeat:
            return super()._open_receiver()
        addresses = Addresses((epoch_address(each, self._epoch) for each in self.addresses), self._launch_folder())
        return self._make_receiver(addresses, self._epoch)

    def _content(self, frame: Frame) -> dict[str, Any]:
        return frame.data

    def _launch_folder(self) -> Path | None:
        return self.addresses.launch_folder if isinstance(self.addresses, Addresses) else None

    def _files(self) -> list[InstanceFiles]:
        folder = self._launch_folder()
        return [] if folder is None else [InstanceFiles(folder, number) for number in range(len(self.addresses))]


class Stream:
    """Runs Blender instances while its `with` block runs, and gives the dataset of their samples; made by `stream`."""

    def __init__(self, launcher: BlenderLauncher, make_dataset: Callable[[Addresses], SampleDataset]) -> None:
        self.launcher = launcher
        self._make_dataset = make_dataset
        self._dataset: SampleDataset | None = None

    @property
    def configuration(self) -> RunConfiguration:
        """What the instances are told, checked."""
        if self.launcher._run is None:
            raise LaunchError("this launcher runs a script")
        return self.launcher._run.configuration

    def __enter__(self) -> SampleDataset:
        """Start the instances."""
        self.launcher.__enter__()
        info = self.launcher.launch_info
        if info is None:
            raise LaunchError("the launcher has ended already")
        try:
            self._dataset = self._make_dataset(info.addresses["DATA"])
        except BaseException:
            self.launcher.__exit__(*sys.exc_info())
            raise
        return self._dataset

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """End the instances."""
        if self._dataset is not None:
            self._dataset.close()
        self.launcher.__exit__(kind, error, trace)


def stream(
    scene: str | PathLike[str] | None = None,
    *,
    unit: Unit | None = None,
    assets: Sequence[Mapping[str, Any]] = (),
    renderer: Entry | Sequence[Entry] = "workbench",
    annotators: Sequence[Entry] = (),
    randomizers: Sequence[Entry] = (),
    objects: Sequence[Mapping[str, Any]] = (),
    cameras: Sequence[str] = (),
    resolution: tuple[int, int] | None = None,
    distortion: Distortion | Mapping[str, float] | None = None,
    num_instances: int = 1,
    seed: int = 0,
    start: int = 0,
    count: int | None = None,
    epoch_size: int | None = None,
    epoch: Literal["continue", "repeat"] = "continue",
    frames_per_episode: int = 1,
    exclude: Iterable[int | range] = (),
    shard: Literal["auto"] | tuple[int, int] = "auto",
    blender: str | PathLike[str] | None = None,
    devices: Sequence[int | str] | None = None,
    plugins: Sequence[str | PathLike[str]] = (),
    item_transform: Callable[[dict[str, Any]], Any] | None = None,
    record_path_prefix: str | PathLike[str] | None = None,
    queue_size: int = DEFAULT_QUEUE_SIZE,
    timeoutms: int = DEFAULT_TIMEOUT_MS,
    enable_autoexec: bool = False,
    show_output: bool = False,
    restart: str | Mapping[str, Any] | RestartPolicy = "on-failure",
) -> Stream:
    """Stream samples of a scene, without a script.

    Parameters
    ----------
    scene : path, optional
        The .blend file. Default: Blender's factory scene.
    renderer : str, mapping or sequence of them
        What makes the pictures: 'workbench', 'eevee', 'cycles' or another one's name. A mapping has `name` and options. A
        second renderer puts its arrays under its own name.
    annotators : sequence of str or mapping
        What makes the labels: 'camera', 'boxes2d_loose', 'boxes3d', 'poses', 'keypoints' and others.
    randomizers : sequence of str or mapping
        What changes from sample to sample, in this order. `{"name": "pose", "as": "pose_of_lid", ...}` gives one another name,
        which its random numbers depend on.
    objects : sequence of mapping
        What gets labels: `{"match": "bracket*", "category": "bracket", "instance": "object"}`; `instance` is 'object', 'root'
        (with everything parented to it) or 'collection'. Default: what has custom properties `category_id` or `category_name`,
        else every mesh that a render shows.
    cameras : sequence of str
        Names of cameras; the arrays of the second and further ones lie under their names. Default: the scene's.
    resolution : tuple of int, optional
        Width and height in pixels. Default: the scene's.
    distortion : Distortion or mapping, optional
        Of the lens, the same for all cameras: `{"k1": -0.2, "k2": 0.05}`; OpenCV's k1, k2, p1, p2 and k3, each 0 by default.
        Pictures and all labels have it. Refused for orthographic cameras, and where the model gives some pixel no ray.
    num_instances : int
        Blender processes.
    seed : int
        The same seed gives the same samples, whatever the number of instances and workers.
    start : int
        Index of the first sample.
    count : int, optional
        Samples in total, over all ranks. Default: no end.
    epoch_size : int, optional
        Samples of one iteration, over all ranks. Default: until the stream ends.
    epoch : {'continue', 'repeat'}
        What the next iteration gives: the samples that follow, or the same ones again (`count` or `epoch_size` of them).
    frames_per_episode : int
        Consecutive frames of one simulated, randomized episode; a sample's index is
        `episode * frames_per_episode + frame`.
    exclude : iterable of int or range
        Indexes of samples that are not wanted again, as a run that goes on has them already. They count for `count`, and the
        others are the same as without it. Not with `epoch_size`, nor where an epoch is repeated. Every rank of a distributed
        training has to be given the same.
    shard : 'auto' or tuple of int
        Which part of the run this training process has, `(rank, world size)`. 'auto' asks torch.distributed.
    blender : path, optional
        Which Blender: a path, or the name of a private runtime such as '5.2'; see `blend_path` of `BlenderLauncher`.
    devices : sequence of int or str, optional
        GPUs for Cycles, dealt to the instances in turn: see `BlenderLauncher`.
    plugins : sequence of path
        Python files with plug-ins that are not packaged.
    item_transform, record_path_prefix, queue_size, timeoutms
        See `RemoteIterableDataset`.
    enable_autoexec, show_output
        See `BlenderLauncher`.
    restart : {'on-failure', 'never'} or RestartPolicy
        What happens when an instance fails, dies or hangs: it is started again, three times at most, and no sample is lost or
        comes twice; or the failure is raised at once. A mapping has the fields of `RestartPolicy`.

    Returns
    -------
    Stream
        A context manager: `with btt.stream(...) as dataset`.

    Raises
    ------
    ConfigurationError
        If something of this is wrong; what needs the scene to be known is raised while iterating, as `InstanceError`,
        before the first frame.
    LaunchError, BlenderNotFoundError
        As `BlenderLauncher`.
    RecordingError
        If there is a recording with this prefix already.

    Examples
    --------
    >>> from blendtorch import btt
    >>> with btt.stream(annotators=["keypoints"], resolution=(64, 48), count=2) as dataset:
    ...     for sample in dataset:
    ...         print(sample["meta"]["index"], sample["image"].shape, sample["keypoints"]["xy"].shape)
    0 (48, 64, 3) (1, 9, 2)
    1 (48, 64, 3) (1, 9, 2)
    """
    configuration = run_configuration(
        assets=_entries(assets, "assets"),
        renderers=[renderer] if isinstance(renderer, (str, Mapping)) else list(renderer),
        annotators=_entries(annotators, "annotators"),
        randomizers=_entries(randomizers, "randomizers"),
        objects=list(objects),
        cameras=_entries(cameras, "cameras"),
        resolution=resolution,
        distortion=distortion,
        seed=seed,
        start=start,
        count=count,
        frames_per_episode=frames_per_episode,
        repeat=_repeated(epoch, count, epoch_size),
        exclude=_excluded(exclude, epoch_size),
        plugins=[_existing(path) for path in plugins],
    )
    if record_path_prefix is not None:
        check_prefix(record_path_prefix)  # before a Blender starts
    configuration = msgspec.structs.replace(configuration, assets=resolve(configuration.assets))
    share = share_of(shard)
    epoch_items = epoch_size if epoch == "continue" else configuration.repeat
    _warn_of_uneven_shares(configuration, share, epoch_items or count)
    catalogue = Catalogue(configuration.plugins)
    try:
        compose(configuration, catalogue)
    except PluginError as error:  # what is not installed here may be there in that Blender, which says so if it is not
        logger.info("The instances will look for what is not here: %s", error)
    launcher = BlenderLauncher(
        scene=scene,
        unit=unit,
        num_instances=num_instances,
        named_sockets=["DATA"],
        blend_path=blender,
        seed=seed,
        enable_autoexec=enable_autoexec,
        show_output=show_output,
        run=RunSpec(configuration=configuration, share=share, installed=catalogue.claims()),
        restart=restart,
        devices=devices,
    )
    max_items = ENDLESS
    if epoch_items is not None:
        max_items = schedule.size(start, epoch_items, frames_per_episode, share.rank, share.world)

    def make_dataset(addresses: Addresses) -> SampleDataset:
        dataset = SampleDataset(addresses, queue_size, timeoutms, max_items, item_transform, record_path_prefix)
        dataset.repeat = configuration.repeat is not None
        return dataset

    return Stream(launcher, make_dataset)


def _repeated(epoch: str, count: int | None, epoch_size: int | None) -> int | None:
    if epoch not in ("continue", "repeat"):
        raise ConfigurationError(f"epoch is {epoch!r}: expected 'continue' or 'repeat'")
    if epoch == "continue":
        return None
    if (count is None) == (epoch_size is None):
        raise ConfigurationError("epoch='repeat' repeats a number of samples: give one of count and epoch_size")
    return count or epoch_size


def _excluded(indexes: Iterable[int | range], epoch_size: int | None) -> schedule.Ranges:
    try:
        ranges = schedule.ranges_of(indexes)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"exclude: expected indexes of samples, and ranges of them: {error}") from None
    if ranges and epoch_size is not None:
        raise ConfigurationError("exclude is for a run that goes on to its `count`: leave epoch_size out")
    return ranges


def _entries(values: Iterable[Any], name: str) -> list[Any]:
    if isinstance(values, (str, Mapping)):
        raise ConfigurationError(f"{name}: expected a list, got {values!r}: write [{values!r}]")
    return list(values)


def _existing(path: str | PathLike[str]) -> str:
    absolute = Path(path).expanduser().absolute()
    if not absolute.is_file():
        raise ConfigurationError(f"plugins: {str(path)!r} does not exist (looked for {absolute})")
    return str(absolute)


def _warn_of_uneven_shares(configuration: RunConfiguration, share: schedule.Share, count: int | None) -> None:
    if share.world == 1 or count is None:
        return
    start, frames = configuration.start, configuration.frames_per_episode
    exclude = configuration.exclude
    sizes = [schedule.size(start, count, frames, rank, share.world, exclude) for rank in range(share.world)]
    if min(sizes) < max(sizes):
        logger.warning(
            "%d samples give the %d ranks %d to %d: some will wait for others; a multiple of %d is fair",
            sum(sizes),
            share.world,
            min(sizes),
            max(sizes),
            share.world * frames,
        )
