// A .mar, or the folder that one was extracted to: checked, and its program at hand as files.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "d2serve_cpp/spec.h"

namespace d2serve {

/// A program's files, each compared with its SHA-256. Those of a .mar lie in a private temporary
/// folder, which is removed with this object.
class Archive {
  public:
    /// Throws Error when it is neither archive nor folder, damaged, incomplete or changed.
    static Archive open(const std::filesystem::path& path);

    Archive(Archive&&) noexcept;
    Archive& operator=(Archive&&) noexcept;
    ~Archive();

    const Spec& spec() const { return spec_; }
    /// Where the program's files are.
    const std::filesystem::path& folder() const { return folder_; }
    /// Name and version under which TorchServe would register it.
    const std::string& model() const { return model_; }
    const std::string& version() const { return version_; }

  private:
    Archive() = default;

    Spec spec_;
    std::filesystem::path folder_;
    std::string model_;
    std::string version_;
    std::filesystem::path temporary_;
};

}  // namespace d2serve
