#include "archive/fields.h"

#include <algorithm>
#include <utility>

#include "d2serve_cpp/error.h"

namespace d2serve {

void refuse(const std::string& what) {
    throw Error("model_spec.json is wrong: " + what + ". Export the model again.");
}

std::string shortened(const std::string& text) {
    std::string made;
    for (const char c : text.substr(0, 80)) made += c >= ' ' && c <= '~' ? c : '?';
    return text.size() > 80 ? made + "..." : made;
}

void one_of(const char* name, const std::string& value,
            std::initializer_list<std::string_view> all) {
    if (std::find(all.begin(), all.end(), value) != all.end()) return;
    std::string names;
    for (const std::string_view each : all)
        names += (names.empty() ? "" : ", ") + std::string(each);
    refuse(std::string(name) + " is \"" + shortened(value) + "\", expected one of " + names);
}

Fields::Fields(const Json& object, std::string of) : object_(object), of_(std::move(of)) {
    if (!object.is_object())
        refuse(of_ + " is " + shortened(object.dump()) + ", expected an object");
    if (!of_.empty()) of_ += ".";
}

void Fields::only(std::initializer_list<std::string_view> names) const {
    for (const auto& [name, value] : object_.items()) {
        if (std::find(names.begin(), names.end(), name) == names.end()) {
            refuse("there is a " + shortened(of_ + name) + ", which nobody knows");
        }
    }
}

const Json& Fields::at(const char* name) const {
    const auto found = object_.find(name);
    if (found == object_.end()) refuse("there is no " + of_ + name);
    return *found;
}

const Json& Fields::expect(const char* name, bool (*holds)(const Json&),
                           const char* expected) const {
    const Json& value = at(name);
    if (!holds(value)) {
        const std::string got = value.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
        refuse(of_ + name + " is " + shortened(got) + ", expected " + expected);
    }
    return value;
}

bool Fields::is_null(const char* name) const {
    return at(name).is_null();
}

std::string Fields::text(const char* name) const {
    return expect(name, [](const Json& each) { return each.is_string(); }, "a string");
}

bool Fields::flag(const char* name) const {
    return expect(name, [](const Json& each) { return each.is_boolean(); }, "true or false");
}

double Fields::number(const char* name) const {
    return expect(name, [](const Json& each) { return each.is_number(); }, "a number");
}

std::int64_t Fields::whole(const char* name, std::int64_t least, std::int64_t most) const {
    const Json& value = expect(
        name,
        [](const Json& each) {
            return each.is_number_integer() &&
                   (!each.is_number_unsigned() || each.get<std::uint64_t>() <= INT64_MAX);
        },
        "a whole number");
    const auto number = value.get<std::int64_t>();
    if (number < least || number > most) {
        refuse(of_ + name + " is " + std::to_string(number) + ", expected " +
               std::to_string(least) + " to " + std::to_string(most));
    }
    return number;
}

int Fields::size(const char* name, int least) const {
    return static_cast<int>(whole(name, least, 1 << 30));
}

const Json& Fields::list(const char* name) const {
    return expect(name, [](const Json& each) { return each.is_array(); }, "a list");
}

const Json& Fields::object(const char* name) const {
    return expect(name, [](const Json& each) { return each.is_object(); }, "an object");
}

std::vector<std::string> Fields::texts(const char* name) const {
    return expect(
        name,
        [](const Json& each) {
            return each.is_array() && std::all_of(each.begin(), each.end(),
                                                  [](const Json& one) { return one.is_string(); });
        },
        "a list of strings");
}

std::map<std::string, std::string> Fields::texts_by_name(const char* name) const {
    return expect(
        name,
        [](const Json& each) {
            return each.is_object() && std::all_of(each.begin(), each.end(),
                                                   [](const Json& one) { return one.is_string(); });
        },
        "an object of strings");
}

}  // namespace d2serve
