// What a program takes: the image as detectron2's ResizeShortestEdge leaves it, to the bit.
#pragma once

#include <utility>
#include <vector>

#include "d2serve_cpp/image.h"
#include "d2serve_cpp/spec.h"

namespace d2serve {

/// What the program takes, with what postprocessing needs to undo the resize.
struct ModelInput {
    std::vector<float> tensor;
    /// (channels, resized_height, resized_width), values 0 to 255, channels in the spec's order.
    int channels = 0;
    int resized_height = 0;
    int resized_width = 0;
    int height = 0;  // of the image as it was sent
    int width = 0;
};

/// Height and width that detectron2's ResizeShortestEdge gives an image.
std::pair<int, int> resized_shape(int height, int width, int min_size, int max_size);

/// The image at another size, as Pillow's bilinear resize makes it.
Image resized(const Image& image, int height, int width);

/// Resizes and lays out an image as DefaultPredictor does. Throws Error when it has other channels
/// than the model takes, or is larger than the spec's limits say.
ModelInput preprocess(const Image& image, const Spec& spec);

}  // namespace d2serve
