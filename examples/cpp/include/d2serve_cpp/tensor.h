// What a program answers: named arrays, of the types that numpy and detectron2 have both.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace d2serve {

enum class DType {
    boolean,
    uint8,
    int8,
    int16,
    int32,
    int64,
    float16,
    float32,
    float64,
};

/// Bytes of one value.
std::size_t size_of(DType dtype);

/// By numpy's name, as model_spec.json has it: "bool", "float32".
std::string_view name_of(DType dtype);

/// The type of a value in C++; `float16` has none and is read as its bytes (uint16_t).
template <class T>
struct DTypeOf;
template <>
struct DTypeOf<bool> {
    static constexpr DType value = DType::boolean;
};
template <>
struct DTypeOf<std::uint8_t> {
    static constexpr DType value = DType::uint8;
};
template <>
struct DTypeOf<std::int8_t> {
    static constexpr DType value = DType::int8;
};
template <>
struct DTypeOf<std::int16_t> {
    static constexpr DType value = DType::int16;
};
template <>
struct DTypeOf<std::int32_t> {
    static constexpr DType value = DType::int32;
};
template <>
struct DTypeOf<std::int64_t> {
    static constexpr DType value = DType::int64;
};
template <>
struct DTypeOf<std::uint16_t> {
    static constexpr DType value = DType::float16;
};
template <>
struct DTypeOf<float> {
    static constexpr DType value = DType::float32;
};
template <>
struct DTypeOf<double> {
    static constexpr DType value = DType::float64;
};

/// An array in row-major order.
struct Tensor {
    DType dtype = DType::float32;
    std::vector<std::int64_t> shape;
    std::vector<std::byte> data;

    /// How many values it has.
    std::int64_t count() const;

    /// Its values. Throws Error when they are of another type.
    template <class T>
    std::span<const T> values() const {
        require(DTypeOf<T>::value);
        return {reinterpret_cast<const T*>(data.data()), data.size() / sizeof(T)};
    }

    /// Throws Error when its values are of another type, or not as many as its shape says.
    void require(DType expected) const;
};

/// What a program answers for one image, by the spec's output names, in coordinates of the resized
/// image (of a program with `Spec::postprocessed`, of the image as it was sent). Shapes are those
/// of handlers/runtimes/raw_outputs.py.
using RawOutputs = std::map<std::string, Tensor>;

}  // namespace d2serve
