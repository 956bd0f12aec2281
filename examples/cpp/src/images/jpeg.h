// JPEG files, by libjpeg.
#pragma once

#include "images/file.h"
#include "images/orientation.h"
#include "images/samples.h"

namespace d2serve {

/// Decodes a JPEG of grey or colours. Throws Error.
Samples read_jpeg(const FileBytes& file, const RequestLimits& limits, Metadata& metadata);

}  // namespace d2serve
