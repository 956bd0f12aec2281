// torchvision::deform_conv2d, which a TorchScript program with deformable convolutions calls.
#pragma once

#include <torch/types.h>

#include <cstdint>

namespace d2serve {

/// Deformable convolution, modulated by `mask` where `use_mask` says so: each tap of the kernel is
/// read where `offset` moves it. Shapes are those of torchvision.ops.deform_conv2d.
torch::Tensor deform_conv2d(const torch::Tensor& input, const torch::Tensor& weight,
                            const torch::Tensor& offset, const torch::Tensor& mask,
                            const torch::Tensor& bias, std::int64_t stride_y,
                            std::int64_t stride_x, std::int64_t pad_y, std::int64_t pad_x,
                            std::int64_t dilation_y, std::int64_t dilation_x, std::int64_t groups,
                            std::int64_t offset_groups, bool use_mask);

}  // namespace d2serve
