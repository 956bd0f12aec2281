#include "engines/cpu_features.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <fstream>
#include <sstream>
#include <string_view>

namespace d2serve {
namespace {

// Dot products of bytes, by what Linux calls them: x86's VNNI, on 512 bits and on 256, and Arm's.
constexpr std::array<std::string_view, 4> kDotProducts = {"avx512_vnni", "avx_vnni", "amx_int8",
                                                          "asimddp"};

bool has_dot_products() {
    std::ifstream in("/proc/cpuinfo");
    for (std::string line; std::getline(in, line);) {
        std::string name = line.substr(0, 8);
        std::transform(name.begin(), name.end(), name.begin(),
                       [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
        if (!name.starts_with("flags") && !name.starts_with("features")) continue;
        std::istringstream flags(line.substr(std::min(line.find(':') + 1, line.size())));
        for (std::string flag; flags >> flag;) {
            if (std::find(kDotProducts.begin(), kDotProducts.end(), flag) != kDotProducts.end()) {
                return true;
            }
        }
    }
    return false;
}

}  // namespace

std::string slow_precision(const std::string& precision, bool has_bf16) {
    if (precision == "bf16" && !has_bf16) {
        return "this CPU has no bf16 instructions (AVX512_BF16 or AMX)";
    }
    if (precision == "int8" && !has_dot_products()) {
        return "no int8 dot products (VNNI) can be seen on this CPU";
    }
    return "";
}

}  // namespace d2serve
