// PNG files, by libpng.
#pragma once

#include "images/file.h"
#include "images/orientation.h"
#include "images/samples.h"

namespace d2serve {

/// Decodes a PNG of any kind. Throws Error.
Samples read_png(const FileBytes& file, const RequestLimits& limits, Metadata& metadata);

}  // namespace d2serve
