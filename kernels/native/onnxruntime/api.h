// What a custom operator needs of ONNX Runtime's C interface, version 16, which came with 1.16.
//
// The wheel of onnxruntime has no headers. Its interface is a table of functions to which later
// versions only append, so a function is named here by its place in the table. The places and the
// members of OrtCustomOp are those of onnxruntime_c_api.h; tests/kernels/test_onnxruntime.py runs
// every function that is named here.

#pragma once

#include <cstddef>
#include <cstdint>

namespace d2k::ort {

constexpr std::uint32_t API_VERSION = 16;
constexpr int ANY_TYPE = 0, FLOAT = 1, INT64 = 7;  // of ONNXTensorElementDataType
constexpr int REQUIRED = 0, VARIADIC = 2;      // of OrtCustomOpInputOutputCharacteristic
constexpr int ANY_MEMORY = 0;                  // of OrtMemType
constexpr int FAIL = 1, INVALID_ARGUMENT = 2;  // of OrtErrorCode

struct Status;
struct SessionOptions;
struct Domain;
struct KernelInfo;
struct KernelContext;
struct Value;
struct Shape;
struct Api;  // the table

struct ApiBase {
  const Api* (*get_api)(std::uint32_t version) noexcept;
  const char* (*get_version)() noexcept;
};

// OrtCustomOp, as far as version 16 goes.
struct CustomOp {
  std::uint32_t version;
  void* (*create_kernel)(const CustomOp*, const Api*, const KernelInfo*);
  const char* (*get_name)(const CustomOp*);
  const char* (*get_execution_provider)(const CustomOp*);
  int (*get_input_type)(const CustomOp*, std::size_t);
  std::size_t (*get_input_count)(const CustomOp*);
  int (*get_output_type)(const CustomOp*, std::size_t);
  std::size_t (*get_output_count)(const CustomOp*);
  void (*compute)(void*, KernelContext*);
  void (*destroy)(void*);
  int (*get_input_characteristic)(const CustomOp*, std::size_t);
  int (*get_output_characteristic)(const CustomOp*, std::size_t);
  int (*get_input_memory_type)(const CustomOp*, std::size_t);
  int (*get_variadic_input_min_arity)(const CustomOp*);
  int (*get_variadic_input_homogeneity)(const CustomOp*);
  int (*get_variadic_output_min_arity)(const CustomOp*);
  int (*get_variadic_output_homogeneity)(const CustomOp*);
  Status* (*create_kernel_with_status)(const CustomOp*, const Api*, const KernelInfo*, void**);
  Status* (*compute_with_status)(void*, KernelContext*);
};

// One function of the table: its place, and how it is called.
template <std::size_t PLACE, typename Result, typename... Given>
struct Function {
  Result operator()(const Api* api, Given... given) const {
    using Pointer = Result (*)(Given...) noexcept;
    return reinterpret_cast<const Pointer*>(api)[PLACE](given...);
  }
};

constexpr Function<0, Status*, int, const char*> create_status;
constexpr Function<26, Status*, const char*, Domain**> create_domain;
constexpr Function<27, Status*, Domain*, const CustomOp*> add_to_domain;
constexpr Function<28, Status*, SessionOptions*, Domain*> add_domain;
constexpr Function<51, Status*, Value*, void**> data_of;
constexpr Function<61, Status*, const Shape*, std::size_t*> rank_of;
constexpr Function<62, Status*, const Shape*, std::int64_t*, std::size_t> sides_of;
constexpr Function<60, Status*, const Shape*, int*> type_of;
constexpr Function<65, Status*, const Value*, Shape**> shape_of;
constexpr Function<86, Status*, const KernelInfo*, const char*, std::int64_t*> integer_attribute;
constexpr Function<88, Status*, const KernelContext*, std::size_t*> input_count;
constexpr Function<90, Status*, const KernelContext*, std::size_t, const Value**> input_of;
constexpr Function<91, Status*, KernelContext*, std::size_t, const std::int64_t*, std::size_t, Value**>
    make_output;
constexpr Function<99, void, Shape*> release_shape;

}  // namespace d2k::ort
