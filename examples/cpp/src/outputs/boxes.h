// Boxes on their way from the resized image to the one that was sent.
#pragma once

#include <cstddef>
#include <vector>

#include "d2serve_cpp/outputs.h"

namespace d2serve {

/// Enlarges boxes by these factors: `scale` of detectron2's Boxes and RotatedBoxes, in float32.
void scale(Boxes& boxes, double scale_x, double scale_y);

/// Clips boxes to the image; of rotated ones only those that are nearly upright. Angles come out in
/// [-180, 180).
void clip(Boxes& boxes, int height, int width);

/// Indices of the boxes with a width and a height above 0.
std::vector<std::size_t> nonempty(const Boxes& boxes);

/// The four corners of a box, x and y, one after the other around it.
struct Corners {
    float x[4], y[4];
};
Corners corners(const Boxes& boxes, std::size_t index);

}  // namespace d2serve
