"""Replacing the samples of a folder: whoever wrote them removes them, also where another writer comes."""

from blendtorch.btt.generation.folder import VERSIONS, DataFolder
from blendtorch.btt.generation.format import Format, find_format
from blendtorch.btt.generation.writing import WriterInFolder, named
from blendtorch.core.discovery import Catalogue
from blendtorch.core.errors import ConfigurationError, PluginError
from blendtorch.core.interfaces import Writer


def clear(folder: DataFolder, chosen: Format, writer: WriterInFolder, catalogue: Catalogue) -> None:
    """Remove the samples that are in a folder and what says how they were made, and leave everything else.

    Formats share files: after the writer that comes has cleared a folder of another one, nobody would know any more whose the
    rest is. So each writer that the folder says to have written clears first.

    Parameters
    ----------
    folder : DataFolder
    chosen : Format
        What is to write there.
    writer : WriterInFolder
        The same, of this folder.
    catalogue : Catalogue
        Of what is installed, and of files that the user has named.

    Raises
    ------
    ConfigurationError
        If one of them is not there or does not know what it wrote: nothing is removed then.
    PluginError
        If one of them fails.
    """
    formats = [*_earlier(folder, chosen, catalogue), chosen]
    for each in formats:
        if each.cls.clear is Writer.clear:
            raise ConfigurationError(
                f"writer {each.cls.name!r} cannot remove what it wrote before: remove it yourself, or name another folder"
            )
    for path in (folder.configuration, folder.preview, folder.audit, folder.recording):
        folder.remove(path)
    writer.close()  # two of a kind are not to be open in one folder
    for each in formats[:-1]:
        _clear(each.into(folder.path))
    with named(writer.open(), "remove what is there"):
        writer.open().clear()
    folder.remove(folder.versions)  # last: after a crash it still says who wrote the rest


def _clear(writer: WriterInFolder) -> None:
    try:
        with named(writer.open(), "remove what is there"):
            writer.open().clear()
    finally:
        writer.close()


def _earlier(folder: DataFolder, chosen: Format, catalogue: Catalogue) -> list[Format]:
    """Find the writers that have written into a folder, beside the one that comes with just its options."""
    found: list[Format] = []
    for description in (each.writer for each in folder.read_versions()):
        if description == chosen.description or description in [each.description for each in found]:
            continue
        try:
            found.append(find_format(description, catalogue, origin=VERSIONS))
        except (ConfigurationError, PluginError) as error:
            if description.get("name") == chosen.cls.name:  # an option that is no more: it knows its own files
                continue
            raise ConfigurationError(
                f"the samples in {folder.path} were written by {description.get('name')!r}, which has to remove them and "
                f"cannot be used: {error}\nGive its plug-in with --plugin FILE, remove the samples yourself, or name another "
                "folder with -o"
            ) from None
    return found
