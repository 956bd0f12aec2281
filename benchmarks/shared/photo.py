"""The picture that `d2serve bench` draws."""

from d2serve.server.measuring.drawn_photo import jpeg, photo

__all__ = ["jpeg", "photo"]
