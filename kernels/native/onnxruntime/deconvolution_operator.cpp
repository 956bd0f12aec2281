// A deconvolution of 2x2 with the 1x1 convolution after it as a custom operator of ONNX Runtime,
// d2serve.Deconvolution.
//
// Each pixel gives two by two, by four matrices, and what the 1x1 convolution makes of a pixel does not
// depend on where it lies. So the four stay images of their own, which are small enough to stay in a
// cache, and only what the 1x1 convolution gives is put in its place.

#include <memory>

#include "layer_kernel.h"

namespace d2k::ort {
namespace {

// Its layer gives all four, one after the other; `then` takes each.
struct Kernel : LayerKernel<d2k_point_layer> {
  const d2k_point_layer* then;
};

Status* create(const CustomOp*, const Api* api, const KernelInfo* info, void** made) {
  Kernel kernel{};
  if (Status* failed = kernel.read_attributes(api, info)) return failed;
  std::int64_t address = 0;
  if (Status* failed = integer_attribute(api, info, "then", &address)) return failed;
  kernel.then = reinterpret_cast<const d2k_point_layer*>(static_cast<std::uintptr_t>(address));
  *made = new (std::nothrow) Kernel(kernel);
  return *made ? nullptr : kernel.told(D2K_NO_MEMORY);
}

// from: (2, 2, outs, height, width); to: (outs, 2 height, 2 width).
void put_in_place(const float* from, std::int64_t outs, std::int64_t height, std::int64_t width,
                  float* to) {
  const std::int64_t size = outs * height * width;
  for (std::int64_t row = 0; row < outs * height; ++row)
    for (std::int64_t below = 0; below < 2; ++below, to += 2 * width) {
      const float* left = from + 2 * below * size + row * width;
      for (std::int64_t x = 0; x < width; ++x) to[2 * x] = left[x], to[2 * x + 1] = left[size + x];
    }
}

Status* compute(void* given, KernelContext* context) {
  const Kernel& kernel = *static_cast<const Kernel*>(given);
  Input images;
  if (Status* failed = kernel.read_images(context, images)) return failed;
  const std::int64_t height = images.sides[2], width = images.sides[3], outs = kernel.then->outs;
  const std::int64_t sides[4] = {images.sides[0], outs, 2 * height, 2 * width};
  float* result = nullptr;
  if (Status* failed = make_floats(kernel.api, context, sides, 4, &result)) return failed;
  if (images.sides[0] == 0) return nullptr;
  const std::int64_t pixels = height * width, hidden = kernel.layer->outs;
  const std::unique_ptr<float[]> memory(new (std::nothrow) float[(hidden + 4 * outs) * pixels]);
  if (!memory) return kernel.told(D2K_NO_MEMORY);
  float *const four = memory.get(), *const answers = four + hidden * pixels;
  for (std::int64_t image = 0; image < images.sides[0]; ++image) {
    std::int32_t status =
        d2k_convolve_points(kernel.layer, images.floats() + image * kernel.layer->ins * pixels,
                            nullptr, four, 1, height, width, kernel.threads);
    if (status == D2K_OK)
      status = d2k_convolve_points(kernel.then, four, nullptr, answers, 4, height, width,
                                   kernel.threads);
    if (status != D2K_OK) return kernel.told(status);
    put_in_place(answers, outs, height, width, result + image * 4 * outs * pixels);
  }
  return nullptr;
}

}  // namespace

CustomOp deconvolution_operator() {
  CustomOp op = operator_of_floats();
  op.get_name = [](const CustomOp*) { return "Deconvolution"; };
  op.create_kernel_with_status = create;
  op.destroy = [](void* kernel) { delete static_cast<Kernel*>(kernel); };
  op.compute_with_status = compute;
  return op;
}

}  // namespace d2k::ort
