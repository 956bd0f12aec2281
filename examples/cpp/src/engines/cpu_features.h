// Whether a CPU has instructions for bf16 and int8, which otherwise are slower than fp32, or wrong.
#pragma once

#include <string>

namespace d2serve {

/// Why a precision should not be used on this CPU, or "" where it may be. OpenVINO says whether it
/// has bf16; that it lists int8 says nothing of the CPU, so that is read from the CPU's flags.
std::string slow_precision(const std::string& precision, bool has_bf16);

}  // namespace d2serve
