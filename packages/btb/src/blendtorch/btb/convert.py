"""Blender's own types, as what travels."""

import mathutils
import numpy as np

_MATHUTILS = (mathutils.Vector, mathutils.Matrix, mathutils.Euler, mathutils.Quaternion, mathutils.Color)
_PROPERTY_ARRAYS = ("bpy_prop_array", "IDPropertyArray")  # private classes: there is nothing to import


def convert(value: object) -> object:
    """Turn mathutils values and bpy property arrays into float64 arrays; return others unchanged."""
    if isinstance(value, _MATHUTILS) or type(value).__name__ in _PROPERTY_ARRAYS:
        return np.array(value, np.float64)
    return value
