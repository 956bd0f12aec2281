#include "outputs/panoptic.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "outputs/rle.h"

namespace d2serve {
namespace {

/// Calls `paint(pixel)` with each pixel of a mask, `x * height + y`.
template <class Paint>
void each_pixel(const std::vector<std::int64_t>& lengths, const Paint& paint) {
    std::int64_t pixel = 0;
    for (std::size_t i = 0; i < lengths.size(); ++i) {
        const std::int64_t end = pixel + lengths[i];
        if (i % 2) {
            for (std::int64_t each = pixel; each < end; ++each) paint(each);
        }
        pixel = end;
    }
}

/// Paints into a map that is laid out by columns, as the runs of masks are.
void paint_things(std::vector<std::int32_t>& by_column, const Instances& instances,
                  const PanopticMerge& thresholds, std::vector<Segment>& segments) {
    for (std::size_t i = 0; instances.masks && i < instances.masks->size(); ++i) {
        const float score = instances.scores[i];
        if (static_cast<double>(score) < thresholds.instances_confidence_thresh) break;
        const std::vector<std::int64_t> lengths = run_lengths((*instances.masks)[i]);
        std::int64_t area = 0, overlap = 0;
        each_pixel(lengths, [&](std::int64_t pixel) {
            ++area;
            overlap += by_column[pixel] != 0;
        });
        if (area == 0) continue;
        const double share = static_cast<double>(overlap) / static_cast<double>(area);
        if (share > thresholds.overlap_thresh) continue;
        const auto number = static_cast<std::int32_t>(segments.size() + 1);
        each_pixel(lengths, [&](std::int64_t pixel) {
            if (by_column[pixel] == 0) by_column[pixel] = number;
        });
        segments.push_back({number, instances.classes[i], true, area - overlap, score,
                            static_cast<std::int64_t>(i), {}});
    }
}

void paint_stuff(LabelMap& map, const LabelMap& sem_seg, std::int64_t area_limit,
                 std::vector<Segment>& segments) {
    const std::int32_t highest =
        *std::max_element(sem_seg.labels.begin(), sem_seg.labels.end());
    std::vector<std::int64_t> areas(static_cast<std::size_t>(highest) + 1, 0);
    std::vector<bool> present(areas.size(), false);
    for (std::size_t i = 0; i < map.labels.size(); ++i) {
        present[sem_seg.labels[i]] = true;
        areas[sem_seg.labels[i]] += map.labels[i] == 0;
    }
    std::vector<std::int32_t> number_of(areas.size(), 0);
    for (std::size_t label = 1; label < areas.size(); ++label) {
        if (!present[label] || areas[label] < area_limit) continue;
        number_of[label] = static_cast<std::int32_t>(segments.size() + 1);
        segments.push_back({number_of[label], static_cast<std::int64_t>(label), false,
                            areas[label], {}, {}, {}});
    }
    for (std::size_t i = 0; i < map.labels.size(); ++i) {
        if (map.labels[i] == 0) map.labels[i] = number_of[sem_seg.labels[i]];
    }
}

}  // namespace

Panoptic merge(const Instances& instances, const LabelMap& sem_seg,
               const PanopticMerge& thresholds) {
    const std::size_t height = sem_seg.height, width = sem_seg.width;
    std::vector<std::int32_t> by_column(height * width, 0);
    Panoptic made{{sem_seg.height, sem_seg.width, std::vector<std::int32_t>(height * width)}, {}};
    paint_things(by_column, instances, thresholds, made.segments);
    for (std::size_t x = 0; x < width; ++x) {
        for (std::size_t y = 0; y < height; ++y) {
            made.map.labels[y * width + x] = by_column[x * height + y];
        }
    }
    paint_stuff(made.map, sem_seg, thresholds.stuff_area_limit, made.segments);
    return made;
}

}  // namespace d2serve
