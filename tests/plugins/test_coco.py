from blendtorch.core.testing.suites import WriterSuite
from blendtorch_coco import Coco


class TestCoco(WriterSuite):
    plugin = Coco
