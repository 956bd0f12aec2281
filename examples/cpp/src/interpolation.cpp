#include "interpolation.h"

#include <algorithm>
#include <cmath>

namespace d2serve {
namespace {

/// For each place of a side, its two neighbours in the source and how far it is to the second.
struct Places {
    std::vector<int> first;
    std::vector<int> second;
    std::vector<float> share;
};

Places places_of(int size, int wanted) {
    const double scale = static_cast<double>(static_cast<float>(size) / static_cast<float>(wanted));
    Places made;
    for (int i = 0; i < wanted; ++i) {
        // The product and the difference are rounded once, as torch's compiled kernel does.
        const float exact = std::max(static_cast<float>(scale * (i + 0.5) - 0.5), 0.0F);
        const int first = std::min(static_cast<int>(exact), size - 1);
        made.first.push_back(first);
        made.second.push_back(std::min(first + 1, size - 1));
        made.share.push_back(std::min(exact - static_cast<float>(first), 1.0F));
    }
    return made;
}

}  // namespace

std::vector<float> interpolated(const Image& image, int height, int width) {
    const Places rows = places_of(image.height, height), columns = places_of(image.width, width);
    const auto channels = static_cast<std::size_t>(image.channels);
    const std::size_t row_values = static_cast<std::size_t>(image.width) * channels;
    std::vector<float> made;
    made.reserve(static_cast<std::size_t>(height) * static_cast<std::size_t>(width) * channels);
    for (std::size_t y = 0; y < rows.first.size(); ++y) {
        const float down = rows.share[y];
        const std::uint8_t* upper_row =
            image.pixels.data() + static_cast<std::size_t>(rows.first[y]) * row_values;
        const std::uint8_t* lower_row =
            image.pixels.data() + static_cast<std::size_t>(rows.second[y]) * row_values;
        for (std::size_t x = 0; x < columns.first.size(); ++x) {
            const float along = columns.share[x];
            const std::size_t before = static_cast<std::size_t>(columns.first[x]) * channels;
            const std::size_t after = static_cast<std::size_t>(columns.second[x]) * channels;
            for (std::size_t c = 0; c < channels; ++c) {
                const float upper = (1.0F - along) * static_cast<float>(upper_row[before + c]) +
                                    along * static_cast<float>(upper_row[after + c]);
                const float lower = (1.0F - along) * static_cast<float>(lower_row[before + c]) +
                                    along * static_cast<float>(lower_row[after + c]);
                made.push_back((1.0F - down) * upper + down * lower);
            }
        }
    }
    return made;
}

}  // namespace d2serve
