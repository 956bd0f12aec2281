// What onnxruntime looks for in a library of operators.

#include <algorithm>
#include <iterator>

#include "../d2serve_kernels.h"
#include "operators.h"

namespace d2k::ort {

CustomOp operator_of_floats() {
  CustomOp op{};
  op.version = API_VERSION;
  op.get_execution_provider = [](const CustomOp*) -> const char* { return nullptr; };  // the CPU
  op.get_input_type = [](const CustomOp*, std::size_t) { return FLOAT; };
  op.get_input_count = [](const CustomOp*) -> std::size_t { return 1; };
  op.get_output_type = op.get_input_type;
  op.get_output_count = op.get_input_count;
  op.get_input_characteristic = [](const CustomOp*, std::size_t) { return REQUIRED; };
  op.get_output_characteristic = op.get_input_characteristic;
  op.get_input_memory_type = [](const CustomOp*, std::size_t) { return ANY_MEMORY; };
  op.get_variadic_input_min_arity = [](const CustomOp*) { return 1; };
  op.get_variadic_input_homogeneity = op.get_variadic_input_min_arity;
  op.get_variadic_output_min_arity = op.get_variadic_input_min_arity;
  op.get_variadic_output_homogeneity = op.get_variadic_input_min_arity;
  return op;
}

}  // namespace d2k::ort

using namespace d2k::ort;

// An onnxruntime that is too old for the operators gets none, and refuses the program that needs them.
extern "C" D2K_API Status* RegisterCustomOps(SessionOptions* options, const ApiBase* base) {
  const Api* api = base->get_api(API_VERSION);
  if (api == nullptr) return nullptr;
  static const CustomOp operators[] = {convolution_operator(), pointwise_operator(),
                                       deconvolution_operator(), roi_align_operator()};
  static Domain* domain = nullptr;  // its sessions point to it, so it stays
  static const bool made = [api] {
    return create_domain(api, "d2serve", &domain) == nullptr &&
           std::all_of(std::begin(operators), std::end(operators), [api](const CustomOp& each) {
             return add_to_domain(api, domain, &each) == nullptr;
           });
  }();
  if (!made) return create_status(api, FAIL, "The operators of d2serve cannot be registered.");
  return add_domain(api, options, domain);
}
