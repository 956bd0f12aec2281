// The resize of images that Pillow does not know: of more than four channels.
#pragma once

#include <vector>

#include "d2serve_cpp/image.h"

namespace d2serve {

/// As torch.nn.functional.interpolate(mode="bilinear", align_corners=False) of floats, which is how
/// detectron2 resizes such images; (height, width, channels).
std::vector<float> interpolated(const Image& image, int height, int width);

}  // namespace d2serve
