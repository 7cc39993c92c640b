"""Launching Blender instances, watching them, and ending them with everything they started."""

import contextlib
import functools
import logging
import operator
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import numpy as np
from blendtorch.btt import processes
from blendtorch.btt.cpus import allowed_cpus
from blendtorch.btt.devices import VARIABLES, deal_devices
from blendtorch.btt.launch_addresses import (
    DEFAULT_START_PORT,
    make_addresses,
    make_launch_folder,
)
from blendtorch.btt.launch_info import Addresses, LaunchInfo
from blendtorch.btt.launch_watch import describe_end
from blendtorch.btt.runtimes import Runtime, find_runtime
from blendtorch.btt.supervision import RestartPolicy, Supervisor, restart_policy
from blendtorch.core.assets import METRES, Unit, check_format
from blendtorch.core.atomic import write_atomically
from blendtorch.core.errors import BlendtorchError, InstanceError, LaunchError
from blendtorch.core.launch import KEYS, InstanceFiles, InstanceSpec, RunSpec
from blendtorch.core.transport import Keys

logger = logging.getLogger("blendtorch")

_WATCH_S = 0.1
_KEPT = (".log", ".exit", ".report")  # of a launch that failed: for its user, and for consumers that look later
# Each sizes its pool by the machine's CPUs, in every instance: more threads than CPUs, and slower.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "LP_NUM_THREADS")


class BlenderLauncher:
    """Runs Blender instances while its `with` block runs.

    Parameters
    ----------
    scene : path or None
        The .blend file; or a mesh (.glb, .gltf, .obj, .ply, .stl, .fbx, .usd), which gets a ground, lamps and a camera.
        Empty or None for Blender's factory scene (never the user's startup file).
    script : path, optional
        The Python script that each instance runs. Either this or `run`.
    num_instances : int
    named_sockets : sequence of str
        One address each and per instance is chosen: the script finds its own in `parse_blendtorch_args().btsockets`,
        this side finds all in `launch_info.addresses`.
    start_port : int, optional
        First tcp port. Default 11000.
    bind_addr : str, optional
        The host that instances listen on, for tcp; 'primaryip' for this machine's address in its network. Default 127.0.0.1.
    instance_args : sequence of sequences of str, optional
        More arguments for the script of each instance.
    proto : {'ipc', 'tcp'}, optional
        Default: 'ipc', sockets in a private folder; 'tcp' where `start_port` or `bind_addr` is given.
    blend_path : path, optional
        Which Blender: an executable, a Python that has the bpy module, a folder to look in, or the name of a private runtime
        such as '5.2' (made by `blendtorch runtime add 5.2`). Default: the environment variable BLENDTORCH_BLENDER, read in the
        same way; this Python, if it has bpy; the private runtime that was added last; `blender` on PATH.
    seed : int, optional
        Instance i seeds `random` and `numpy.random` with seed + i before its script starts. Default: a random one.
    background : bool
        Without a window. False needs a blender executable and a display.
    enable_autoexec : bool
        Let scripts inside the .blend run. They can do what you can.
    show_output : bool
        Let the instances write to this terminal instead of to their log files.
    unit : {'m', 'cm', 'mm', 'in'}, optional
        Of the numbers in a mesh. Default: metres, or what its format says itself.
    run : RunSpec, optional
        A run of plug-ins in place of a script, published on the socket DATA: what `btt.stream` launches.
    restart : {'never', 'on-failure'} or RestartPolicy
        Whether an instance that fails, dies or hangs is started again. A script has to draw its random numbers from `btb.rng`
        for that.
    devices : sequence of int or str, optional
        GPUs, dealt to the instances in turn: instance i gets `devices[i % len(devices)]`, and sees no other. Numbers as torch
        counts them in this process, or UUIDs. They are passed as CUDA_VISIBLE_DEVICES and HIP_VISIBLE_DEVICES, which is for
        Cycles and whatever else computes by CUDA, OptiX or HIP. What draws by OpenGL (Workbench, EEVEE, labels of pixels) knows
        neither: Blender takes the GPU that EGL gives it, the same one in all instances. To spread that, start one
        launch for each GPU in a container that has this GPU alone. Default: each instance sees what this process sees.

    Attributes
    ----------
    launch_info : LaunchInfo or None
        Addresses, commands, processes and logs, inside the `with` block.

    Raises
    ------
    LaunchError
        If an argument is wrong, or the scene or the script does not exist.
    BlenderNotFoundError
        If there is no Blender to launch; says what was tried.
    AddressError
        On entering the block: if a port is in use.
    """

    def __init__(
        self,
        scene: str | PathLike[str] | None,
        script: str | PathLike[str] | None = None,
        num_instances: int = 1,
        named_sockets: Sequence[str] | None = None,
        start_port: int | None = None,
        bind_addr: str | None = None,
        instance_args: Sequence[Sequence[str]] | None = None,
        proto: str | None = None,
        blend_path: str | PathLike[str] | None = None,
        seed: int | None = None,
        background: bool = True,
        enable_autoexec: bool = False,
        show_output: bool = False,
        unit: Unit | None = None,
        run: RunSpec | None = None,
        restart: str | Mapping[str, Any] | RestartPolicy = "never",
        devices: Sequence[int | str] | None = None,
    ) -> None:
        if num_instances < 1:
            raise LaunchError(f"num_instances is {num_instances}: expected 1 or more")
        if instance_args is not None and len(instance_args) != num_instances:
            raise LaunchError(f"instance_args has {len(instance_args)} entries for {num_instances} instances")
        self._scene = _existing(scene, "scene") if scene and str(scene) else ""
        self._unit = _unit_of(self._scene, unit)
        if (script is None) == (run is None):
            raise LaunchError("an instance runs either a script or a run of plug-ins: give one of `script` and `run`")
        self._script = "" if script is None else _existing(script, "script")
        self._run = run
        self._policy = restart_policy(restart)
        self._devices = deal_devices(devices, num_instances)
        self._num_instances = num_instances
        self._named_sockets = list(named_sockets or [])
        self._proto = proto or ("ipc" if start_port is None and bind_addr is None else "tcp")
        self._bind_addr = bind_addr or "127.0.0.1"
        self._start_port = DEFAULT_START_PORT if start_port is None else start_port
        self._instance_args = [[str(arg) for arg in args] for args in instance_args or [()] * num_instances]
        self._seed = int(np.random.default_rng().integers(2**31 - num_instances)) if seed is None else operator.index(seed)
        self._background = background
        self._enable_autoexec = enable_autoexec
        self._show_output = show_output
        if not background and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            raise LaunchError("background=False opens a window, and there is no display: leave it out, or run under xvfb-run")
        self._runtime: Runtime = find_runtime(blend_path, background)
        self.launch_info: LaunchInfo | None = None
        self._files: list[InstanceFiles] = []
        self._supervisors: list[Supervisor] = []
        self._guard: subprocess.Popen[bytes] | None = None
        self._leaving = threading.Event()
        self._looking = threading.Lock()
        self._watcher: threading.Thread | None = None
        self._said: set[str] = set()

    def __enter__(self) -> Self:
        """Start the instances."""
        if self.launch_info is not None:
            raise LaunchError("this launcher is running already: make another one")
        folder = make_launch_folder()
        self.launch_info = LaunchInfo({}, [], [], launch_folder=folder)
        self._leaving.clear()
        try:
            self._start(folder, self.launch_info)
        except BaseException:
            self._end()
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """End the instances and everything they started."""
        folder = self._running().launch_folder
        self._stop_watching()
        with contextlib.suppress(OSError):  # a full disk shall not keep the instances alive
            self._look()
        self._pass_on()
        failed = [files for files in self._files if _has_failed(files)]
        self._end()
        if folder is None:
            return
        if not failed and not isinstance(error, BlendtorchError):
            shutil.rmtree(folder, ignore_errors=True)
            return
        for path in folder.iterdir():
            if path.suffix not in _KEPT:
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        logger.warning("Logs are kept: %s", ", ".join(str(files.log) for files in failed or self._files))

    def assert_alive(self) -> None:
        """Raise if an instance is not running any more; one that is being started again counts as running.

        Raises
        ------
        InstanceError
            Which one, and what is known of its end.
        """
        self._running()
        self._look()
        for supervisor in self._supervisors:
            if supervisor.ended:
                raise InstanceError(describe_end(supervisor.files))

    def wait(self) -> None:
        """Wait until every instance has ended by itself.

        Raises
        ------
        InstanceError
            If one of them failed.
        """
        while True:
            self._running()
            self._look()
            if failed := [files for files in self._files if files.read_exit_code()]:
                raise InstanceError(describe_end(failed[0]))
            if all(supervisor.ended for supervisor in self._supervisors):
                return
            self._leaving.wait(_WATCH_S)

    def _running(self) -> LaunchInfo:
        if self.launch_info is None:
            raise LaunchError("this launcher is not running: use it in a `with` block")
        return self.launch_info

    def _start(self, folder: Path, info: LaunchInfo) -> None:
        addresses = make_addresses(
            self._named_sockets, self._num_instances, folder, self._proto, self._bind_addr, self._start_port
        )
        if self._proto == "tcp":
            Keys.make().save(folder / KEYS)
        info.addresses = {name: Addresses(values, folder) for name, values in addresses.items()}
        self._files = [InstanceFiles(folder, number) for number in range(self._num_instances)]
        info.logs = [files.log for files in self._files]
        info.devices = self._devices
        threads = max(1, allowed_cpus() // self._num_instances)
        environment = self._environment(folder, threads)
        self._guard = subprocess.Popen(
            [sys.executable, processes.__file__, str(os.getpid()), str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._supervisors = []
        for files in self._files:
            device = dict.fromkeys(VARIABLES, self._devices[files.number]) if self._devices else {}
            start = functools.partial(self._start_instance, files, info, environment | device)
            self._supervisors.append(Supervisor(self._spec(files.number, addresses, threads), files, self._policy, start))
        self._watcher = threading.Thread(target=self._watch, name="blendtorch-watch", daemon=True)
        self._watcher.start()

    def _spec(self, number: int, addresses: dict[str, list[str]], threads: int) -> InstanceSpec:
        sockets = [f"{name}={values[number]}" for name, values in addresses.items()]
        seed, run, policy = self._seed + number, self._run, self._policy
        if run is not None:
            share = msgspec.structs.replace(run.share, instance=number, instances=self._num_instances)
            run = msgspec.structs.replace(run, share=share)
        return InstanceSpec(
            btid=number,
            seed=seed,
            script=self._script,
            scene=self._scene,
            unit=self._unit,
            opens_scene=self._background,
            # The sockets come first: what follows them ends their list, whatever the user's arguments look like.
            arguments=["-btsockets", *sockets, "-btid", str(number), "-btseed", str(seed), *self._instance_args[number]],
            threads=threads,
            autoexec=self._enable_autoexec,
            launcher_pid=os.getpid(),
            run=run,
            restartable=policy.restartable,
            recycle_after=policy.recycle_after,
            memory_limit_mb=policy.memory_limit_mb,
        )

    def _environment(self, folder: Path, threads: int) -> dict[str, str]:
        temporary = folder / "tmp"  # Blender makes a folder in it, and leaves it when it is ended
        temporary.mkdir()
        shares = dict.fromkeys(_THREAD_VARIABLES, str(threads))
        environment = {**shares, **os.environ, "PYTHONUNBUFFERED": "1", "TMPDIR": str(temporary)}
        if lent := self._runtime.lend(folder / "python"):
            environment["PYTHONPATH"] = os.pathsep.join([str(lent), *filter(None, [os.environ.get("PYTHONPATH")])])
        return environment

    def _start_instance(
        self, files: InstanceFiles, info: LaunchInfo, environment: dict[str, str], spec: InstanceSpec
    ) -> "subprocess.Popen[bytes]":
        write_atomically(files.spec, msgspec.json.format(msgspec.json.encode(spec)))
        command = self._runtime.command(spec, files.spec)
        with files.log.open("ab") as log:
            output = None if self._show_output else log
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                start_new_session=True,  # a process group to end as a whole, and no Ctrl-C from this terminal
            )
        processes.note_process(files.process, process.pid)
        place = slice(files.number, files.number + 1)  # of its process before, where there was one
        info.commands[place] = [command]
        if info.processes is not None:
            info.processes[place] = [process]
        logger.info("Started instance %d: %s", files.number, " ".join(command))
        return process

    def _watch(self) -> None:
        """Look after the instances, for consumers in other processes, too; pass on what the instances have to say."""
        while not self._leaving.wait(_WATCH_S):
            with contextlib.suppress(OSError):  # a full disk: the next round tries again
                self._look()
            self._pass_on()

    def _pass_on(self) -> None:
        for files in self._files:
            report = files.read_report()
            for text in (*report.summary, *report.notices):
                if text in self._said:  # each instance has the same to say
                    continue
                self._said.add(text)
                if text in report.notices:
                    logger.warning("%s", text)
                else:
                    print(text, file=sys.stderr, flush=True)

    def _look(self) -> None:
        with self._looking:  # the watching thread, and who asks
            for supervisor in self._supervisors:
                supervisor.look(may_restart=not self._leaving.is_set())

    def _stop_watching(self) -> None:
        with self._looking:  # from here on nobody starts an instance
            self._leaving.set()
        if self._watcher is not None:
            self._watcher.join()
            self._watcher = None

    def _end(self) -> None:
        self._stop_watching()
        running = (self.launch_info and self.launch_info.processes) or []
        # Of those that have ended the numbers may belong to others by now.
        processes.end_trees([process.pid for process in running if process.poll() is None])
        for process in running:
            process.wait()
        if self._guard is not None:
            self._guard.kill()
            self._guard.wait()
            self._guard = None
        self.launch_info = None


def _has_failed(files: InstanceFiles) -> bool:
    return bool(files.read_exit_code() or files.read_report().error or files.read_restarts().failures)


def _unit_of(scene: str, unit: Unit | None) -> Unit:
    """Check the unit of a scene, and the format of a scene that is no .blend."""
    if scene and not Path(scene).suffix.lower().startswith(".blend"):
        check_format(Path(scene), "scene")
    elif unit is not None:
        raise LaunchError(f"unit is {unit!r}, and the scene is no mesh: a .blend file has its units itself")
    if unit is not None and unit not in METRES:
        raise LaunchError(f"unit is {unit!r}: expected one of {', '.join(METRES)}")
    return unit or "m"


def _existing(path: str | PathLike[str], what: str) -> str:
    absolute = Path(path).expanduser().absolute()
    if not absolute.is_file():
        raise LaunchError(f"{what} {str(path)!r} does not exist (looked for {absolute})")
    return str(absolute)
