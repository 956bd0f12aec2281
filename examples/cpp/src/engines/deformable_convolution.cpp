// As torchvision does it on a CPU (torchvision/csrc/ops/cpu/deform_conv2d_kernel.cpp): the moved
// taps are gathered into columns, and the convolution is a product of matrices.
#include "engines/deformable_convolution.h"

#include <ATen/Parallel.h>

#include <cmath>

namespace d2serve {
namespace {

/// A map's value between its pixels; beyond its border it is zero.
float bilinear(const float* map, std::int64_t height, std::int64_t width, float y, float x) {
    if (!(y > -1.0F && y < static_cast<float>(height) && x > -1.0F &&
          x < static_cast<float>(width))) {
        return 0.0F;
    }
    const auto top = static_cast<std::int64_t>(std::floor(y));
    const auto left = static_cast<std::int64_t>(std::floor(x));
    const float of_south = y - static_cast<float>(top), of_north = 1.0F - of_south;
    const float of_east = x - static_cast<float>(left), of_west = 1.0F - of_east;
    const auto at = [&](std::int64_t row, std::int64_t column) {
        const bool inside = row >= 0 && row < height && column >= 0 && column < width;
        return inside ? map[row * width + column] : 0.0F;
    };
    return of_north * of_west * at(top, left) + of_north * of_east * at(top, left + 1) +
           of_south * of_west * at(top + 1, left) + of_south * of_east * at(top + 1, left + 1);
}

}  // namespace

torch::Tensor deform_conv2d(const torch::Tensor& input, const torch::Tensor& weight,
                            const torch::Tensor& offset, const torch::Tensor& mask,
                            const torch::Tensor& bias, std::int64_t stride_y,
                            std::int64_t stride_x, std::int64_t pad_y, std::int64_t pad_x,
                            std::int64_t dilation_y, std::int64_t dilation_x, std::int64_t groups,
                            std::int64_t offset_groups, bool use_mask) {
    const std::int64_t batch = input.size(0), channels = input.size(1);
    const std::int64_t height = input.size(2), width = input.size(3);
    const std::int64_t kernel_y = weight.size(2), kernel_x = weight.size(3);
    const std::int64_t taps = kernel_y * kernel_x, out_channels = weight.size(0);
    const auto out_size = [](std::int64_t size, std::int64_t pad, std::int64_t dilation,
                             std::int64_t kernel, std::int64_t stride) {
        return (size + 2 * pad - (dilation * (kernel - 1) + 1)) / stride + 1;
    };
    const std::int64_t rows = out_size(height, pad_y, dilation_y, kernel_y, stride_y);
    const std::int64_t columns = out_size(width, pad_x, dilation_x, kernel_x, stride_x);
    TORCH_CHECK(offset.dim() == 4 && offset.size(1) == 2 * offset_groups * taps &&
                    offset.size(2) == rows && offset.size(3) == columns,
                "deform_conv2d takes offsets [", 2 * offset_groups * taps, ", ", rows, ", ",
                columns, "], got ", offset.sizes());
    TORCH_CHECK(!use_mask || (mask.dim() == 4 && mask.size(1) == offset_groups * taps &&
                              mask.size(2) == rows && mask.size(3) == columns),
                "deform_conv2d takes one weight for each tap, got ", mask.sizes());
    const torch::Tensor maps = input.contiguous(), moves = offset.contiguous();
    const torch::Tensor weights = mask.contiguous();
    const std::int64_t pixels = rows * columns, of_group = channels / offset_groups;
    torch::Tensor gathered = torch::empty({channels, taps, pixels}, maps.options());
    std::vector<torch::Tensor> answers;
    for (std::int64_t image = 0; image < batch; ++image) {
        const float* moved = moves.const_data_ptr<float>() + image * moves.stride(0);
        const float* modulated =
            use_mask ? weights.const_data_ptr<float>() + image * weights.stride(0) : nullptr;
        at::parallel_for(0, channels, 1, [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t channel = begin; channel < end; ++channel) {
                const float* map =
                    maps.const_data_ptr<float>() + (image * channels + channel) * height * width;
                float* out = gathered.mutable_data_ptr<float>() + channel * taps * pixels;
                for (std::int64_t each = 0; each < taps * pixels; ++each) {
                    const std::int64_t tap = each / pixels, pixel = each % pixels;
                    const std::int64_t place = channel / of_group * taps + tap;
                    const float* move = moved + 2 * place * pixels + pixel;
                    const auto y = static_cast<float>(pixel / columns * stride_y - pad_y +
                                                      tap / kernel_x * dilation_y);
                    const auto x = static_cast<float>(pixel % columns * stride_x - pad_x +
                                                      tap % kernel_x * dilation_x);
                    const float value =
                        bilinear(map, height, width, y + move[0], x + move[pixels]);
                    out[each] = use_mask ? modulated[place * pixels + pixel] * value : value;
                }
            }
        });
        const torch::Tensor grouped = gathered.view({groups, channels / groups * taps, pixels});
        const torch::Tensor kernels = weight.reshape({groups, out_channels / groups, -1});
        answers.push_back(torch::bmm(kernels, grouped).view({out_channels, rows, columns}));
    }
    return torch::stack(answers) + bias.view({1, out_channels, 1, 1});
}

}  // namespace d2serve
