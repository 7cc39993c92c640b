"""The shaders: one draw call for all instances of a mesh, one texture with what belongs to each of them.

Row `i` of the texture `instances` has what is known of instance `i`: the rows of `camera_from_object` and so on, see `Column`.
Where a graphics card has textures of 16384 rows at most, it goes on in the columns to the right.

The picture is drawn with row 0 on top: y points down in the camera frame, and up in OpenGL's memory.

For a lens that distorts, the picture of a pinhole camera is drawn. What it holds is taken not at the centre of a pixel, but
where the ray of the lens meets the triangle that the pixel shows: the texture `offsets` says how far from the centre that is.
What is interpolated over a triangle is, divided by the depth, linear in the picture: its derivatives there tell all of it.
"""

import math
from collections.abc import Sequence
from enum import IntEnum
from typing import Any

PAGE = 4096  # rows of the texture
# Maps that can be drawn (Blender draws six at once), with the channels that they are drawn with.
CHANNELS = {"normals": 4, "depth": 1, "instance_ids": 1, "uv": 2, "object_coordinates": 4, "materials": 2}
FLOW_CHANNELS = {"flow": 2, "occluded": 1, "depth": 1}
# What they hold where nothing is, if not 0.
BACKGROUND = {"depth": math.inf, "object_coordinates": math.nan, "flow": math.nan}


class Column(IntEnum):
    """What the columns of the texture hold."""

    CAMERA_FROM_OBJECT = 0  # three rows of a matrix
    ABOUT = 3  # instance id, 1 or -1 where it is mirrored, 1 where it is a hole, number
    COORDINATES_FROM_OBJECT = 4
    TARGET_FROM_OBJECT = 4  # for flow: the camera frame of the other moment
    COUNT = 7


_FUNCTIONS = f"""
vec4 of_instance(int number, int column)
{{
  return texelFetch(instances, ivec2(number / {PAGE} * {int(Column.COUNT)} + column, number % {PAGE}), 0);
}}

vec3 transformed(int number, int column, vec3 point)
{{
  vec4 p = vec4(point, 1.0), x = of_instance(number, column), y = of_instance(number, column + 1);
  return vec3(dot(x, p), dot(y, p), dot(of_instance(number, column + 2), p));
}}

vec4 projected(vec3 point)
{{
  float w = mix(point.z, 1.0, clip.z);
  return vec4(lens.x * point.x + lens.y * w, lens.z * point.y + lens.w * w, clip.x * point.z + clip.y, w);
}}
"""

_AT_RAY = """
vec3 at_ray(vec3 value)
{
  vec2 offset = texelFetch(offsets, ivec2(gl_FragCoord.xy), 0).xy;
  float near = 1.0 / ray_depth;
  vec3 here = value * near;
  float change = dot(vec2(dFdx(near), dFdy(near)), offset);
  // Towards the horizon of a surface no farther than to twice the depth.
  float part = min(1.0, 0.5 * near / max(abs(change), 1e-30));
  return (here + part * (dFdx(here) * offset.x + dFdy(here) * offset.y)) / (near + part * change);
}
"""

# For each output: type, what the vertex shader adds, what the fragment shader writes.
_OUTPUTS = {
    "normals": (
        "VEC4",
        """
  vec3 x = of_instance(number, 0).xyz, y = of_instance(number, 1).xyz, z = of_instance(number, 2).xyz;
  vec3 turned = about.y * vec3(dot(cross(y, z), normal), dot(cross(z, x), normal), dot(cross(x, y), normal));
  normal_camera = turned / max(length(turned), 1e-30);  // before it is interpolated, as renderers do
""",
        # Counter-clockwise is front in OpenGL; here y points the other way.
        "vec4(is_hole ? vec3(0.0) : normalize(normal_camera) * (gl_FrontFacing ? -about_flat.y : about_flat.y), 0.0)",
    ),
    "depth": ("FLOAT", "  depth_camera = point.z;\n", "is_hole ? far_away : depth_camera"),
    "instance_ids": ("FLOAT", "", "is_hole ? 0.0 : about_flat.x"),
    "uv": ("VEC2", "  uv_surface = uv;\n", "is_hole ? vec2(0.0) : uv_surface"),
    "object_coordinates": (
        "VEC4",
        f"  coordinates = transformed(number, {int(Column.COORDINATES_FROM_OBJECT)}, position);\n",
        "vec4(is_hole || about_flat.x == 0.0 ? vec3(unknown) : coordinates, 0.0)",
    ),
    "materials": ("VEC2", "  material_slot = material;\n", "is_hole ? vec2(0.0) : vec2(about_flat.w + 1.0, material_slot)"),
}
_SMOOTH = {
    "normals": ("VEC3", "normal_camera"),
    "depth": ("FLOAT", "depth_camera"),
    "uv": ("VEC2", "uv_surface"),
    "object_coordinates": ("VEC3", "coordinates"),
}
# What a shader has only where it draws this.
UNIFORMS = {"far_away": "depth", "unknown": "object_coordinates"}
_ATTRIBUTES = {"normals": ("VEC3", "normal"), "uv": ("VEC2", "uv"), "materials": ("FLOAT", "material")}


def attributes(outputs: Sequence[str]) -> list[str]:
    """Name the vertex attributes that a shader of `surface` reads."""
    return ["position", *(_ATTRIBUTES[name][1] for name in outputs if name in _ATTRIBUTES)]


# The same, of what is interpolated, where the ray of a lens meets the surface.
_AT_RAYS = {
    "normals": ("normal_camera", "at_ray(normal_camera)"),
    "depth": ("depth_camera", "at_ray(vec3(depth_camera)).x"),
    "uv": ("uv_surface", "at_ray(vec3(uv_surface, 0.0)).xy"),
    "object_coordinates": ("coordinates", "clamp(at_ray(coordinates), 0.0, 1.0)"),  # a ray may pass by the edge of a triangle
}


def surface(outputs: Sequence[str], distorted: bool = False) -> Any:
    """Make the shader that draws the surfaces nearest to the camera.

    Parameters
    ----------
    outputs : sequence of str
        Which maps, in the order of the textures that they are drawn into.
    distorted : bool
        Take what is interpolated at the rays of the lens: needs the texture `offsets`.
    """
    import gpu

    info, varyings = _begin("surface")
    varyings.flat("VEC4", "about_flat")
    vertex, fragment, functions = "", "", ""
    if distorted:
        vertex, functions = _distorted(info, varyings, slot=1), _AT_RAY
    for location, name in enumerate([name for name in outputs if name in _ATTRIBUTES], 1):
        info.vertex_in(location, *_ATTRIBUTES[name])
    for slot, name in enumerate(outputs):
        kind, added, written = _OUTPUTS[name]
        if distorted and name in _AT_RAYS:
            written = written.replace(*_AT_RAYS[name])
        if name in _SMOOTH:
            varyings.smooth(*_SMOOTH[name])
        if name == "materials":
            varyings.flat("FLOAT", "material_slot")
        info.fragment_out(slot, kind, f"out_{name}")
        vertex += added
        fragment += f"  out_{name} = {written};\n"
    info.vertex_out(varyings)
    info.vertex_source(
        _FUNCTIONS
        + "void main()\n{\n  int number = first + gl_InstanceID;\n"
        + f"  vec3 point = transformed(number, {int(Column.CAMERA_FROM_OBJECT)}, position);\n"
        + f"  vec4 about = of_instance(number, {int(Column.ABOUT)});\n"
        + "  about_flat = about;\n"
        + vertex
        + "  gl_Position = projected(point);\n}\n"
    )
    for name, output in UNIFORMS.items():
        if output in outputs:
            info.push_constant("FLOAT", name)
    info.fragment_source(functions + "void main()\n{\n  bool is_hole = about_flat.z > 0.5;\n" + fragment + "}\n")
    return gpu.shader.create_from_info(info)


_FLOW_VERTEX = f"""
void main()
{{
  int number = first + gl_InstanceID;
  vec3 point = transformed(number, {int(Column.CAMERA_FROM_OBJECT)}, position);
  about_flat = of_instance(number, {int(Column.ABOUT)});
  depth_camera = point.z;
  target = transformed(number, {int(Column.TARGET_FROM_OBJECT)}, target_position);
  gl_Position = projected(point);
}}
"""
_FLOW_FRAGMENT = """
void main()
{
  bool is_hole = about_flat.z > 0.5;
  bool is_new = about_flat.x < 0.0;
  vec3 place = PLACE;
  float w = mix(place.z, 1.0, target_clip.z);
  vec2 xy = (target_lens.xz * place.xy + target_lens.yw * w) / w;
  ivec2 size = textureSize(target_depth, 0);
  bool is_seen = place.z >= target_clip.x && place.z <= target_clip.y && all(greaterThanEqual(xy, vec2(0.0)))
    && all(lessThanEqual(xy, vec2(size)));
  if (is_seen) {
    // Hidden is what lies behind all four pixels around the place: their depths enclose that of a surface through it.
    ivec2 low = ivec2(floor(xy - 0.5)), high = min(low + 1, size - 1);
    low = max(low, ivec2(0));
    float a = texelFetch(target_depth, low, 0).x, b = texelFetch(target_depth, ivec2(high.x, low.y), 0).x;
    float c = texelFetch(target_depth, ivec2(low.x, high.y), 0).x, d = texelFetch(target_depth, high, 0).x;
    is_seen = place.z <= max(max(a, b), max(c, d)) * 1.0001;
  }
  bool is_nowhere = is_hole || is_new || place.z <= 0.0 && target_clip.z == 0.0;
  out_flow = is_nowhere ? vec2(unknown) : WHERE;
  out_occluded = is_hole || is_seen && !is_nowhere ? 0.0 : 1.0;
  out_depth = is_hole ? far_away : depth_camera;
}
"""
# What differs for a lens that distorts: the place is that of the ray, and it is given at depth 1, for numpy to distort.
_FLOW_STRAIGHT = {"PLACE": "target", "WHERE": "xy - gl_FragCoord.xy"}
_FLOW_DISTORTED = {"PLACE": "at_ray(target)", "WHERE": "place.xy / w"}


def flow(distorted: bool = False) -> Any:
    """Make the shader that draws where each surface is at another moment, whether it is hidden there, and the depth here.

    Parameters
    ----------
    distorted : bool
        Take where a surface is at the rays of the lens, and give x and y at depth 1: needs the texture `offsets`.
    """
    import gpu

    info, varyings = _begin("flow")
    varyings.flat("VEC4", "about_flat")
    varyings.smooth("FLOAT", "depth_camera")
    varyings.smooth("VEC3", "target")
    vertex, fragment = _FLOW_VERTEX, _FLOW_FRAGMENT
    if distorted:
        vertex = vertex.replace("  gl_Position", _distorted(info, varyings, slot=2) + "  gl_Position")
        fragment = _AT_RAY + fragment
    for name, text in (_FLOW_DISTORTED if distorted else _FLOW_STRAIGHT).items():
        fragment = fragment.replace(name, text)
    info.vertex_out(varyings)
    info.vertex_in(1, "VEC3", "target_position")
    info.sampler(1, "FLOAT_2D", "target_depth")
    info.push_constant("VEC4", "target_lens")
    info.push_constant("VEC3", "target_clip")
    info.push_constant("FLOAT", "far_away")
    info.push_constant("FLOAT", "unknown")
    info.fragment_out(0, "VEC2", "out_flow")
    info.fragment_out(1, "FLOAT", "out_occluded")
    info.fragment_out(2, "FLOAT", "out_depth")
    info.vertex_source(_FUNCTIONS + vertex)
    info.fragment_source(fragment)
    return gpu.shader.create_from_info(info)


def _distorted(info: Any, varyings: Any, slot: int) -> str:
    """Declare what `at_ray` needs; returns what the vertex shader adds."""
    info.sampler(slot, "FLOAT_2D", "offsets")
    varyings.smooth("FLOAT", "ray_depth")
    return "  ray_depth = point.z;\n"


def _begin(name: str) -> tuple[Any, Any]:
    import gpu

    info = gpu.types.GPUShaderCreateInfo()
    info.sampler(0, "FLOAT_2D", "instances")
    info.push_constant("VEC4", "lens")
    info.push_constant("VEC3", "clip")
    info.push_constant("INT", "first")
    info.vertex_in(0, "VEC3", "position")
    return info, gpu.types.GPUStageInterfaceInfo(f"blendtorch_{name}")
