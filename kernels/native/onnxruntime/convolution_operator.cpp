// The convolution as a custom operator of ONNX Runtime, d2serve.Convolution.
//
// d2serve.kernels.onnxruntime puts it into a program while it is loaded. Its attributes are numbers:
// the address of a d2k_layer in this process, which whoever made the session keeps alive, and how
// many threads may work.

#include <new>

#include "../d2serve_kernels.h"
#include "operators.h"

namespace d2k::ort {
namespace {

struct Kernel {
  const Api* api;
  const d2k_layer* layer;
  std::int32_t threads;
};

Status* create(const CustomOp*, const Api* api, const KernelInfo* info, void** made) {
  std::int64_t address = 0, threads = 1;
  if (Status* failed = integer_attribute(api, info, "layer", &address)) return failed;
  if (Status* failed = integer_attribute(api, info, "threads", &threads)) return failed;
  const auto* layer = reinterpret_cast<const d2k_layer*>(static_cast<std::uintptr_t>(address));
  *made = new (std::nothrow) Kernel{api, layer, static_cast<std::int32_t>(threads)};
  return *made ? nullptr : create_status(api, FAIL, "No memory is left for d2serve.Convolution.");
}

Status* compute(void* given, KernelContext* context) {
  const Kernel& kernel = *static_cast<const Kernel*>(given);
  const Api* api = kernel.api;
  Input images;
  if (Status* failed = read(api, context, 0, images)) return failed;
  if (images.rank != 4)
    return create_status(api, INVALID_ARGUMENT, "Expected images as (N, C, H, W).");
  std::int64_t(&sides)[4] = images.sides;
  if (sides[1] != kernel.layer->ins)
    return create_status(api, INVALID_ARGUMENT, "The images have another number of channels than "
                                                "the weights of d2serve.Convolution.");
  sides[1] = kernel.layer->outs;
  Value* result = nullptr;
  if (Status* failed = make_output(api, context, 0, sides, 4, &result)) return failed;
  void* to = nullptr;
  if (Status* failed = data_of(api, result, &to)) return failed;
  const std::int32_t status =
      d2k_convolve(kernel.layer, images.floats(), static_cast<float*>(to), sides[0], sides[2],
                   sides[3], kernel.threads);
  if (status == D2K_OK) return nullptr;
  return create_status(api, FAIL, status == D2K_NO_MEMORY
                                      ? "No memory is left for d2serve.Convolution."
                                      : "d2serve.Convolution cannot take images of this size.");
}

}  // namespace

CustomOp convolution_operator() {
  CustomOp op = operator_of_floats();
  op.get_name = [](const CustomOp*) { return "Convolution"; };
  op.destroy = [](void* kernel) { delete static_cast<Kernel*>(kernel); };
  op.create_kernel_with_status = create;
  op.compute_with_status = compute;
  return op;
}

}  // namespace d2k::ort
