// Arrays of a program in the types in which postprocessing computes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "d2serve_cpp/outputs.h"
#include "d2serve_cpp/tensor.h"

namespace d2serve {

/// The float32 that a float16 stands for, given by its bits.
float float_of_half(std::uint16_t bits);

/// The values of an array of any type, each rounded to T as numpy's astype does: float, double,
/// int64_t, int32_t, bool.
template <class T>
std::vector<T> values_as(const Tensor& tensor);

/// The array in another type; in its own, a copy. float16 is only made of float16.
Tensor converted(const Tensor& tensor, DType dtype);

/// The rows of an array, those of its first dimension, at some indices and in their order.
Tensor rows_of(const Tensor& tensor, const std::vector<std::size_t>& indices);

/// The type that model_spec.json calls so. Throws Error for any other name.
DType dtype_named(std::string_view name);

/// An output of this name. Throws Error where the program has not answered it.
const Tensor& output_of(const RawOutputs& raw, std::string_view name);

/// How many pixels each label has, by label, up to the highest of a map; none is negative.
std::vector<std::int64_t> areas_of(const LabelMap& map);

/// Throws Error unless the array has this many dimensions, and these sizes where they are not -1.
void require_shape(const Tensor& tensor, std::string_view name,
                   const std::vector<std::int64_t>& shape);

/// "[3, any, 28]" of a shape with -1 for any size.
std::string shape_text(const std::vector<std::int64_t>& shape);

}  // namespace d2serve
