#include "outputs/arrays.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>

#include "d2serve_cpp/error.h"

namespace d2serve {
namespace {

constexpr DType kTypes[] = {DType::boolean, DType::uint8,   DType::int8,    DType::int16,
                            DType::int32,   DType::int64,   DType::float16, DType::float32,
                            DType::float64};

/// Calls `use` with the array's values, in their own type; a float16 comes as its bits.
template <class Use>
auto with_values(const Tensor& tensor, const Use& use) {
    switch (tensor.dtype) {
        case DType::boolean: return use(tensor.values<bool>());
        case DType::uint8: return use(tensor.values<std::uint8_t>());
        case DType::int8: return use(tensor.values<std::int8_t>());
        case DType::int16: return use(tensor.values<std::int16_t>());
        case DType::int32: return use(tensor.values<std::int32_t>());
        case DType::int64: return use(tensor.values<std::int64_t>());
        case DType::float16: return use(tensor.values<std::uint16_t>());
        case DType::float32: return use(tensor.values<float>());
        case DType::float64: break;
    }
    return use(tensor.values<double>());
}

/// A number as another type has it. What an integer cannot hold becomes its lowest value, as x86's
/// conversion makes it, rather than anything at all.
template <class To, class From>
To number_as(From value) {
    if constexpr (std::is_same_v<To, bool>) {
        return value != From{};
    } else if constexpr (std::is_integral_v<To> && std::is_floating_point_v<From>) {
        constexpr double low = static_cast<double>(std::numeric_limits<To>::lowest());
        const double whole = std::trunc(static_cast<double>(value));
        const bool fits = whole >= low && whole < -low + (std::is_unsigned_v<To> ? 256.0 : 0.0);
        return fits ? static_cast<To>(whole) : std::numeric_limits<To>::lowest();
    } else {
        return static_cast<To>(value);
    }
}

template <class To>
Tensor made_of(const Tensor& tensor) {
    const std::vector<To> values = values_as<To>(tensor);
    Tensor made{DTypeOf<To>::value, tensor.shape, {}};
    made.data.resize(values.size() * sizeof(To));
    for (std::size_t i = 0; i < values.size(); ++i) {
        const To value = values[i];
        std::memcpy(made.data.data() + i * sizeof(To), &value, sizeof(To));
    }
    return made;
}

}  // namespace

float float_of_half(std::uint16_t bits) {
    const int exponent = (bits >> 10) & 31, fraction = bits & 1023;
    float value;
    if (exponent == 31) {
        value = fraction ? std::numeric_limits<float>::quiet_NaN()
                         : std::numeric_limits<float>::infinity();
    } else if (exponent == 0) {
        value = std::ldexp(static_cast<float>(fraction), -24);
    } else {
        value = std::ldexp(static_cast<float>(fraction + 1024), exponent - 25);
    }
    return bits & 0x8000 ? -value : value;
}

template <class T>
std::vector<T> values_as(const Tensor& tensor) {
    return with_values(tensor, [&](auto values) {
        std::vector<T> made;
        made.reserve(values.size());
        for (const auto value : values) {
            if (tensor.dtype == DType::float16) {
                made.push_back(number_as<T>(float_of_half(static_cast<std::uint16_t>(value))));
            } else {
                made.push_back(number_as<T>(value));
            }
        }
        return made;
    });
}

template std::vector<float> values_as<float>(const Tensor&);
template std::vector<double> values_as<double>(const Tensor&);
template std::vector<std::int64_t> values_as<std::int64_t>(const Tensor&);
template std::vector<std::int32_t> values_as<std::int32_t>(const Tensor&);
template std::vector<bool> values_as<bool>(const Tensor&);

Tensor converted(const Tensor& tensor, DType dtype) {
    if (tensor.dtype == dtype) return tensor;
    switch (dtype) {
        case DType::boolean: return made_of<bool>(tensor);
        case DType::uint8: return made_of<std::uint8_t>(tensor);
        case DType::int8: return made_of<std::int8_t>(tensor);
        case DType::int16: return made_of<std::int16_t>(tensor);
        case DType::int32: return made_of<std::int32_t>(tensor);
        case DType::int64: return made_of<std::int64_t>(tensor);
        case DType::float32: return made_of<float>(tensor);
        case DType::float64: return made_of<double>(tensor);
        case DType::float16: break;
    }
    throw Error("The model answered " + std::string(name_of(tensor.dtype)) +
                " where its spec says float16. Export the model again.");
}

std::vector<std::int64_t> areas_of(const LabelMap& map) {
    std::vector<std::int64_t> areas;
    for (std::int32_t label : map.labels) {
        const auto number = static_cast<std::size_t>(label);
        if (number >= areas.size()) areas.resize(number + 1, 0);
        ++areas[number];
    }
    return areas;
}

Tensor rows_of(const Tensor& tensor, const std::vector<std::size_t>& indices) {
    Tensor made{tensor.dtype, tensor.shape, {}};
    const std::size_t count = static_cast<std::size_t>(tensor.shape.at(0));
    const std::size_t bytes = count ? tensor.data.size() / count : 0;
    made.shape[0] = static_cast<std::int64_t>(indices.size());
    made.data.reserve(indices.size() * bytes);
    for (std::size_t index : indices) {
        const auto from = tensor.data.begin() + static_cast<std::ptrdiff_t>(index * bytes);
        made.data.insert(made.data.end(), from, from + static_cast<std::ptrdiff_t>(bytes));
    }
    return made;
}

DType dtype_named(std::string_view name) {
    for (DType each : kTypes) {
        if (name_of(each) == name) return each;
    }
    throw Error("model_spec.json has an extra of the type " + std::string(name) +
                ", which this version does not know. Export the model again.");
}

const Tensor& output_of(const RawOutputs& raw, std::string_view name) {
    const auto found = raw.find(std::string(name));
    if (found != raw.end()) return found->second;
    throw Error("The model has not answered " + std::string(name) +
                ", which its spec names. Check the archive with `d2serve verify`.");
}

void require_shape(const Tensor& tensor, std::string_view name,
                   const std::vector<std::int64_t>& shape) {
    const auto fits = [](std::int64_t side, std::int64_t expected) {
        return expected < 0 || side == expected;
    };
    if (!std::equal(tensor.shape.begin(), tensor.shape.end(), shape.begin(), shape.end(), fits)) {
        throw Error("The model answered " + std::string(name) + " of the shape " +
                    shape_text(tensor.shape) + ", expected " + shape_text(shape) +
                    ". Check the archive with `d2serve verify` on this image.");
    }
    tensor.require(tensor.dtype);  // and as many values as it says
}

std::string shape_text(const std::vector<std::int64_t>& shape) {
    std::string text = "[";
    for (std::size_t i = 0; i < shape.size(); ++i) {
        text += (i ? ", " : "") + (shape[i] < 0 ? "any" : std::to_string(shape[i]));
    }
    return text + "]";
}

}  // namespace d2serve
