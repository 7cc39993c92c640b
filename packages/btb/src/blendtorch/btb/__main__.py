"""`python -m blendtorch.btb SPEC`: how the launcher starts an instance in a Python that has the bpy wheel."""

import sys

from blendtorch.btb import instance

if __name__ == "__main__":
    instance.run(sys.argv[1])
