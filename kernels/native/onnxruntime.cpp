// The convolution as a custom operator of ONNX Runtime, d2serve.Convolution.
//
// d2serve.kernels.onnxruntime puts it into a program while it is loaded. Its attributes are numbers:
// the address of a d2k_layer in this process, which whoever made the session keeps alive, and how
// many threads may work. Nothing is thrown into ONNX Runtime: what goes wrong is told by a status.

#include <cstdint>
#include <memory>
#include <new>

#include "d2serve_kernels.h"
#include "onnxruntime_api.h"

namespace {

using namespace d2k::ort;

struct Kernel {
  const Api* api;
  const d2k_layer* layer;
  std::int32_t threads;
};

struct Release {
  const Api* api;
  void operator()(Shape* shape) const { release_shape(api, shape); }
};

Status* create(const CustomOp*, const Api* api, const KernelInfo* info, void** made) {
  std::int64_t address = 0, threads = 1;
  if (Status* failed = integer_attribute(api, info, "layer", &address)) return failed;
  if (Status* failed = integer_attribute(api, info, "threads", &threads)) return failed;
  const auto* layer = reinterpret_cast<const d2k_layer*>(static_cast<std::uintptr_t>(address));
  *made = new (std::nothrow) Kernel{api, layer, static_cast<std::int32_t>(threads)};
  return *made ? nullptr : create_status(api, FAIL, "No memory is left for d2serve.Convolution.");
}

Status* read_shape(const Api* api, const Value* images, std::int64_t (&sides)[4]) {
  Shape* found = nullptr;
  if (Status* failed = shape_of(api, images, &found)) return failed;
  const std::unique_ptr<Shape, Release> shape(found, Release{api});
  std::size_t rank = 0;
  if (Status* failed = rank_of(api, found, &rank)) return failed;
  if (rank != 4) return create_status(api, INVALID_ARGUMENT, "Expected images as (N, C, H, W).");
  return sides_of(api, found, sides, 4);
}

Status* compute(void* given, KernelContext* context) {
  const Kernel& kernel = *static_cast<const Kernel*>(given);
  const Api* api = kernel.api;
  const Value* images = nullptr;
  if (Status* failed = input_of(api, context, 0, &images)) return failed;
  std::int64_t sides[4];
  if (Status* failed = read_shape(api, images, sides)) return failed;
  if (sides[1] != kernel.layer->ins)
    return create_status(api, INVALID_ARGUMENT, "The images have another number of channels than "
                                                "the weights of d2serve.Convolution.");
  sides[1] = kernel.layer->outs;
  Value* result = nullptr;
  if (Status* failed = make_output(api, context, 0, sides, 4, &result)) return failed;
  void *from = nullptr, *to = nullptr;
  // ONNX Runtime has one function for data that is read and for data that is written.
  if (Status* failed = data_of(api, const_cast<Value*>(images), &from)) return failed;
  if (Status* failed = data_of(api, result, &to)) return failed;
  const std::int32_t status =
      d2k_convolve(kernel.layer, static_cast<const float*>(from), static_cast<float*>(to), sides[0],
                   sides[2], sides[3], kernel.threads);
  if (status == D2K_OK) return nullptr;
  return create_status(api, FAIL, status == D2K_NO_MEMORY
                                      ? "No memory is left for d2serve.Convolution."
                                      : "d2serve.Convolution cannot take images of this size.");
}

CustomOp operation() {
  CustomOp op{};
  op.version = API_VERSION;
  op.get_name = [](const CustomOp*) { return "Convolution"; };
  op.get_execution_provider = [](const CustomOp*) -> const char* { return nullptr; };  // the CPU
  op.get_input_type = [](const CustomOp*, std::size_t) { return FLOAT; };
  op.get_input_count = [](const CustomOp*) -> std::size_t { return 1; };
  op.get_output_type = op.get_input_type;
  op.get_output_count = op.get_input_count;
  op.destroy = [](void* kernel) { delete static_cast<Kernel*>(kernel); };
  op.get_input_characteristic = [](const CustomOp*, std::size_t) { return REQUIRED; };
  op.get_output_characteristic = op.get_input_characteristic;
  op.get_input_memory_type = [](const CustomOp*, std::size_t) { return ANY_MEMORY; };
  op.get_variadic_input_min_arity = [](const CustomOp*) { return 1; };
  op.get_variadic_input_homogeneity = op.get_variadic_input_min_arity;
  op.get_variadic_output_min_arity = op.get_variadic_input_min_arity;
  op.get_variadic_output_homogeneity = op.get_variadic_input_min_arity;
  op.create_kernel_with_status = create;
  op.compute_with_status = compute;
  return op;
}

}  // namespace

// What onnxruntime looks for in a library of operators. An onnxruntime that is too old for them gets
// none, and refuses the program that needs them.
extern "C" D2K_API Status* RegisterCustomOps(SessionOptions* options, const ApiBase* base) {
  const Api* api = base->get_api(API_VERSION);
  if (api == nullptr) return nullptr;
  static const CustomOp op = operation();
  static Domain* domain = nullptr;  // its sessions point to it, so it stays
  static const bool made = [api] {
    return create_domain(api, "d2serve", &domain) == nullptr &&
           add_to_domain(api, domain, &op) == nullptr;
  }();
  if (!made) return create_status(api, FAIL, "The operators of d2serve cannot be registered.");
  return add_domain(api, options, domain);
}
