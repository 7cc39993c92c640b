"""`python -m blendtorch.btt.command`: the command `blendtorch`, with a Python of one's choice."""

import sys

from blendtorch.btt.command import main

if __name__ == "__main__":
    sys.exit(main())
