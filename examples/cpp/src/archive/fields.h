// Reads fields of a JSON object by their type, and says of a wrong one what it is.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "archive/refusing.h"

namespace d2serve {

using Json = nlohmann::json;

/// The fields of an object that must be there. Each throws Error when its field is of another type.
class Fields {
  public:
    /// `of` is the object's name, "" of the spec itself.
    Fields(const Json& object, std::string of);

    /// Throws Error when it has others.
    void only(std::initializer_list<std::string_view> names) const;

    bool is_null(const char* name) const;
    std::string text(const char* name) const;
    bool flag(const char* name) const;
    double number(const char* name) const;
    std::int64_t whole(const char* name, std::int64_t least = INT64_MIN,
                       std::int64_t most = INT64_MAX) const;
    /// A number of pixels.
    int size(const char* name, int least) const;
    const Json& list(const char* name) const;
    const Json& object(const char* name) const;
    std::vector<std::string> texts(const char* name) const;
    std::map<std::string, std::string> texts_by_name(const char* name) const;

  private:
    const Json& at(const char* name) const;
    const Json& expect(const char* name, bool (*holds)(const Json&), const char* expected) const;

    const Json& object_;
    std::string of_;
};

}  // namespace d2serve
