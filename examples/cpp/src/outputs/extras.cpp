#include "outputs/extras.h"

#include <cstdint>

#include "outputs/arrays.h"

namespace d2serve {
namespace {

/// The program's array of an extra, of the shape that the spec says and with `leading` before it.
const Tensor& checked(const RawOutputs& raw, const Extra& extra,
                      std::vector<std::int64_t> leading) {
    for (const auto& side : extra.shape) leading.push_back(side.value_or(-1));
    const Tensor& values = output_of(raw, extra.output());
    require_shape(values, extra.name, leading);
    return values;
}

}  // namespace

Extras instance_extras(const RawOutputs& raw, const Spec& spec, std::size_t count,
                       const std::vector<std::size_t>& kept) {
    Extras found;
    for (const Extra& extra : spec.extras) {
        if (extra.per != "instance") continue;
        const Tensor& values = checked(raw, extra, {static_cast<std::int64_t>(count)});
        found.emplace_back(extra.name, converted(rows_of(values, kept), dtype_named(extra.dtype)));
    }
    return found;
}

Extras image_extras(const RawOutputs& raw, const Spec& spec) {
    Extras found;
    for (const Extra& extra : spec.extras) {
        if (extra.per != "image") continue;
        found.emplace_back(extra.name, converted(checked(raw, extra, {}), dtype_named(extra.dtype)));
    }
    return found;
}

}  // namespace d2serve
