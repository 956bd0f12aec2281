#include "replies/extras.h"

#include <cstdint>
#include <span>

#include "outputs/arrays.h"

namespace d2serve {
namespace {

void write_number(JsonText& json, const Tensor& tensor, std::size_t at) {
    switch (tensor.dtype) {
        case DType::boolean: json.boolean(tensor.values<bool>()[at]); break;
        case DType::uint8: json.whole(tensor.values<std::uint8_t>()[at]); break;
        case DType::int8: json.whole(tensor.values<std::int8_t>()[at]); break;
        case DType::int16: json.whole(tensor.values<std::int16_t>()[at]); break;
        case DType::int32: json.whole(tensor.values<std::int32_t>()[at]); break;
        case DType::int64: json.whole(tensor.values<std::int64_t>()[at]); break;
        case DType::float16: json.number(float_of_half(tensor.values<std::uint16_t>()[at])); break;
        case DType::float32: json.number(tensor.values<float>()[at]); break;
        case DType::float64: json.number(tensor.values<double>()[at]); break;
    }
}

/// The values from `at` on that have these sides, as lists within lists; moves `at` behind them.
void write_values(JsonText& json, const Tensor& tensor, std::span<const std::int64_t> sides,
                  std::size_t& at) {
    if (sides.empty()) {
        write_number(json, tensor, at++);
        return;
    }
    json.open('[');
    for (std::int64_t i = 0; i < sides[0]; ++i) write_values(json, tensor, sides.subspan(1), at);
    json.close(']');
}

}  // namespace

void write_extra(JsonText& json, const Extras& extra) {
    if (extra.empty()) return;
    json.key("extra").open('{');
    for (const auto& [name, tensor] : extra) {
        std::size_t at = 0;
        json.key(name);
        write_values(json, tensor, tensor.shape, at);
    }
    json.close('}');
}

void write_extra_of_instance(JsonText& json, const Extras& extra, std::size_t index) {
    if (extra.empty()) return;
    json.key("extra").open('{');
    for (const auto& [name, tensor] : extra) {
        const std::span<const std::int64_t> sides(tensor.shape);
        const auto count = static_cast<std::size_t>(tensor.count() / sides[0]);
        std::size_t at = index * count;
        json.key(name);
        write_values(json, tensor, sides.subspan(1), at);
    }
    json.close('}');
}

void write_extra_fields(JsonText& json, const Spec& spec) {
    if (spec.extras.empty()) return;
    json.key("extra_fields").open('[');
    for (const Extra& extra : spec.extras) {
        json.open('{').key("name").text(extra.name).key("per").text(extra.per);
        json.key("kind").text(extra.kind).key("dtype").text(extra.dtype).key("shape").open('[');
        for (const auto& side : extra.shape) {
            if (side) {
                json.whole(*side);
            } else {
                json.null();
            }
        }
        json.close(']').close('}');
    }
    json.close(']');
}

}  // namespace d2serve
