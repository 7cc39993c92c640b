"""Batches of samples."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from blendtorch.core.errors import ConfigurationError
from torch.utils.data import default_collate


def collate(samples: Sequence[Any]) -> Any:
    """Make a batch, and keep as lists what has another shape in each sample: `DataLoader(dataset, collate_fn=btt.collate)`.

    Parameters
    ----------
    samples : sequence of mapping
        With the same keys.

    Returns
    -------
    mapping
        Like `torch.utils.data.default_collate`; a field whose arrays differ in shape becomes a list of tensors.

    Raises
    ------
    ConfigurationError
        If the samples differ in their keys.

    Examples
    --------
    >>> batch = collate([{"xy": np.zeros((2, 2)), "i": 0}, {"xy": np.zeros((3, 2)), "i": 1}])
    >>> [tuple(xy.shape) for xy in batch["xy"]], batch["i"].tolist()
    ([(2, 2), (3, 2)], [0, 1])
    """
    first = samples[0]
    if isinstance(first, Mapping):
        for sample in samples:
            if different := set(first) ^ set(sample):
                raise ConfigurationError(f"only some samples of the batch have {sorted(different)}: they cannot be one batch")
        return {key: collate([sample[key] for sample in samples]) for key in first}
    if isinstance(first, (np.ndarray, torch.Tensor)) and len({tuple(value.shape) for value in samples}) > 1:
        return [torch.as_tensor(value) for value in samples]
    return default_collate(list(samples))
