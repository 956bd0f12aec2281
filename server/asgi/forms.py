"""Takes a form apart (multipart/form-data): one field is the image, the others are options."""

from __future__ import annotations

from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from d2serve.handlers.requests.bodies.content_types import MULTIPART
from d2serve.server.asgi.refusals import Refused

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

Fields = list[tuple[str, bytes]]

_MOST_FIELDS = 100
_PLAIN = ("", "binary", "8bit", "7bit")
"""Values of Content-Transfer-Encoding that leave the bytes as they are."""


def read_form(body: bytes, content_type: str) -> Fields | None:
    """The fields of a form, by name, in their order; None where the header names no boundary.

    Args:
        content_type: the header's value.

    Raises:
        Refused: it is no whole form of named fields.
    """
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        return None
    form = _Form()
    try:
        # The longest that RFC 2046 permits has 70 letters; the parser itself has no bound.
        parser = MultipartParser(boundary[:256], form.callbacks())
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise _refused(f"that cannot be taken apart ({error})") from None
    if not form.is_whole:
        raise _refused("that ends too early")
    return form.fields


class _Form:
    """What the parser has told so far."""

    def __init__(self) -> None:
        self.fields: Fields = []
        self.is_whole = False
        self._name = self._value = b""
        self._headers: dict[bytes, bytes] = {}
        self._data = bytearray()

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._header_name,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_part_data": self._part_data,
            "on_part_end": self._part_end,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        if len(self.fields) >= _MOST_FIELDS:
            raise _refused(f"of more than {_MOST_FIELDS} fields")
        self._headers, self._data = {}, bytearray()

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        self._data += memoryview(data)[start:end]

    def _part_end(self) -> None:
        encoding = self._headers.get(b"content-transfer-encoding", b"").decode("latin-1").lower()
        if encoding not in _PLAIN:
            raise _refused(f"with a field whose Content-Transfer-Encoding is {encoding[:20]!a}")
        name = parse_options_header(self._headers.get(b"content-disposition", b""))[1].get(b"name")
        if name is None:
            raise _refused("with a field that has no name")
        self.fields.append((name.decode("utf-8", "replace"), bytes(self._data)))

    def _end(self) -> None:
        self.is_whole = True


def _refused(what: str) -> Refused:
    return Refused(
        400,
        "invalid_form",
        f"Got a form ({MULTIPART}) {what}, expected the image as the field 'data' and options as "
        "further fields. Leave making it to a library, or to curl -F.",
    )
