"""BOP data sets."""

from blendtorch.core.testing.suites import WriterSuite
from blendtorch_bop import Bop


class TestBop(WriterSuite):
    plugin = Bop
