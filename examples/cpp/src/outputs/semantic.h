// The label of highest logit at each pixel, without enlarging the logits of every class.
#pragma once

#include <cstddef>

#include "d2serve_cpp/outputs.h"

namespace d2serve {

/// Logits of sem_seg: (classes, height, width), of the resized image with its padding to the right
/// and below, of which `used_height` and `used_width` are the resized image.
struct Logits {
    const float* values = nullptr;
    std::size_t classes = 0, height = 0, width = 0, used_height = 0, used_width = 0;
};

/// `sem_seg_postprocess` (detectron2/modeling/postprocessing.py) followed by argmax, for an image
/// that was sent in this size. Throws Error when a highest logit is infinite or not a number.
LabelMap label_map(const Logits& logits, int height, int width);

}  // namespace d2serve
