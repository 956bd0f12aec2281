// A reply as TorchServe's is: the project's JSON, version 1.
#pragma once

#include <string>

#include "d2serve_cpp/outputs.h"
#include "d2serve_cpp/spec.h"

namespace d2serve {

/// Under what name a model answers, and what was done to its image.
struct ReplyHeader {
    std::string model;
    std::string version = "1.0";
    std::string converted;  // `Image::converted`
};

/// The reply for one image in one line of JSON: the fields of docs/requests.md, masks as COCO's
/// RLE, maps as PNG in base64. Each number reads back as the float32 that it was. Throws Error where
/// a class has no name although others have.
std::string to_json(const Outputs& outputs, const Spec& spec, const ReplyHeader& header);

}  // namespace d2serve
