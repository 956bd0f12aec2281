#include "d2serve_cpp/tensor.h"

#include "d2serve_cpp/error.h"

namespace d2serve {

std::size_t size_of(DType dtype) {
    switch (dtype) {
        case DType::boolean:
        case DType::uint8:
        case DType::int8:
            return 1;
        case DType::int16:
        case DType::float16:
            return 2;
        case DType::int32:
        case DType::float32:
            return 4;
        case DType::int64:
        case DType::float64:
            return 8;
    }
    throw Error("An array has a type that this library does not know.");
}

std::string_view name_of(DType dtype) {
    switch (dtype) {
        case DType::boolean:
            return "bool";
        case DType::uint8:
            return "uint8";
        case DType::int8:
            return "int8";
        case DType::int16:
            return "int16";
        case DType::int32:
            return "int32";
        case DType::int64:
            return "int64";
        case DType::float16:
            return "float16";
        case DType::float32:
            return "float32";
        case DType::float64:
            return "float64";
    }
    return "unknown";
}

std::int64_t Tensor::count() const {
    std::int64_t values = 1;
    for (const std::int64_t side : shape) values *= side;
    return values;
}

void Tensor::require(DType expected) const {
    if (dtype != expected) {
        throw Error("The program answered " + std::string(name_of(dtype)) + " where " +
                    std::string(name_of(expected)) + " was expected: export the model again.");
    }
    if (data.size() != static_cast<std::size_t>(count()) * size_of(dtype)) {
        throw Error("The program answered an array that has not as many values as its shape says.");
    }
}

}  // namespace d2serve
