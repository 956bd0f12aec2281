"""ROI heads, the semantic head, and FCOS's head."""
