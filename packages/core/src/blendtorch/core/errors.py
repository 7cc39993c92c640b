"""The errors of blendtorch, one tree.

Each can be built from one string: a DataLoader worker sends an exception to its parent as type and text.
"""


class BlendtorchError(Exception):
    """The base of every error that blendtorch raises on purpose."""


class EncodeError(BlendtorchError, TypeError):
    """A value cannot be sent; the text names its field, its type and what to do."""


class DecodeError(BlendtorchError, ValueError):
    """Received bytes are not a message that the schema allows."""


class VersionError(DecodeError):
    """A message is of a newer version than this side knows."""


class PayloadError(BlendtorchError, ValueError):
    """A frame does not fit the payload type that was declared for it."""


class PluginError(BlendtorchError, ValueError):
    """A plug-in is absent, cannot be loaded, or does not do what it declares; the text names it and its distribution."""


class ConfigurationError(BlendtorchError, ValueError):
    """A run is described wrongly; the text has the path of the wrong field, what was expected and what came."""


class AddressError(BlendtorchError, OSError):
    """An address is malformed, or somebody else listens on it."""


class RingError(BlendtorchError, RuntimeError):
    """Shared memory that cannot be made or opened, or is not what its descriptor says."""


class CameraError(BlendtorchError, ValueError):
    """A camera that the projection formulas do not cover, or that does not exist."""


class SceneError(BlendtorchError, ValueError):
    """A scene lacks what was asked for, or cannot be opened."""


class BlenderNotFoundError(BlendtorchError, ValueError):
    """No Blender that can be used was found; the text lists what was tried."""


class PrivateRuntimeError(BlendtorchError, RuntimeError):
    """A private runtime cannot be made, used or removed; the text says what is missing."""


class LaunchError(BlendtorchError, ValueError):
    """Instances cannot be launched with these arguments."""


class InstanceError(BlendtorchError, RuntimeError):
    """A Blender instance failed or died; the text carries its traceback, or its exit code and the end of its log."""


class StreamTimeoutError(BlendtorchError, TimeoutError):
    """No instance gave a sign of life for the whole time-out; the text says what is known of each."""


class RecordingError(BlendtorchError, ValueError):
    """A recording that is not there, cannot be written, or is damaged; the text names the file and what to do."""


class NotAvailableError(BlendtorchError, ImportError):
    """A name of blendtorch 0.4 that this version does not have yet."""


def name_to_come(module: str, name: str, to_come: tuple[str, ...]) -> Exception:
    """Make the error for a name that a module does not have: a sentence for the names of 0.4 that are still to come."""
    if name in to_come:
        return NotAvailableError(
            f"{module}.{name} of blendtorch 0.4 is not part of this version yet; it comes back in a later one. "
            "Scripts that need it stay on 0.4 until then"
        )
    return AttributeError(f"module 'blendtorch.{module}' has no attribute {name!r}")
