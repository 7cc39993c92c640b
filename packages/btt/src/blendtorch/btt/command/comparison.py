"""What is wrong: in the trainer, in a Blender, and between the two."""

from collections.abc import Sequence

from blendtorch.btt.command.blenders import BlenderReport
from blendtorch.btt.runtimes import HOW_TO_INSTALL
from blendtorch.core.inventory import Inventory


def problems_of(trainer: Inventory, blenders: Sequence[BlenderReport], named: bool) -> list[str]:
    """List what is wrong, each with what to do; what is wrong in several places is listed once.

    Parameters
    ----------
    trainer : Inventory
    blenders : sequence of BlenderReport
    named : bool
        The user has named them: one that cannot be used is wrong. Of those that were merely found, one has to be the one that a
        launch takes.
    """
    places: dict[str, list[str]] = {str(problem): ["the trainer"] for problem in trainer.problems}
    writing = _distributions(trainer) - _distributions(trainer, but="writer")
    for blender in blenders:
        for problem in blender.inventory.problems if blender.inventory else ():
            if problem.distribution in writing:  # it is lent to a Python that has not what it needs, and need not have it
                continue
            places.setdefault(str(problem), []).append(blender.name)
    problems = [text + "".join(f"\n  in {place}" for place in where) for text, where in places.items()]
    for blender in blenders:
        if blender.reason and named:
            problems.append(f"{blender.origin} cannot be used: {blender.reason}")
        if blender.failure:
            problems.append(f"{blender.name}: {blender.failure}")
        if blender.inventory is not None:
            problems += _differences(trainer, blender.name, blender.inventory)
    if blenders and not named and not any(blender.is_default for blender in blenders):
        reasons = "".join(f"\n  - {blender.origin}: {blender.reason}" for blender in blenders if blender.reason)
        problems.append(
            f"a launch finds no Blender that it can use:{reasons}\n{HOW_TO_INSTALL},\nor name one with BLENDTORCH_BLENDER"
        )
    return problems


def _differences(trainer: Inventory, name: str, there: Inventory) -> list[str]:
    """Compare the versions of our packages, and what has plug-ins for Blender: all but writers."""
    found = []
    install = f"run {there.interpreter} -m pip install"
    core = "blendtorch-core"
    if trainer.packages.get(core) != there.packages.get(core):
        here, other = trainer.packages.get(core, "an unknown version"), there.packages.get(core, "an unknown version")
        found.append(f"{core} is {here} here and {other} in {name}: {install} {core}=={here}")
    switched_on = _distributions(trainer, but="writer")
    switched_on |= {problem.distribution for problem in trainer.problems}
    for distribution, version in trainer.distributions.items():
        if distribution not in switched_on:
            continue
        if distribution not in there.distributions:
            found.append(f"{distribution} {version} is installed here, absent from {name}: {install} {distribution}")
        elif there.distributions[distribution] != version:
            other = there.distributions[distribution]
            found.append(f"{distribution} is {version} here and {other} in {name}: {install} {distribution}=={version}")
    return found


def _distributions(inventory: Inventory, but: str = "") -> set[str]:
    """Name the distributions that have plug-ins of other kinds than one."""
    return {plugin.distribution for plugin in inventory.plugins if plugin.kind != but}
