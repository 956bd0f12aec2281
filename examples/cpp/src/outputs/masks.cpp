// Down a column of the image a pasted mask is linear between the centres of two neighbouring cells.
// So where the mask is on one side of the threshold at both, it is there at each pixel between, and
// only the other pixels are worked out. Those are computed in the order of operations of PyTorch's
// grid_sample (aten/src/ATen/native/cpu/GridSamplerKernel.cpp), with its fused multiply-add.
#include "outputs/masks.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "outputs/rle.h"

namespace d2serve {
namespace {

// Two orders of float32 arithmetic on weights in [0, 1] differ by about 1e-6 at most.
constexpr float kRounding = 4e-6F;

// Zero cells before a mask; two follow it, so that every pixel has two neighbours.
constexpr std::size_t kBorder = 1;

/// How one axis of a crop samples its mask: `_do_paste_mask` in one dimension.
struct Axis {
    Axis(float low, float high, int length, std::size_t cells)
        : start(std::max(static_cast<int>(std::floor(low)) - 1, 0)),
          stop(std::max(std::min(static_cast<int>(std::ceil(high)) + 1, length), start)) {
        for (int pixel = start; pixel < stop; ++pixel) {
            const float centre = static_cast<float>(pixel) + 0.5F;
            // A box narrower than 1e-30 pixels sends this to infinity.
            const float normalised = (centre - low) / (high - low) * 2.0F - 1.0F;
            const float place =
                std::fma(normalised + 1.0F, static_cast<float>(cells) / 2.0F, -0.5F);
            // Beyond the mask everything is zero, however far.
            const float position = std::clamp(place, -1.0F, static_cast<float>(cells));
            const float floor = std::floor(position);
            cell.push_back(static_cast<std::size_t>(static_cast<std::int64_t>(floor) + 1));
            upper.push_back(position - floor);
            lower.push_back(1.0F - (position - floor));
        }
    }

    int start, stop;
    std::vector<std::size_t> cell;    // into the bordered mask, of the neighbour before
    std::vector<float> lower, upper;  // what that neighbour weighs, and the next
};

}  // namespace

Rle encode_mask(const float* mask, std::size_t cells, const float* box, int height, int width,
                float threshold) {
    const std::size_t side = kBorder + cells + 2;
    std::vector<float> bordered(side * side, 0.0F);
    for (std::size_t y = 0; y < cells; ++y) {
        std::copy_n(mask + y * cells, cells, &bordered[(y + kBorder) * side + kBorder]);
    }
    const Axis columns(box[0], box[2], width, cells), rows(box[1], box[3], height, cells);
    std::vector<float> knots(side);
    RunLengths runs;
    for (int x = columns.start; x < columns.stop; ++x) {
        const std::size_t west = columns.cell[x - columns.start];
        const float of_west = columns.lower[x - columns.start];
        const float of_east = columns.upper[x - columns.start];
        for (std::size_t y = 0; y < side; ++y) {
            const float* two = &bordered[y * side + west];
            knots[y] = of_west * two[0] + of_east * two[1] - threshold;
        }
        const std::int64_t top = static_cast<std::int64_t>(x) * height;
        for (int y = rows.start; y < rows.stop;) {
            const std::size_t row = static_cast<std::size_t>(y - rows.start);
            const std::size_t north = rows.cell[row];
            int next = y + 1;
            while (next < rows.stop && rows.cell[next - rows.start] == north) ++next;
            const float one = knots[north], other = knots[north + 1];
            if ((one > kRounding && other > kRounding) ||
                (one < -kRounding && other < -kRounding)) {
                runs.set(top + y, one > 0);
                y = next;
                continue;
            }
            const float* above = &bordered[north * side + west];
            const float* below = above + side;
            for (; y < next; ++y) {
                const float of_north = rows.lower[y - rows.start];
                const float of_south = rows.upper[y - rows.start];
                float total = above[0] * (of_north * of_west);
                total = std::fma(above[1], of_north * of_east, total);
                total = std::fma(below[0], of_south * of_west, total);
                total = std::fma(below[1], of_south * of_east, total);
                runs.set(top + y, total >= threshold);
            }
        }
        runs.set(top + rows.stop, false);
    }
    return runs.rle(height, width);
}

}  // namespace d2serve
