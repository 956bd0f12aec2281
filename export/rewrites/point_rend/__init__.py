"""PointRend's mask heads."""
