"""Whether OpenGL can be had without a display: asked before Blender does, which ends the process where it cannot."""

import ctypes

_SURFACELESS_MESA, _OPENGL_API, _NONE = 0x31DD, 0x30A2, 0x3038
_RENDERABLE_TYPE, _OPENGL_BIT, _SURFACE_TYPE, _PBUFFER_BIT = 0x3040, 0x0008, 0x3033, 0x0001
_MAJOR_VERSION, _MINOR_VERSION, _PROFILE_MASK, _CORE_PROFILE_BIT = 0x3098, 0x30FB, 0x30FD, 0x0001
_INSTALL = "apt-get install -y libegl1 libgl1 libgl1-mesa-dri, or the driver of your GPU"


def context_error(version: tuple[int, int]) -> str:
    """Say why no OpenGL context of a version can be made without a display, and what to install; empty where one can.

    Takes the steps of Blender: EGL's display for X11 or Wayland, or the one without a surface.

    References
    ----------
    Khronos, EGL 1.5, 3.2 and 3.7; EGL_MESA_platform_surfaceless.
    """
    try:
        egl = ctypes.CDLL("libEGL.so.1")
    except OSError:
        return f"there is no libEGL.so.1: {_INSTALL}"
    for function in (egl.eglGetDisplay, egl.eglGetPlatformDisplay, egl.eglCreateContext):
        function.restype = ctypes.c_void_p
    found = [egl.eglGetDisplay(None), egl.eglGetPlatformDisplay(_SURFACELESS_MESA, None, None)]
    displays = [ctypes.c_void_p(each) for each in found if each and egl.eglInitialize(ctypes.c_void_p(each), None, None)]
    if not displays:
        return f"EGL finds no driver, not even one that draws in software: {_INSTALL}"
    if any(_makes_context(egl, display, version) for display in displays):
        return ""
    return f"the driver that EGL finds has no OpenGL {version[0]}.{version[1]}: {_INSTALL}"


def _makes_context(egl: ctypes.CDLL, display: ctypes.c_void_p, version: tuple[int, int]) -> bool:
    egl.eglBindAPI(_OPENGL_API)
    wanted = (ctypes.c_int * 5)(_RENDERABLE_TYPE, _OPENGL_BIT, _SURFACE_TYPE, _PBUFFER_BIT, _NONE)
    config, count = ctypes.c_void_p(), ctypes.c_int()
    egl.eglChooseConfig(display, wanted, ctypes.byref(config), 1, ctypes.byref(count))
    attributes = (ctypes.c_int * 7)(
        _MAJOR_VERSION, version[0], _MINOR_VERSION, version[1], _PROFILE_MASK, _CORE_PROFILE_BIT, _NONE
    )
    context = ctypes.c_void_p(egl.eglCreateContext(display, config, None, attributes)) if count.value else None
    if not context:
        return False
    egl.eglDestroyContext(display, context)
    return True
