// What our operators have in common. Nothing is thrown into ONNX Runtime: what goes wrong is told by a
// status, and a null one is good.
#pragma once

#include <cstdint>
#include <memory>

#include "api.h"

namespace d2k::ort {

struct Release {
  const Api* api;
  void operator()(Shape* shape) const { release_shape(api, shape); }
};

// A tensor that an operator is given. Data must not be written to.
struct Input {
  static constexpr std::size_t kMostSides = 4;

  int type;
  std::size_t rank;
  std::int64_t sides[kMostSides];
  void* data;

  const float* floats() const { return static_cast<const float*>(data); }
  const std::int64_t* integers() const { return static_cast<const std::int64_t*>(data); }
};

// Reads input `number`; refuses one of more than four dimensions.
inline Status* read(const Api* api, const KernelContext* context, std::size_t number, Input& input) {
  const Value* value = nullptr;
  if (Status* failed = input_of(api, context, number, &value)) return failed;
  Shape* found = nullptr;
  if (Status* failed = shape_of(api, value, &found)) return failed;
  const std::unique_ptr<Shape, Release> shape(found, Release{api});
  if (Status* failed = type_of(api, found, &input.type)) return failed;
  if (Status* failed = rank_of(api, found, &input.rank)) return failed;
  if (input.rank > Input::kMostSides)
    return create_status(api, INVALID_ARGUMENT, "An operator of d2serve got a tensor of more than "
                                                "four dimensions.");
  if (Status* failed = sides_of(api, found, input.sides, input.rank)) return failed;
  // ONNX Runtime has one function for data that is read and for data that is written.
  return data_of(api, const_cast<Value*>(value), &input.data);
}

// An operator with one output of floats, all of whose inputs are floats.
CustomOp operator_of_floats();

CustomOp convolution_operator();
CustomOp deconvolution_operator();
CustomOp pointwise_operator();
CustomOp roi_align_operator();

}  // namespace d2k::ort
