// A convolution of the native library as an operator: what both sizes of it have in common.
//
// Its attributes are numbers: the address of the layer in this process, which whoever made the session
// keeps alive, and how many threads may work.
#pragma once

#include <cstdint>
#include <new>

#include "../d2serve_kernels.h"
#include "operators.h"

namespace d2k::ort {

template <typename Layer>
struct LayerKernel {
  const Api* api;
  const Layer* layer;
  std::int32_t threads;

  Status* read_attributes(const Api* of, const KernelInfo* info) {
    std::int64_t address = 0, number = 1;
    if (Status* failed = integer_attribute(of, info, "layer", &address)) return failed;
    if (Status* failed = integer_attribute(of, info, "threads", &number)) return failed;
    api = of, threads = static_cast<std::int32_t>(number);
    layer = reinterpret_cast<const Layer*>(static_cast<std::uintptr_t>(address));
    return nullptr;
  }

  static Status* create(const CustomOp*, const Api* api, const KernelInfo* info, void** made) {
    LayerKernel kernel{};
    if (Status* failed = kernel.read_attributes(api, info)) return failed;
    *made = new (std::nothrow) LayerKernel(kernel);
    return *made ? nullptr : kernel.told(D2K_NO_MEMORY);
  }

  static void destroy(void* kernel) { delete static_cast<LayerKernel*>(kernel); }

  // Reads the images that the layer is to convolve.
  Status* read_images(const KernelContext* context, Input& images) const {
    if (Status* failed = read(api, context, 0, images)) return failed;
    if (images.rank != 4)
      return create_status(api, INVALID_ARGUMENT, "Expected images as (N, C, H, W).");
    if (images.sides[1] == layer->ins) return nullptr;
    return create_status(api, INVALID_ARGUMENT, "The images have another number of channels than "
                                                "the weights of a layer of d2serve.");
  }

  Status* told(std::int32_t status) const {
    if (status == D2K_OK) return nullptr;
    return create_status(api, FAIL, status == D2K_NO_MEMORY
                                        ? "No memory is left for a layer of d2serve."
                                        : "A layer of d2serve cannot take images of this size.");
  }
};

// Makes the operator's result; `data` is where to write it.
inline Status* make_floats(const Api* api, KernelContext* context, const std::int64_t* sides,
                           std::size_t rank, float** data) {
  Value* result = nullptr;
  if (Status* failed = make_output(api, context, 0, sides, rank, &result)) return failed;
  void* to = nullptr;
  if (Status* failed = data_of(api, result, &to)) return failed;
  *data = static_cast<float*>(to);
  return nullptr;
}

template <typename Kernel>
CustomOp operator_of_a_layer() {
  CustomOp op = operator_of_floats();
  op.create_kernel_with_status = Kernel::create;
  op.destroy = Kernel::destroy;
  return op;
}

}  // namespace d2k::ort
