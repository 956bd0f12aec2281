// ROI masks as COCO RLEs of the whole image, without pasting them into one.
#pragma once

#include <cstddef>

#include "d2serve_cpp/outputs.h"

namespace d2serve {

/// The RLE of an ROI mask pasted into the image: bit for bit `paste_masks_in_image`
/// (detectron2/layers/mask_ops.py) followed by pycocotools' encode.
///
/// `mask` is (cells, cells) probabilities; `box` is XYXY_ABS, clipped to the image and not empty; a
/// pixel is set when its probability is at least `threshold`, which is above 0.
Rle encode_mask(const float* mask, std::size_t cells, const float* box, int height, int width,
                float threshold);

}  // namespace d2serve
