// A 3x3 convolution as a custom operator of ONNX Runtime, d2serve.Convolution.
//
// d2serve.kernels.onnxruntime puts it into a program while it is loaded.

#include "layer_kernel.h"

namespace d2k::ort {
namespace {

using Kernel = LayerKernel<d2k_layer>;

Status* compute(void* given, KernelContext* context) {
  const Kernel& kernel = *static_cast<const Kernel*>(given);
  Input images;
  if (Status* failed = kernel.read_images(context, images)) return failed;
  const std::int64_t sides[4] = {images.sides[0], kernel.layer->outs, images.sides[2],
                                 images.sides[3]};
  float* result = nullptr;
  if (Status* failed = make_floats(kernel.api, context, sides, 4, &result)) return failed;
  return kernel.told(d2k_convolve(kernel.layer, images.floats(), result, sides[0], sides[2], sides[3],
                                  kernel.threads));
}

}  // namespace

CustomOp convolution_operator() {
  CustomOp op = operator_of_a_layer<Kernel>();
  op.get_name = [](const CustomOp*) { return "Convolution"; };
  op.compute_with_status = compute;
  return op;
}

}  // namespace d2k::ort
