// Keypoints off heatmaps, which an ONNX program answers in their place.
#pragma once

#include <cstddef>

namespace d2serve {

/// `heatmaps_to_keypoints` (detectron2/structures/keypoints.py) of one instance: each heatmap is
/// enlarged to its box by bicubic interpolation, and its largest value is the keypoint.
///
/// `heatmaps` is (kinds, side, side) logits over `box`, XYXY_ABS in pixels of the image that the
/// program got; `keypoints` gets (kinds, 3) x, y in pixels of that image, and score.
void keypoints_of(const float* heatmaps, std::size_t kinds, std::size_t side, const float* box,
                  float* keypoints);

}  // namespace d2serve
