// The one error of this library: a sentence that says what was got, and what to do.
#pragma once

#include <stdexcept>
#include <string>

namespace d2serve {

/// What the user can put right. Its text stands alone: the command prints it and ends with 1.
class Error : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

}  // namespace d2serve
