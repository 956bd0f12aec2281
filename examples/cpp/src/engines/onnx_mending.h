// What OpenVINO misreads in an ONNX program, written so that it reads it rightly.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace d2serve {

/// The bytes of a `.onnx` file in which constants without elements are made by ConstantOfShape, and
/// ReduceLogSumExp is written as what it consists of; nothing where the file has neither.
///
/// OpenVINO takes an empty constant for the number 0, which becomes a detection on images without
/// any, and it reduces ReduceLogSumExp over all axes, whichever are named. An archive for OpenVINO
/// was mended when it was exported (export/programs/openvino.py); one for ONNX Runtime was not.
std::optional<std::string> mended_onnx(std::string_view file);

}  // namespace d2serve
