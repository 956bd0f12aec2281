#include "drawing/tinting.h"

#include <algorithm>

namespace d2serve {
namespace {

constexpr int kOpacity = 108;  // of a tint, in 256ths

void mix(std::uint8_t* pixel, const Colour& colour) {
    for (int channel = 0; channel < 3; ++channel) {
        const int mixed = pixel[channel] * (256 - kOpacity) + colour[channel] * kOpacity;
        pixel[channel] = static_cast<std::uint8_t>(mixed >> 8);
    }
}

/// The places of a line of which so many before and after are set as well.
void erode(const std::uint8_t* set, std::uint8_t* inner, int count, int stride, int by) {
    int run = 0;
    for (int i = 0; i < count; ++i) {
        run = set[static_cast<std::size_t>(i) * stride] ? run + 1 : 0;
        if (i - by >= 0) inner[static_cast<std::size_t>(i - by) * stride] = run > 2 * by;
    }
    for (int i = std::max(count - by, 0); i < count; ++i) {
        inner[static_cast<std::size_t>(i) * stride] = 0;
    }
}

/// The pixels of a mask that are at least this far from its edge.
std::vector<std::uint8_t> inner_of(const Region& region, int by) {
    std::vector<std::uint8_t> down(region.set.size()), inner(region.set.size());
    for (int x = 0; x < region.width; ++x) {
        erode(region.set.data() + x, down.data() + x, region.height, region.width, by);
    }
    for (int y = 0; y < region.height; ++y) {
        const std::size_t row = static_cast<std::size_t>(y) * region.width;
        erode(down.data() + row, inner.data() + row, region.width, 1, by);
    }
    return inner;
}

}  // namespace

void tint(Image& picture, const Region& region, const Colour& colour, int line) {
    const std::vector<std::uint8_t> inner = inner_of(region, line);
    for (int y = 0; y < region.height; ++y) {
        for (int x = 0; x < region.width; ++x) {
            if (!region.at(y, x)) continue;
            const std::size_t place =
                static_cast<std::size_t>(region.top + y) * picture.width + region.left + x;
            std::uint8_t* pixel = picture.pixels.data() + place * 3;
            if (inner[static_cast<std::size_t>(y) * region.width + x]) {
                mix(pixel, colour);
            } else {
                std::copy(colour.begin(), colour.end(), pixel);
            }
        }
    }
}

void tint_labels(Image& picture, const LabelMap& map,
                 const std::map<std::int64_t, Colour>& colours) {
    for (std::size_t i = 0; i < map.labels.size(); ++i) {
        const auto colour = colours.find(map.labels[i]);
        if (colour != colours.end()) mix(picture.pixels.data() + i * 3, colour->second);
    }
}

}  // namespace d2serve
