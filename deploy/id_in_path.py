"""Ids as a part of a path: whatever they hold, slashes and line breaks among it."""

from starlette.convertors import Convertor, register_url_convertor


class _AnyText(Convertor[str]):
    # Starlette's `path` ends at a line break.
    regex = "(?s:.*)"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


def register_id_in_path() -> None:
    """Let routes say `{name:id}`."""
    register_url_convertor("id", _AnyText())
