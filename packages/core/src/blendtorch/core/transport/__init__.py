"""Sockets that carry messages: the only package that knows zmq.

Blender binds a `Push`, each consumer connects a `Pull` to all of them. A message goes to one consumer, the one that holds
least, and is kept until that has acknowledged it; what a consumer holds when it leaves goes to others. A consumer is sent as
many messages as it has room for, and when none has room `Push.send` waits: nothing else controls the flow.
"""

from blendtorch.core.transport.addresses import MAX_IPC_PATH_BYTES, check_address, is_loopback
from blendtorch.core.transport.keys import Keys
from blendtorch.core.transport.outbox import Parcel
from blendtorch.core.transport.pull import Pull
from blendtorch.core.transport.push import DEFAULT_QUEUE_SIZE, Push

__all__ = ["DEFAULT_QUEUE_SIZE", "MAX_IPC_PATH_BYTES", "Keys", "Parcel", "Pull", "Push", "check_address", "is_loopback"]
