// A map of labels, which is as large as the image, as a small PNG.
#pragma once

#include <string>

#include "d2serve_cpp/outputs.h"

namespace d2serve {

/// The bytes of a greyscale PNG, of 8 bits, or of 16 where a label is above 255. Throws Error where
/// one is negative or above 65535.
std::string png_of_labels(const LabelMap& map);

}  // namespace d2serve
