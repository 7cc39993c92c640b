from blendtorch.core.testing.suites import AnnotatorSuite, RandomizerSuite
from blendtorch_example import Centers, Jitter


class TestCenters(AnnotatorSuite):
    plugin = Centers


class TestJitter(RandomizerSuite):
    plugin = Jitter
