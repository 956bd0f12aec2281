// The Detector: an image in, what detectron2's DefaultPredictor answers out.
#pragma once

#include <filesystem>
#include <memory>
#include <mutex>
#include <string>

#include "d2serve_cpp/engine.h"
#include "d2serve_cpp/image.h"
#include "d2serve_cpp/outputs.h"
#include "d2serve_cpp/spec.h"

namespace d2serve {

/// What an answer took, in seconds.
struct Timing {
    double preprocess = 0;
    double forward = 0;
    double postprocess = 0;
};

/// A loaded model. Any number of threads may ask it; its program answers one of them at a time.
class Detector {
  public:
    /// Loads a .mar, or the folder that one was extracted to. Throws Error when it cannot be used.
    /// Threads: 0 takes OMP_NUM_THREADS where that is set, otherwise the cores that this process
    /// may use.
    static Detector open(const std::filesystem::path& path, int threads = 0);

    /// Answers an image of the form that the spec says: what `read_image` gives for
    /// `spec().image_form()`. Without `masks` instances have none, and the program spares the time
    /// for them where it can (`spec().detail_classes`). Throws Error.
    Outputs operator()(const Image& image, Timing* timing = nullptr, bool masks = true) const;

    const Spec& spec() const { return spec_; }
    /// Name and version under which TorchServe would register it.
    const std::string& model() const { return model_; }
    const std::string& version() const { return version_; }

  private:
    Detector() = default;

    Spec spec_;
    std::string model_;
    std::string version_;
    std::unique_ptr<Engine> engine_;
    std::unique_ptr<std::mutex> one_call_ = std::make_unique<std::mutex>();
};

}  // namespace d2serve
