// What a model answers beyond detectron2's own fields, as JSON.
#pragma once

#include <cstddef>

#include "d2serve_cpp/outputs.h"
#include "d2serve_cpp/spec.h"
#include "replies/json_text.h"

namespace d2serve {

/// The reply's `extra` of the image; nothing where there is none.
void write_extra(JsonText& json, const Extras& extra);

/// The same of one instance.
void write_extra_of_instance(JsonText& json, const Extras& extra, std::size_t index);

/// The reply's `extra_fields`: type and shape of each, of which numbers do not tell.
void write_extra_fields(JsonText& json, const Spec& spec);

}  // namespace d2serve
