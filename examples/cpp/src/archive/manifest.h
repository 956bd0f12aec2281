// MAR-INF/MANIFEST.json, in which TorchServe finds a model's name and version.
#pragma once

#include <string>
#include <string_view>

namespace d2serve {

/// What a manifest says of its model, or another where it does not say.
std::string in_manifest(std::string_view manifest, const char* name, const std::string& otherwise);

}  // namespace d2serve
