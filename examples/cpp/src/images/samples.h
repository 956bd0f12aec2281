// Samples as a file has them, in one of Pillow's modes, and what a model takes of them.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "d2serve_cpp/image.h"

namespace d2serve {

enum class Mode { bits, grey, grey_16, grey_alpha, rgb, palette, rgba };

struct Samples {
    int height = 0;
    int width = 0;
    Mode mode = Mode::rgb;
    std::vector<std::uint8_t> values;
    /// Row by row: of grey_16 two bytes, the upper one first; of a palette its indices.
    std::vector<std::uint8_t> palette;
    /// Three bytes for each colour.
    std::optional<std::string> transparency;
    /// What PNG's chunk tRNS holds.
};

/// The bands of a picture that a model takes. Throws Error when they are taken as they are, and
/// there are more or fewer.
Image bands_of(const Samples& samples, const ImageForm& form);

}  // namespace d2serve
