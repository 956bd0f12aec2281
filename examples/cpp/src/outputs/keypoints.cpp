// The order of operations is that of PyTorch's interpolate (aten/src/ATen/native/UpSample.h): along
// the rows first, then down the columns.
#include "outputs/keypoints.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

namespace d2serve {
namespace {

constexpr float kA = -0.75F;  // of the cubic convolution kernel, in PyTorch

float inner(float x) { return ((kA + 2) * x - (kA + 3)) * x * x + 1; }
float outer(float x) { return ((kA * x - 5 * kA) * x + 8 * kA) * x - 4 * kA; }

/// Four cells for each pixel of one axis, and what they weigh; the border is repeated.
struct Taps {
    Taps(std::size_t cells, std::size_t pixels) : cell(pixels), weight(pixels) {
        const float scale = static_cast<float>(cells) / static_cast<float>(pixels);
        for (std::size_t i = 0; i < pixels; ++i) {
            const float centre = (static_cast<float>(i) + 0.5F) * scale - 0.5F;
            const float first = std::floor(centre), offset = centre - first;
            weight[i] = {outer(offset + 1), inner(offset), inner(1 - offset), outer(2 - offset)};
            for (int step = 0; step < 4; ++step) {
                const long place = static_cast<long>(first) + step - 1;
                cell[i][step] =
                    static_cast<std::size_t>(std::clamp(place, 0L, static_cast<long>(cells) - 1));
            }
        }
    }

    std::vector<std::array<std::size_t, 4>> cell;
    std::vector<std::array<float, 4>> weight;
};

}  // namespace

void keypoints_of(const float* heatmaps, std::size_t kinds, std::size_t side, const float* box,
                  float* keypoints) {
    const float sizes[2] = {std::max(box[2] - box[0], 1.0F), std::max(box[3] - box[1], 1.0F)};
    const std::size_t width = static_cast<std::size_t>(std::ceil(sizes[0]));
    const std::size_t height = static_cast<std::size_t>(std::ceil(sizes[1]));
    const Taps columns(side, width), rows(side, height);
    std::vector<float> widened(side * width);
    for (std::size_t kind = 0; kind < kinds; ++kind) {
        const float* map = heatmaps + kind * side * side;
        for (std::size_t y = 0; y < side; ++y) {
            for (std::size_t x = 0; x < width; ++x) {
                const auto& cell = columns.cell[x];
                const auto& weight = columns.weight[x];
                const float* row = map + y * side;
                widened[y * width + x] = row[cell[0]] * weight[0] + row[cell[1]] * weight[1] +
                                         row[cell[2]] * weight[2] + row[cell[3]] * weight[3];
            }
        }
        float top = 0;
        std::size_t peak = 0;
        for (std::size_t y = 0; y < height; ++y) {
            const auto& cell = rows.cell[y];
            const auto& weight = rows.weight[y];
            const float* lines[4];
            for (int step = 0; step < 4; ++step) lines[step] = &widened[cell[step] * width];
            for (std::size_t x = 0; x < width; ++x) {
                const float value = lines[0][x] * weight[0] + lines[1][x] * weight[1] +
                                    lines[2][x] * weight[2] + lines[3][x] * weight[3];
                if (value > top || (x == 0 && y == 0)) {
                    top = value;
                    peak = y * width + x;
                }
            }
        }
        float* found = keypoints + kind * 3;
        const std::size_t place[2] = {peak % width, peak / width};
        for (int axis = 0; axis < 2; ++axis) {
            const float correction = sizes[axis] / std::ceil(sizes[axis]);
            found[axis] = (static_cast<float>(place[axis]) + 0.5F) * correction + box[axis];
        }
        // detectron2 divides the enlarged map's softmax numerator, 1 at the peak, by the heatmap's.
        double total = 0;
        for (std::size_t i = 0; i < side * side; ++i) total += std::exp(map[i] - top);
        found[2] = static_cast<float>(1 / total);
    }
}

}  // namespace d2serve
