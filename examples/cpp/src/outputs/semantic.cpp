// A pixel's logits are a weighted mean of those of the four cells around it. So where a class is
// the highest in all four, it is the highest at every pixel between them: only pixels between cells
// that disagree are interpolated, bilinearly as PyTorch's interpolate does it
// (aten/src/ATen/native/UpSample.h). Of equal classes the first is taken.
#include "outputs/semantic.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "d2serve_cpp/error.h"

namespace d2serve {
namespace {

/// Which two cells each pixel of one axis lies between, and what they weigh.
struct Axis {
    Axis(std::size_t cells, int pixels) {
        const float scale = static_cast<float>(cells) / static_cast<float>(pixels);
        for (int i = 0; i < pixels; ++i) {
            const float place = std::max((static_cast<float>(i) + 0.5F) * scale - 0.5F, 0.0F);
            const std::size_t before = std::min(static_cast<std::size_t>(place), cells - 1);
            low.push_back(before);
            high.push_back(std::min(before + 1, cells - 1));
            of_high.push_back(std::clamp(place - static_cast<float>(before), 0.0F, 1.0F));
            of_low.push_back(1.0F - of_high.back());
        }
    }

    std::vector<std::size_t> low, high;
    std::vector<float> of_low, of_high;
};

/// The label of highest logit in each cell of the resized image.
std::vector<std::int32_t> labels_of_cells(const Logits& logits) {
    const std::size_t height = logits.used_height, width = logits.used_width;
    std::vector<std::int32_t> labels(height * width, 0);
    std::vector<float> highest(width);
    for (std::size_t y = 0; y < height; ++y) {
        bool all_numbers = true;
        for (std::size_t label = 0; label < logits.classes; ++label) {
            const float* row = logits.values + (label * logits.height + y) * logits.width;
            for (std::size_t x = 0; x < width; ++x) {
                all_numbers &= !std::isnan(row[x]);
                if (label == 0 || row[x] > highest[x]) {
                    highest[x] = row[x];
                    labels[y * width + x] = static_cast<std::int32_t>(label);
                }
            }
        }
        const auto is_finite = [](float each) { return std::isfinite(each); };
        if (!all_numbers || !std::all_of(highest.begin(), highest.end(), is_finite)) {
            throw Error(
                "The model answered a logit of sem_seg that is infinite or not a number. Its "
                "weights are probably damaged: compare it with `d2serve verify`.");
        }
    }
    return labels;
}

}  // namespace

LabelMap label_map(const Logits& logits, int height, int width) {
    const std::size_t rows_there = logits.used_height, columns_there = logits.used_width;
    const std::vector<std::int32_t> cells = labels_of_cells(logits);
    LabelMap made{height, width, {}};
    if (rows_there == static_cast<std::size_t>(height) &&
        columns_there == static_cast<std::size_t>(width)) {
        made.labels = cells;
        return made;
    }
    const Axis rows(rows_there, height), columns(columns_there, width);
    const std::size_t plane = logits.height * logits.width;
    made.labels.reserve(static_cast<std::size_t>(height) * width);
    for (int y = 0; y < height; ++y) {
        const std::int32_t* north = &cells[rows.low[y] * columns_there];
        const std::int32_t* south = &cells[rows.high[y] * columns_there];
        const float* upper = logits.values + rows.low[y] * logits.width;
        const float* lower = logits.values + rows.high[y] * logits.width;
        for (int x = 0; x < width; ++x) {
            const std::size_t west = columns.low[x], east = columns.high[x];
            const std::int32_t label = north[west];
            if (label == north[east] && label == south[west] && label == south[east]) {
                made.labels.push_back(label);
                continue;
            }
            const float of_west = columns.of_low[x], of_east = columns.of_high[x];
            float highest = 0;
            std::int32_t best = 0;
            for (std::size_t each = 0; each < logits.classes; ++each) {
                const float* up = upper + each * plane;
                const float* down = lower + each * plane;
                const float above = up[west] * of_west + up[east] * of_east;
                const float below = down[west] * of_west + down[east] * of_east;
                const float value = above * rows.of_low[y] + below * rows.of_high[y];
                if (each == 0 || value > highest) {
                    highest = value;
                    best = static_cast<std::int32_t>(each);
                }
            }
            made.labels.push_back(best);
        }
    }
    return made;
}

}  // namespace d2serve
