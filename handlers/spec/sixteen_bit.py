"""How image files of 16 bits a sample become 8, where detectron2's two ways of reading differ."""

from __future__ import annotations

OPENCV = "opencv"
"""As by ``cv2.imread``, with which ``DefaultPredictor`` is documented: scaled."""
READ_IMAGE = "read_image"
"""As by ``detectron2.data.detection_utils.read_image``, with which models are trained: grey values
are cut off at 255."""

SIXTEEN_BIT_WAYS = (OPENCV, READ_IMAGE)
