// The Detector: an image in, what detectron2's DefaultPredictor answers out.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "d2serve_cpp/engine.h"
#include "d2serve_cpp/image.h"
#include "d2serve_cpp/outputs.h"
#include "d2serve_cpp/spec.h"

namespace d2serve {

/// A loaded model. One thread at a time may ask it.
class Detector {
  public:
    /// Loads a .mar, or the folder that one was extracted to. Throws Error when it cannot be used.
    static Detector open(const std::filesystem::path& path, int threads = 0);

    /// Answers an image of the form that the spec says: what `read_image` gives. Throws Error.
    Outputs operator()(const Image& image);

    const Spec& spec() const { return spec_; }
    const std::string& model() const { return model_; }
    const std::string& version() const { return version_; }

  private:
    Detector() = default;

    Spec spec_;
    std::string model_;
    std::string version_;
    std::unique_ptr<Engine> engine_;
};

}  // namespace d2serve
