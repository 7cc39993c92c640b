"""A configuration to start from: commented YAML whose numbers fit the models."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from blendtorch.btt.configuration import parse_yaml
from blendtorch.btt.generation.arguments import check_arguments
from blendtorch.btt.generation.subject import Models, Subject
from blendtorch.core.composition import compose
from blendtorch.core.configuration import Entry, entries, run_configuration
from blendtorch.core.discovery import Catalogue, Kind
from blendtorch.core.errors import ConfigurationError, PluginError
from blendtorch.core.inspection import Survey

COUNT = 100  # samples, where nobody says how many
_COPIES = 8  # of all models together, at most, in a picture
_RENDERERS = {
    "cycles": """\
        name: cycles
        samples: 16         # paths per pixel: more have less noise and take longer
        denoiser: auto      # removes the rest of the noise; off for none
        device: auto        # a GPU where there is one; cpu, gpu, cuda, optix, hip ...
        """,
    "eevee": "name: eevee",
    "workbench": "name: workbench     # fast, for a look: it shows neither lamps nor surfaces",
}
_LABELS = (  # name, what it is, whether it is on
    ("camera", "matrix of the camera and where it stands", True),
    ("poses", "pose of each object in the frame of the camera", True),
    ("boxes2d_tight", "boxes around what is seen of each object, pixels", True),
    ("boxes2d_loose", "boxes around the projected corners of each object, pixels", False),
    ("boxes2d_amodal", "boxes around each object as if nothing stood before it, pixels", False),
    ("boxes3d", "box of each object in space", True),
    ("keypoints", "the corners of that box in the picture, or empties of the model where it has some", True),
    ("instance_ids", "which object each pixel shows: a mask for each", True),
    ("masks_amodal", "mask of each object as if nothing stood before it", False),
    ("category_ids", "which category each pixel shows", False),
    ("visibility", "how much of each object is seen, 0 to 1", True),
    ("depth", "depth of each pixel along the axis of the camera, metres", True),
    ("normals", "direction of the surface in each pixel", False),
    ("object_coordinates", "which place of its object each pixel shows", False),
    ("flow", "where each pixel was one frame before; for frames_per_episode over 1", False),
)


Range = tuple[float, float]


@dataclass(frozen=True)
class Preset:
    """A configuration to start from.

    Attributes
    ----------
    text : str
        YAML with comments.
    notices : tuple of str
        What the user should know.
    """

    text: str
    notices: tuple[str, ...] = ()

    @property
    def arguments(self) -> dict[str, Any]:
        """What it says, as arguments of `btt.stream`."""
        return check_arguments(parse_yaml(self.text, "the preset"), "the preset")


@dataclass(frozen=True)
class _Block:
    """An entry of `randomizers`: what it is for, its YAML, and why it is switched off."""

    comment: str
    text: str
    off: str = ""


def make_preset(
    subject: Subject, renderer: Entry | None = None, name: str = "blendtorch.yaml", annotators: Sequence[Entry] = ()
) -> Preset:
    """Write a configuration for models or a scene.

    Parameters
    ----------
    subject : Subject
    renderer : str or mapping, optional
        Default: Cycles with few paths per pixel and its denoiser, where it is installed. What it does not show is switched off.
    name : str
        Of the file that it will be, for the comments.
    annotators : sequence of str or mapping
        That are to be on besides the usual ones, or with options.

    Raises
    ------
    ConfigurationError, PluginError
        If there is no such renderer.
    """
    catalogue = Catalogue()
    notices = list(subject.notices)
    if renderer is None:
        chosen = "cycles" if _has(catalogue, "renderer", "cycles") else "eevee"
        if chosen == "eevee":
            notices.append("Cycles is not installed here, so that EEVEE renders: pip install blendtorch-cycles")
        renderer_text = textwrap.dedent(_RENDERERS[chosen])
    else:
        renderer_text = (
            _RENDERERS.get(renderer, yaml.safe_dump({"name": renderer})) if isinstance(renderer, str) else _dumped(renderer)
        )
    blocks, hidden = _visible(list(_randomizers(subject, catalogue)), parse_yaml(renderer_text, "renderer"), catalogue)
    if hidden:
        notices.append(f"{', '.join(hidden)} of the preset: left out, for {_name(renderer)} does not show what they change")
    if subject.scene and not any("name: camera_shell" in block.text and not block.off for block in blocks):
        notices.append(
            f"The camera of {subject.scene} stays where it is: `blendtorch init {subject.scene}` says why, and what may change"
        )
    parts = [
        _head(name),
        *_subject(subject),
        _of("renderer", renderer_text),
        _list("randomizers", blocks),
        _labels(catalogue, annotators),
    ]
    return Preset("\n".join([*parts, _numbers()]), tuple(notices))


def _head(name: str) -> str:
    return f"""\
# A run of blendtorch. Look at what it makes, change it, look again, then make samples:
#
#     blendtorch generate --config {name} --preview 16
#     blendtorch generate --config {name} --count 1000 -o data
#
# The keys are the arguments of btt.stream. Relative paths count from the folder in which you run the command. Lengths are in
# metres, angles in degrees, colours are red, green and blue from 0 to 1, linear. What varies is drawn anew for each sample:
#
#     {{draw: uniform, low: 1, high: 2}}     and log_uniform, normal (mean, std), integer, choice (values); a number stays
#
# `blendtorch plugins --verbose` lists what there is to render, to change and to label, with all options.
"""


def _subject(subject: Subject) -> Iterator[str]:
    if subject.scene:
        yield f"scene: {_quoted(subject.scene)}\n"
        yield textwrap.dedent("""\
            # What gets labels, by the names of objects. Without it: what has a custom property category_name, else every mesh.
            # objects:
            #   - match: bracket*        # a name, with * and ?
            #     category: bracket
            """)
        return
    yield "# The models, each picture has some copies of them.\nassets:"
    each = max(1, _COPIES // len(subject.models))
    for entry in subject.models:
        sizes = "\n".join(f"  # {Path(size.file).name} is {_by(size.dimensions)} m" for size in entry.sizes[:20])
        more = f"\n  # ... and {len(entry.sizes) - 20} more models" if len(entry.sizes) > 20 else ""
        name = "{name} is that of the file, without its ending" if "{name}" in entry.category else "what it is labelled as"
        yield f"""\
{sizes}{more}
  - files: {_quoted(entry.files)}
    category: {_quoted(entry.category)}     # {name}
    count: [1, {each}]     # copies in a picture: the least and the most
    unit: {entry.unit}     # of the numbers in the file: m, cm, mm or in. Are the sizes above wrong? Then run init again with
    # --unit: all lengths below follow them"""
    yield """\
  # Distractors: whatever else may lie there. Without a category they get no labels.
  # - files: distractors/*.glb
  #   count: [0, 10]
"""


def _randomizers(subject: Subject, catalogue: Catalogue) -> Iterator[_Block]:
    if subject.models:
        yield from _placing(subject.models)
    else:
        yield from _around(subject.survey or Survey(objects=0))
    yield _Block(
        "Light: each lamp shines with half to twice its power.",
        "name: lights\nenergy: {draw: log_uniform, low: 0.5, high: 2}\nrelative: true     # false: energy is in watts",
        subject.survey.lamps_fixed if subject.survey else "",
    )
    yield _Block(
        "What surrounds everything, seen and shining.",
        "name: world\ncolor: {draw: uniform, low: [0.1, 0.1, 0.1], high: [0.8, 0.8, 0.8]}",
        "" if subject.models else "it takes the place of the world of your scene",
    )
    yield _Block(
        "Or: environment images (HDRI) around everything.",
        "name: world\nas: environment\nfolder: hdris     # of .hdr or .exr files\n"
        "rotation_deg: {draw: uniform, low: 0, high: 360}",
        "needs a folder of images",
    )
    yield _Block("Or: photographs behind everything.", "name: backdrop\nfolder: photographs", "needs a folder of images")
    yield _Block(
        "Colours of the models. Where you know the material, give its colour: base_color: [0.6, 0.6, 0.62]",
        "name: material\nbase_color: {draw: uniform, low: [0.02, 0.02, 0.02], high: [0.9, 0.9, 0.9]}\n"
        "# roughness: {draw: uniform, low: 0.2, high: 0.8}     # 0 a mirror, 1 chalk\n"
        "# metallic: {draw: choice, values: [0, 1]}",
        "" if subject.models and not any(each.colored for each in subject.models) else "the models keep their own",
    )
    if _has(catalogue, "randomizer", "sensor"):
        yield _Block(
            "What a real camera adds to a picture: noise, blur and the like.",
            "name: sensor     # with its defaults: a good camera",
        )


def _placing(models: tuple[Models, ...]) -> Iterator[_Block]:
    """Fit places and distances to the largest model, and to how many there may be."""
    radius = max(each.radius for each in models)
    copies = max(1, _COPIES // len(models)) * len(models)
    spread = radius * max(1.5, 1.5 * copies**0.5)
    low, high = [-spread, -spread, 1.2 * radius], [spread, spread, 6 * radius]
    yield _Block(
        "They fall from a random place in a box, and lie as physics lets them. Without it they stand upright, side by side.",
        f"name: physics_drop\nlow: {_vector(low)}     # the box: x, y and the height over the ground\nhigh: {_vector(high)}\n"
        "ground: Ground     # that of the scene which models get\npreroll: 48     # frames of 1/24 s to fall in",
    )
    yield _Block(
        "Or: they float in that box, turned to any side.",
        f"name: scatter\nlow: {_vector(low)}\nhigh: {_vector(high)}",
        "instead of physics_drop",
    )
    seen = radius + 0.6 * spread
    yield _Block(
        "The camera stands on a sphere around them, and looks at their middle.",
        _shell((2.2 * seen, 4 * seen), (20, 80), (0, 360)),
    )


def _around(survey: Survey) -> Iterator[_Block]:
    """Let the camera of a scene move around where it is."""
    off = survey.camera_fixed or ("" if survey.objects else "nothing in your scene gets labels, and it looks at what does")
    distance, elevation, azimuth = survey.distance or 5.0, survey.elevation_deg, survey.azimuth_deg
    yield _Block(
        "The camera moves around where it is in your scene, and looks at the middle of what gets labels.",
        _shell(
            (0.8 * distance, 1.25 * distance),
            (max(-85.0, elevation - 15), min(85.0, elevation + 15)),
            (azimuth - 30, azimuth + 30),
        ),
        off,
    )
    yield _Block(
        "What gets labels turns to any side.",
        "name: pose\n# objects: bracket*\nuniform_rotation: true",
        "is there something that may turn?",
    )


def _shell(distance: Range, elevation: Range, azimuth: Range) -> str:
    return (
        f"name: camera_shell\ndistance: {{draw: uniform, low: {distance[0]:.3g}, high: {distance[1]:.3g}}}\n"
        f"elevation_deg: {{draw: uniform, low: {elevation[0]:.0f}, high: {elevation[1]:.0f}}}     # 0 level with it, 90 above\n"
        f"azimuth_deg: {{draw: uniform, low: {azimuth[0]:.0f}, high: {azimuth[1]:.0f}}}     # 0 towards x, 90 towards y"
    )


def _visible(blocks: list[_Block], renderer: Any, catalogue: Catalogue) -> tuple[list[_Block], list[str]]:
    """Switch off what a renderer does not show; returns also the names of these."""
    compose(run_configuration(renderers=[renderer]), catalogue)  # whatever is wrong with it is said as such
    found, hidden = [], []
    for block in blocks:
        entry = parse_yaml(block.text, "the preset")
        reason = block.off
        if not reason:
            try:
                compose(run_configuration(renderers=[renderer], randomizers=[entry]), catalogue)
            except PluginError:
                reason = "not installed"
            except ConfigurationError:
                reason = f"{_name(renderer)} does not show it"
                hidden.append(entries([entry], "randomizers")[0].label)
        found.append(_Block(block.comment, block.text, reason))
    return found, hidden


def _list(name: str, blocks: list[_Block]) -> str:
    none = "" if any(not each.off for each in blocks) else " []     # none so far: take the brackets off with the first one"
    lines = ["# What changes from sample to sample, in this order.", f"{name}:{none}"]
    for block in blocks:
        first, *rest = block.text.splitlines()
        entry = [f"- {first}", *(f"  {line}" for line in rest)]
        reason = f" (off: {block.off})" if block.off else ""
        lines.append(f"  # {block.comment}{reason}")
        lines += [f"  # {line}" if block.off else f"  {line}" for line in entry]
    return "\n".join(lines) + "\n"


def _labels(catalogue: Catalogue, annotators: Sequence[Entry]) -> str:
    lines = ["# What is labelled. Fewer labels render faster.", "annotators:"]
    tight = _has(catalogue, "annotator", "boxes2d_tight")
    asked = {entry if isinstance(entry, str) else entry["name"]: entry for entry in annotators}
    for name, what, usual in _LABELS:
        there = _has(catalogue, "annotator", name)
        wanted = there and (usual or name in asked or (name == "boxes2d_loose" and not tight))
        missing = "" if there else " (pip install blendtorch-gbuffer)"
        entry = yaml.safe_dump(asked.get(name, name), default_flow_style=True, sort_keys=False).partition("\n")[0]
        lines.append(f"  {'' if wanted else '# '}- {entry:20} # {what}{missing}")
    return "\n".join(lines) + "\n"


def _numbers() -> str:
    return f"""\
resolution: [640, 480]     # width and height of the pictures, pixels
# distortion: {{k1: -0.2, k2: 0.05}}     # of the lens: k1, k2, p1, p2, k3 as OpenCV's calibration gives them
count: {COUNT}                 # samples
seed: 0                    # the same seed gives the same samples; another gives others
frames_per_episode: 1      # over 1: so many consecutive frames of each scene, for video
num_instances: 1           # Blender processes; on a CPU one has all cores
"""


def _of(key: str, text: str) -> str:
    return (
        f"# What makes the pictures: cycles (realistic), eevee (needs a GPU to be fast), workbench (a look).\n{key}:\n"
        + textwrap.indent(textwrap.dedent(text).rstrip(), "  ")
        + "\n"
    )


def _has(catalogue: Catalogue, kind: Kind, name: str) -> bool:
    try:
        catalogue.find(kind, name)
    except PluginError:
        return False
    return True


def _name(renderer: Any) -> str:
    return str(renderer["name"] if isinstance(renderer, Mapping) and "name" in renderer else renderer)


def _dumped(value: Any) -> str:
    return yaml.safe_dump(value, sort_keys=False)


def _quoted(text: str) -> str:
    """Write text for YAML, in quotes where it needs them."""
    return yaml.safe_dump(text, default_flow_style=True, width=10_000).removesuffix("\n...\n").strip()


def _by(dimensions: tuple[float, float, float]) -> str:
    return " x ".join(f"{side:.3g}" for side in dimensions)


def _vector(values: list[float]) -> str:
    return f"[{', '.join(f'{value:.3g}' for value in values)}]"
