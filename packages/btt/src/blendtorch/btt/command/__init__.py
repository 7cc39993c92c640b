"""The command `blendtorch`: what is installed, and what this machine can do."""

from blendtorch.btt.command.arguments import main

__all__ = ["main"]
