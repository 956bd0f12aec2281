// The operators of torchvision that detectron2's programs call, registered under its names. So a
// TorchScript program runs without torchvision, whose library needs Python.
//
// They compute what torchvision's do on a CPU, in its order of operations
// (torchvision/csrc/ops/cpu/nms_kernel.cpp and roi_align_kernel.cpp).
#include <ATen/Parallel.h>
#include <torch/library.h>
#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "engines/deformable_convolution.h"

namespace d2serve {
namespace {

/// Indices of the boxes (N, 4) that overlap none of higher score by more than the threshold, by
/// falling score.
torch::Tensor nms(const torch::Tensor& boxes, const torch::Tensor& scores, double iou_threshold) {
    TORCH_CHECK(boxes.dim() == 2 && boxes.size(1) == 4 && scores.dim() == 1 &&
                    scores.size(0) == boxes.size(0),
                "nms takes boxes (N, 4) and scores (N,), got ", boxes.sizes(), " and ",
                scores.sizes());
    const torch::Tensor order =
        std::get<1>(scores.sort(/*stable=*/true, /*dim=*/0, /*descending=*/true));
    const torch::Tensor sorted = boxes.to(torch::kFloat).index_select(0, order).contiguous();
    const auto box = sorted.accessor<float, 2>();
    const std::int64_t count = boxes.size(0);
    std::vector<float> areas(count);
    for (std::int64_t i = 0; i < count; ++i) {
        areas[i] = (box[i][2] - box[i][0]) * (box[i][3] - box[i][1]);
    }
    std::vector<bool> suppressed(count, false);
    std::vector<std::int64_t> kept;
    for (std::int64_t i = 0; i < count; ++i) {
        if (suppressed[i]) continue;
        kept.push_back(i);
        for (std::int64_t j = i + 1; j < count; ++j) {
            if (suppressed[j]) continue;
            const float width =
                std::max(0.0F, std::min(box[i][2], box[j][2]) - std::max(box[i][0], box[j][0]));
            const float height =
                std::max(0.0F, std::min(box[i][3], box[j][3]) - std::max(box[i][1], box[j][1]));
            const float inside = width * height;
            suppressed[j] = inside / (areas[i] + areas[j] - inside) > iou_threshold;
        }
    }
    return order.index_select(0, torch::tensor(kept, torch::kLong));
}

/// A point between four pixels of a map, and what each of them weighs.
struct Sample {
    std::int64_t pixel[4] = {0, 0, 0, 0};
    float weight[4] = {0, 0, 0, 0};
};

Sample sample_at(float y, float x, std::int64_t height, std::int64_t width) {
    const auto h = static_cast<float>(height), w = static_cast<float>(width);
    if (!(y >= -1.0F && y <= h && x >= -1.0F && x <= w)) return {};  // outside everything is zero
    const auto neighbours = [](float& place, std::int64_t size) {
        place = std::max(place, 0.0F);
        std::int64_t low = static_cast<std::int64_t>(place);
        if (low < size - 1) return std::pair(low, low + 1);
        place = static_cast<float>(size - 1);
        return std::pair(size - 1, size - 1);
    };
    const auto [north, south] = neighbours(y, height);
    const auto [west, east] = neighbours(x, width);
    const float of_south = y - static_cast<float>(north), of_north = 1.0F - of_south;
    const float of_east = x - static_cast<float>(west), of_west = 1.0F - of_east;
    return {{north * width + west, north * width + east, south * width + west,
             south * width + east},
            {of_north * of_west, of_north * of_east, of_south * of_west, of_south * of_east}};
}

/// What ROIAlign is asked for.
struct Pooling {
    float scale;
    std::int64_t height, width, sampling_ratio;
    bool aligned;
};

/// The points at which a region (5,), an image's index and a box, is sampled: `per_bin` of each bin,
/// bin after bin.
std::vector<Sample> samples_of(const float* roi, const Pooling& pooling, std::int64_t height,
                               std::int64_t width, std::int64_t& per_bin) {
    const float offset = pooling.aligned ? 0.5F : 0.0F;
    const float left = roi[1] * pooling.scale - offset, top = roi[2] * pooling.scale - offset;
    float across = roi[3] * pooling.scale - offset - left;
    float down = roi[4] * pooling.scale - offset - top;
    if (!pooling.aligned) {
        across = std::max(across, 1.0F);
        down = std::max(down, 1.0F);
    }
    const float bin_height = down / static_cast<float>(pooling.height);
    const float bin_width = across / static_cast<float>(pooling.width);
    const auto grid = [&](float size, std::int64_t bins) {
        if (pooling.sampling_ratio > 0) return pooling.sampling_ratio;
        return static_cast<std::int64_t>(std::ceil(size / static_cast<float>(bins)));
    };
    const std::int64_t rows = std::max<std::int64_t>(grid(down, pooling.height), 0);
    const std::int64_t columns = std::max<std::int64_t>(grid(across, pooling.width), 0);
    per_bin = rows * columns;
    std::vector<Sample> samples;
    samples.reserve(static_cast<std::size_t>(pooling.height * pooling.width * per_bin));
    for (std::int64_t bin = 0; bin < pooling.height * pooling.width; ++bin) {
        const auto bin_y = static_cast<float>(bin / pooling.width);
        const auto bin_x = static_cast<float>(bin % pooling.width);
        for (std::int64_t i = 0; i < per_bin; ++i) {
            const auto row = static_cast<float>(i / columns) + 0.5F;
            const auto column = static_cast<float>(i % columns) + 0.5F;
            const float y =
                top + bin_y * bin_height + row * bin_height / static_cast<float>(rows);
            const float x =
                left + bin_x * bin_width + column * bin_width / static_cast<float>(columns);
            samples.push_back(sample_at(y, x, height, width));
        }
    }
    return samples;
}

/// Mean features (N, C, height, width) of regions (N, 5) of maps (B, C, H, W).
torch::Tensor roi_align(const torch::Tensor& input, const torch::Tensor& rois, double scale,
                        std::int64_t pooled_height, std::int64_t pooled_width,
                        std::int64_t sampling_ratio, bool aligned) {
    TORCH_CHECK(input.dim() == 4 && rois.dim() == 2 && rois.size(1) == 5,
                "roi_align takes maps (B, C, H, W) and regions (N, 5), got ", input.sizes(),
                " and ", rois.sizes());
    const Pooling pooling{static_cast<float>(scale), pooled_height, pooled_width, sampling_ratio,
                          aligned};
    const torch::Tensor maps = input.to(torch::kFloat).contiguous();
    const torch::Tensor regions = rois.to(torch::kFloat).contiguous();
    const std::int64_t channels = maps.size(1), height = maps.size(2), width = maps.size(3);
    const std::int64_t bins = pooled_height * pooled_width, plane = height * width;
    torch::Tensor pooled =
        torch::zeros({regions.size(0), channels, pooled_height, pooled_width}, maps.options());
    const auto work = [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t n = begin; n < end; ++n) {
            const float* roi = regions.const_data_ptr<float>() + n * 5;
            const auto image = static_cast<std::int64_t>(roi[0]);
            TORCH_CHECK(image >= 0 && image < maps.size(0), "roi_align: no image ", image);
            std::int64_t per_bin = 0;
            const std::vector<Sample> samples = samples_of(roi, pooling, height, width, per_bin);
            const auto count = static_cast<float>(std::max<std::int64_t>(per_bin, 1));
            const float* map = maps.const_data_ptr<float>() + image * channels * plane;
            float* out = pooled.mutable_data_ptr<float>() + n * channels * bins;
            for (std::int64_t channel = 0; channel < channels; ++channel, map += plane) {
                const Sample* sample = samples.data();
                for (std::int64_t bin = 0; bin < bins; ++bin) {
                    float sum = 0;
                    for (std::int64_t i = 0; i < per_bin; ++i, ++sample) {
                        sum += sample->weight[0] * map[sample->pixel[0]] +
                               sample->weight[1] * map[sample->pixel[1]] +
                               sample->weight[2] * map[sample->pixel[2]] +
                               sample->weight[3] * map[sample->pixel[3]];
                    }
                    *out++ = sum / count;
                }
            }
        }
    };
    at::parallel_for(0, regions.size(0), 1, work);
    return pooled.to(input.scalar_type());
}

}  // namespace

TORCH_LIBRARY(torchvision, library) {
    library.def("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor");
    library.def(
        "roi_align(Tensor input, Tensor rois, float spatial_scale, int pooled_height, "
        "int pooled_width, int sampling_ratio, bool aligned) -> Tensor");
    library.def(
        "deform_conv2d(Tensor input, Tensor weight, Tensor offset, Tensor mask, Tensor bias, "
        "int stride_h, int stride_w, int pad_h, int pad_w, int dilation_h, int dilation_w, "
        "int groups, int offset_groups, bool use_mask) -> Tensor");
}

TORCH_LIBRARY_IMPL(torchvision, CPU, library) {
    library.impl("nms", nms);
    library.impl("roi_align", roi_align);
    library.impl("deform_conv2d", deform_conv2d);
}

}  // namespace d2serve
