// Pillow's bilinear resize of 8 bits, to the bit: what detectron2's ResizeTransform uses.
//
// Two passes, along and down, each a weighted sum in whole numbers of 22 bits after the point,
// rounded to 8 bits between them (Pillow, src/libImaging/Resample.c). Of an image with alpha the
// colours are weighed by it (Convert.c).
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "d2serve_cpp/error.h"
#include "d2serve_cpp/input.h"

namespace d2serve {
namespace {

constexpr int kBits = 32 - 8 - 2;
constexpr int kMostOfPillow = 4;

/// Of one place of the output: where its weights begin in the input, and what they are.
struct Weights {
    std::vector<int> first;
    std::vector<int> count;
    std::vector<std::int32_t> values;  // `widest` for each place
    int widest = 0;
};

Weights weights_of(int size, int wanted) {
    const double scale = static_cast<double>(size) / wanted;
    const double filter_scale = std::max(scale, 1.0);
    const double support = 1.0 * filter_scale;
    const double step = 1.0 / filter_scale;
    Weights made;
    made.widest = static_cast<int>(std::ceil(support)) * 2 + 1;
    made.first.resize(static_cast<std::size_t>(wanted));
    made.count.resize(static_cast<std::size_t>(wanted));
    made.values.assign(static_cast<std::size_t>(wanted) * static_cast<std::size_t>(made.widest), 0);
    std::vector<double> exact(static_cast<std::size_t>(made.widest));
    for (int at = 0; at < wanted; ++at) {
        const double center = 0.0 + (at + 0.5) * scale;
        const int first = std::max(static_cast<int>(center - support + 0.5), 0);
        const int count = std::min(static_cast<int>(center + support + 0.5), size) - first;
        double sum = 0.0;
        for (int x = 0; x < count; ++x) {
            const double distance = std::abs((x + first - center + 0.5) * step);
            exact[static_cast<std::size_t>(x)] = distance < 1.0 ? 1.0 - distance : 0.0;
            sum += exact[static_cast<std::size_t>(x)];
        }
        std::int32_t* out = made.values.data() + static_cast<std::ptrdiff_t>(at) * made.widest;
        for (int x = 0; x < count; ++x) {
            double weight = exact[static_cast<std::size_t>(x)];
            if (sum != 0.0) weight /= sum;
            out[x] = static_cast<std::int32_t>(0.5 + weight * (1 << kBits));
        }
        made.first[static_cast<std::size_t>(at)] = first;
        made.count[static_cast<std::size_t>(at)] = count;
    }
    return made;
}

std::uint8_t rounded(std::int32_t sum) {
    return static_cast<std::uint8_t>(std::clamp(sum >> kBits, 0, 255));
}

template <int channels>
void along(const std::uint8_t* from, std::uint8_t* to, int rows, int width, int wanted,
           const Weights& weights) {
    for (int y = 0; y < rows; ++y) {
        const std::uint8_t* row = from + static_cast<std::ptrdiff_t>(y) * width * channels;
        std::uint8_t* out = to + static_cast<std::ptrdiff_t>(y) * wanted * channels;
        for (int x = 0; x < wanted; ++x) {
            const auto at = static_cast<std::size_t>(x);
            const std::int32_t* weight =
                weights.values.data() + static_cast<std::ptrdiff_t>(x) * weights.widest;
            const std::uint8_t* in =
                row + static_cast<std::ptrdiff_t>(weights.first[at]) * channels;
            std::int32_t sums[channels];
            std::fill(sums, sums + channels, 1 << (kBits - 1));
            for (int i = 0; i < weights.count[at]; ++i, in += channels) {
                for (int c = 0; c < channels; ++c) sums[c] += in[c] * weight[i];
            }
            for (int c = 0; c < channels; ++c) *out++ = rounded(sums[c]);
        }
    }
}

void down(const std::uint8_t* from, std::uint8_t* to, int wanted, std::size_t row_bytes,
          const Weights& weights) {
    std::vector<std::int32_t> sums(row_bytes);
    for (int y = 0; y < wanted; ++y) {
        const auto at = static_cast<std::size_t>(y);
        const std::int32_t* weight =
            weights.values.data() + static_cast<std::ptrdiff_t>(y) * weights.widest;
        std::fill(sums.begin(), sums.end(), 1 << (kBits - 1));
        for (int i = 0; i < weights.count[at]; ++i) {
            const std::uint8_t* in =
                from + static_cast<std::size_t>(weights.first[at] + i) * row_bytes;
            for (std::size_t x = 0; x < row_bytes; ++x) sums[x] += in[x] * weight[i];
        }
        for (std::size_t x = 0; x < row_bytes; ++x) *to++ = rounded(sums[x]);
    }
}

void resize_along(Image& image, int width) {
    const auto channels = static_cast<std::size_t>(image.channels);
    std::vector<std::uint8_t> out(static_cast<std::size_t>(image.height) *
                                  static_cast<std::size_t>(width) * channels);
    constexpr std::array passes = {along<1>, along<2>, along<3>, along<4>};
    passes[channels - 1](image.pixels.data(), out.data(), image.height, image.width, width,
                         weights_of(image.width, width));
    image.pixels = std::move(out);
    image.width = width;
}

void resize_down(Image& image, int height) {
    const std::size_t row_bytes =
        static_cast<std::size_t>(image.width) * static_cast<std::size_t>(image.channels);
    std::vector<std::uint8_t> out(static_cast<std::size_t>(height) * row_bytes);
    down(image.pixels.data(), out.data(), height, row_bytes, weights_of(image.height, height));
    image.pixels = std::move(out);
    image.height = height;
}

/// Since Pillow 13: where that saves work. Which pass is first is seen in what is rounded.
bool goes_down_first(const Image& image, int height, int width) {
    const int shorter = image.height - height, narrower = image.width - width;
    return shorter > 0 && shorter > 2LL * narrower;
}

std::uint8_t product(int value, int alpha) {
    const int made = value * alpha + 128;
    return static_cast<std::uint8_t>(((made >> 8) + made) >> 8);
}

bool has_alpha(const Image& image) {
    return image.channels == 2 || image.channels == 4;
}

void weigh_by_alpha(Image& image) {
    const auto channels = static_cast<std::size_t>(image.channels);
    for (std::size_t at = 0; at < image.pixels.size(); at += channels) {
        const int alpha = image.pixels[at + channels - 1];
        for (std::size_t c = 0; c + 1 < channels; ++c) {
            image.pixels[at + c] = product(image.pixels[at + c], alpha);
        }
    }
}

void unweigh_by_alpha(Image& image) {
    const auto channels = static_cast<std::size_t>(image.channels);
    for (std::size_t at = 0; at < image.pixels.size(); at += channels) {
        const int alpha = image.pixels[at + channels - 1];
        if (alpha == 0 || alpha == 255) continue;
        for (std::size_t c = 0; c + 1 < channels; ++c) {
            image.pixels[at + c] =
                static_cast<std::uint8_t>(std::min(255 * image.pixels[at + c] / alpha, 255));
        }
    }
}

}  // namespace

Image resized(const Image& image, int height, int width) {
    if (image.channels < 1 || image.channels > kMostOfPillow) {
        throw Error("Got an image of " + std::to_string(image.channels) +
                    " channels to resize, expected 1 to 4.");
    }
    if (height == image.height && width == image.width) return image;
    Image made = image;
    if (has_alpha(image)) weigh_by_alpha(made);
    const bool down_first = goes_down_first(image, height, width);
    if (down_first) resize_down(made, height);
    if (width != image.width) resize_along(made, width);
    if (!down_first && height != image.height) resize_down(made, height);
    if (has_alpha(image)) unweigh_by_alpha(made);
    return made;
}

}  // namespace d2serve
