"""How far a run of Blender instances is, and what each of them does."""

import re
from pathlib import Path
from typing import Literal

import msgspec
from blendtorch.btt.dataset import RemoteIterableDataset
from blendtorch.btt.generation.progress import Counter, Snapshot
from blendtorch.core.launch import InstanceFiles

State = Literal["starting", "running", "starting again", "ended", "failed"]

_DEVICE = re.compile(r"Renderer (\S+) renders on: (.*)")
_BOTTLENECK = {"Blender": "Blender renders as fast as it can", "trainer": "writing is slower than rendering: more --workers"}


class InstanceView(msgspec.Struct, frozen=True, kw_only=True):
    """What one Blender does.

    Attributes
    ----------
    number : int
    state : str
    device : str
        What it renders on, as its renderer says; empty before the first picture.
    images : int
        That came from it.
    restarts : int
        After it had failed, died or hung.
    """

    number: int
    state: State
    device: str
    images: int
    restarts: int


class RunSnapshot(Snapshot, frozen=True, kw_only=True):
    """How far a run is.

    Attributes
    ----------
    instances : tuple of InstanceView
    """

    instances: tuple[InstanceView, ...]

    def __str__(self) -> str:
        text = self.head()
        for each in self.instances:
            device = f" on {each.device}" if each.device else ""
            text += f"; instance {each.number} {each.state}{device}" + (f", {each.restarts} restarts" if each.restarts else "")
        return text + (f"; {self.bottleneck}" if self.bottleneck else "")

    def rows(self) -> list[tuple[str, ...]]:
        """Describe each instance."""
        return [
            (
                f"  instance {each.number}",
                each.state,
                f"{each.images} images",
                each.device,
                f"{each.restarts} restarts" if each.restarts else "",
            )
            for each in self.instances
        ]


class Observer(Counter[RunSnapshot]):
    """Makes snapshots of a run.

    Parameters
    ----------
    dataset : RemoteIterableDataset
    launch_folder : Path
    total, before : int
        Samples of the run, and those of them that were there before it.
    """

    def __init__(self, dataset: RemoteIterableDataset, launch_folder: Path, total: int, before: int) -> None:
        super().__init__(total, before, "images")
        self._dataset = dataset
        self._files = [InstanceFiles(launch_folder, number) for number in range(len(dataset.addresses))]
        self._bottleneck = ""
        self._restarts = [0] * len(self._files)
        self._images_before = [0] * len(self._files)  # when it was started last

    def look(self) -> RunSnapshot:
        """Look."""
        counted = self.counted()
        stats = self._dataset.stats()
        if counted.done < counted.total:  # in the end Blender waits until all has arrived
            self._bottleneck = _BOTTLENECK.get(stats.bottleneck or "", "")
        pairs = zip(self._files, stats.instances, strict=True)
        return RunSnapshot(
            **{**msgspec.structs.asdict(counted), "bottleneck": self._bottleneck},
            instances=tuple(self._view(number, files, each.frames) for number, (files, each) in enumerate(pairs)),
        )

    def _view(self, number: int, files: InstanceFiles, images: int) -> InstanceView:
        report, restarts, code = files.read_report(), files.read_restarts(), files.read_exit_code()
        if (again := restarts.failures + restarts.recycled) != self._restarts[number]:
            self._restarts[number], self._images_before[number] = again, images
        state: State = "running"
        if code is not None:
            state = "failed" if code else "ended"
        elif images == self._images_before[number]:
            state = "starting again" if again else "starting"
        devices = [match[2] for match in map(_DEVICE.match, report.summary) if match]
        return InstanceView(
            number=number,
            state=state,
            device=", ".join(dict.fromkeys(devices)),
            images=images,
            restarts=restarts.failures,
        )
