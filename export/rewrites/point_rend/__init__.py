"""PointRend's mask heads and the point heads inside them, implicit ones included."""
