// Tints the pixels of masks and label maps, in place.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <vector>

#include "d2serve_cpp/image.h"
#include "d2serve_cpp/outputs.h"

namespace d2serve {

using Colour = std::array<std::uint8_t, 3>;

/// A mask of some rows and columns of an image, and where in it they begin.
struct Region {
    int top = 0, left = 0, height = 0, width = 0;
    std::vector<std::uint8_t> set;  // (height, width), 0 or 1

    bool at(int y, int x) const { return set[static_cast<std::size_t>(y) * width + x] != 0; }
};

/// Mixes a colour into the pixels of a mask, and draws its edge in it, `line` pixels wide.
void tint(Image& picture, const Region& region, const Colour& colour, int line);

/// Mixes the colour of each label into its pixels; labels without a colour stay as they are.
void tint_labels(Image& picture, const LabelMap& map, const std::map<std::int64_t, Colour>& colours);

}  // namespace d2serve
