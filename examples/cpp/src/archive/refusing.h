// How a model_spec.json is refused.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>

namespace d2serve {

/// Throws the Error that model_spec.json is wrong, and how.
[[noreturn]] void refuse(const std::string& what);

/// At most 80 characters of a value, for a message.
std::string shortened(const std::string& text);

/// Throws Error when a value is none of those that a field may have.
void one_of(const char* name, const std::string& value,
            std::initializer_list<std::string_view> all);

}  // namespace d2serve
