"""README.md: the card of the data set, which `datasets` and the hub read.

What the user writes stays: other fields of the YAML, such as the licence, and the text outside of the marks.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from blendtorch.core.errors import ConfigurationError
from blendtorch.core.shards import Tally

NAME = "README.md"
_BEGIN, _END = "<!-- blendtorch begins: written anew with each run -->", "<!-- blendtorch ends -->"
_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))
# Tasks, as the hub calls them, by what of a picture it takes.
_TASKS = {
    "object-detection": ("bbox",),
    "image-segmentation": ("instance_ids",),
    "keypoint-detection": ("keypoints_xy",),
    "depth-estimation": ("depth", "distance"),
}

# What is to be known of a column, where it is there.
_CONVENTIONS = {
    "bbox": "- Boxes `bbox` are x, y, width, height in pixels, from the picture's corner; `ignored` says why `iscrowd` is 1.",
    "instance_ids": "- `instance_ids` has the `id` of the object that each pixel shows, 0 for background.",
    "depth": "- `depth` is along the axis of the camera, in units of the scene, and infinite for background.",
    "camera_K": "- `camera_K` counts from the corner of the picture: the centre of the first pixel is 0.5, 0.5.",
    "poses_camera_from_object": "- Poses lead from the object's frame into the camera's: x right, y down, z forward.",
    "keypoints_state": "- `keypoints_state` is 0 for not labelled, 1 for hidden, 2 for visible.",
}


def is_own(path: Path) -> bool:
    """Whether there is a card that was written here."""
    return path.is_file() and _BEGIN in path.read_text(encoding="utf-8", errors="replace")


@dataclass(frozen=True)
class Names:
    """What is called how.

    Attributes
    ----------
    classes : sequence of str
        In the order of their numbers.
    keypoints : sequence of str
    """

    classes: Sequence[str]
    keypoints: Sequence[str]


def card(before: str | None, title: str, features: Any, files: Mapping[str, Sequence[Path]], tally: Tally, names: Names) -> str:
    """Write the card, or write it anew.

    Parameters
    ----------
    before : str or None
        The one that is there.
    title : str
        Of a new one.
    features : datasets.Features
    files : mapping of str to sequence of Path
        The files of each part.
    tally : dict
        What was counted.
    names : Names

    Raises
    ------
    ConfigurationError
        If the one that is there has no YAML that can be read.
    """
    import yaml
    from datasets import DatasetInfo
    from datasets.info import DatasetInfosDict
    from datasets.splits import SplitDict, SplitInfo
    from huggingface_hub import DatasetCard

    if before is None:
        before = f"---\npretty_name: {msgspec.json.encode(title).decode()}\n---\n\n# {title}\n\n{_BEGIN}\n{_END}\n"
    try:
        made = DatasetCard(before)
    except (ValueError, yaml.YAMLError) as error:
        raise ConfigurationError(
            f"{NAME} cannot be read: {' '.join(str(error).split())}. Mend what is between its first lines of ---, or remove it"
        ) from None
    sizes = {part: sum(path.stat().st_size for path in paths) for part, paths in files.items()}
    splits = SplitDict(
        {part: SplitInfo(part, num_bytes=size, num_examples=tally["rows"][part]) for part, size in sizes.items()}
    )
    total = sum(sizes.values())
    info = DatasetInfo(features=features, splits=splits, download_size=total, dataset_size=total)
    DatasetInfosDict({"default": info}).to_dataset_card_data(made.data)
    made.data["configs"] = [
        {"config_name": "default", "data_files": [{"split": part, "path": f"data/{part}-*"} for part in files]}
    ]
    columns = {*features, *features.get("objects", {})}
    made.data["task_categories"] = [task for task, either in _TASKS.items() if columns.intersection(either)]
    count = sum(tally["rows"].values())
    made.data["size_categories"] = [next((name for limit, name in _SIZES if count < limit), "n>10M")]
    made.data["tags"] = list(dict.fromkeys([*(made.data.get("tags") or ()), "synthetic", "blender", "blendtorch"]))
    head, _, rest = made.text.partition(_BEGIN)
    _, _, tail = rest.partition(_END)
    made.text = f"{head}{_BEGIN}\n{_body(columns, files, tally, names)}\n{_END}{tail}"
    return str(made)


def _body(columns: Collection[str], files: Mapping[str, Sequence[Path]], tally: Tally, names: Names) -> str:
    lines = [
        f"Rendered by blendtorch with the seed {', '.join(tally['seed'])}: pictures and labels come from known scenes.",
        "",
        "| part | pictures | files |",
        "|---|---:|---:|",
        *(f"| {part} | {tally['rows'][part]} | {len(paths)} |" for part, paths in files.items()),
    ]
    if "bbox" in columns:
        counts = tally.get("objects", {})
        lines += ["", "| class | objects |", "|---|---:|"]
        lines += [f"| {name} | {counts.get(str(place), 0)} |" for place, name in enumerate(names.classes)]
    lines += ["", *(text for column, text in _CONVENTIONS.items() if column in columns)]
    if names.keypoints and "keypoints_xy" in columns:
        lines += [f"- Keypoints are {', '.join(names.keypoints)}."]
    for name, what in (("ignored", "objects have `iscrowd` 1"), ("left_out", "objects are not listed")):
        lines += [f"- {number} {what}: {reason}." for reason, number in sorted(tally.get(name, {}).items())]
    made_by = [msgspec.json.decode(text, type=dict[str, str]) for text in sorted(tally["versions"])]
    lines += [f"- Made by {', '.join(f'{name} {version}' for name, version in each.items())}." for each in made_by]
    return "\n".join(lines)
