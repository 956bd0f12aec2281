// Shows the tests what the library makes of a program's outputs, whatever they are: they compare its
// replies with Python's.
//
//   d2serve_replies < lines of JSON > replies, one a line
//
// A line has `spec`, the text of a model_spec.json; `image`, [height, width, resized height, resized
// width]; and `outputs`, by name each with `dtype`, `shape` and `data`, its bytes in hexadecimal.
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>

#include "d2serve_cpp/error.h"
#include "d2serve_cpp/input.h"
#include "d2serve_cpp/postprocess.h"
#include "d2serve_cpp/reply.h"
#include "d2serve_cpp/spec.h"
#include "outputs/arrays.h"

using namespace d2serve;

namespace {

unsigned digit(char letter) {
    return static_cast<unsigned>(letter <= '9' ? letter - '0' : letter - 'a' + 10);
}

Tensor tensor_of(const nlohmann::json& given) {
    const std::string digits = given.at("data");
    Tensor made{dtype_named(given.at("dtype").get<std::string>()), given.at("shape"), {}};
    for (std::size_t i = 0; i + 1 < digits.size(); i += 2) {
        made.data.push_back(static_cast<std::byte>(digit(digits[i]) * 16 + digit(digits[i + 1])));
    }
    return made;
}

std::string reply_to(const nlohmann::json& given) {
    const Spec spec = Spec::from_json(given.at("spec").get<std::string>());
    const auto& size = given.at("image");
    const ModelInput image{{}, spec.channels, size.at(2), size.at(3), size.at(0), size.at(1)};
    RawOutputs raw;
    for (const auto& [name, output] : given.at("outputs").items()) raw[name] = tensor_of(output);
    return to_json(postprocess(raw, image, spec), spec, {spec.name, "1.0", ""});
}

}  // namespace

int main() {
    for (std::string line; std::getline(std::cin, line);) {
        try {
            std::cout << reply_to(nlohmann::json::parse(line)) << std::endl;
        } catch (const Error& error) {
            std::cout << nlohmann::json({{"error", error.what()}}).dump() << std::endl;
        }
    }
    return 0;
}
