"""Takes the address of weights apart: what detectron2 is told in it, and what a server is asked.

detectron2 knows ``?matching_heuristics=True`` and drops the rest of a query before it fetches. But
sites such as Dropbox give the file only for an address that ends in ``?dl=1``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from detectron2.utils.file_io import PathManager

from d2serve.export.errors import WeightsError

_MATCHING = "matching_heuristics"
# What sites are asked for a download with; it means nothing to a file that is already here.
_OF_DOWNLOADS = frozenset({"dl", "raw", "download", "export", "confirm"})


@dataclass(frozen=True)
class Address:
    """Where weights lie."""

    place: str
    """A path, or an address with what its server is asked for."""
    matching: bool
    """Whether names are to be matched to detectron2's by its heuristics."""

    @classmethod
    def of(cls, text: str) -> Address:
        """Take an address apart.

        Raises:
            WeightsError: it asks detectron2 for what it does not know.
        """
        if "?" not in text or Path(text).is_file():
            return cls(text, False)
        place, _, query = text.partition("?")
        asked = query.split("&")  # as it stands: some addresses are signed
        matching = f"{_MATCHING}=True" in asked
        others = [each for each in asked if each.partition("=")[0] != _MATCHING]
        if text.startswith(("http://", "https://")):
            return cls("?".join(filter(None, (place, "&".join(others)))), matching)
        unknown = "&".join(each for each in others if each.partition("=")[0] not in _OF_DOWNLOADS)
        if unknown:
            raise WeightsError(
                f"The address of the weights asks for ?{unknown}. detectron2 knows "
                f"?{_MATCHING}=True only: leave the rest out."
            )
        return cls(place, matching)

    def fetched(self) -> str:
        """The file on this machine, fetched where it is elsewhere.

        Raises:
            OSError and whatever detectron2's path handlers raise.
        """
        local: str = PathManager.get_local_path(self.place)
        return local
