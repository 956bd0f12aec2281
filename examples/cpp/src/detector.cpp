#include "d2serve_cpp/detector.h"

#include <chrono>
#include <utility>

#include "d2serve_cpp/archive.h"
#include "d2serve_cpp/input.h"
#include "d2serve_cpp/postprocess.h"

namespace d2serve {
namespace {

/// Gives the seconds since it was asked before.
class Stopwatch {
  public:
    double lap() {
        const auto now = std::chrono::steady_clock::now();
        return std::chrono::duration<double>(now - std::exchange(began_, now)).count();
    }

  private:
    std::chrono::steady_clock::time_point began_ = std::chrono::steady_clock::now();
};

}  // namespace

Detector Detector::open(const std::filesystem::path& path, int threads) {
    // What was unpacked goes when this returns: an engine has read its program, or mapped it.
    const Archive archive = Archive::open(path);
    Detector made;
    made.spec_ = archive.spec();
    made.model_ = archive.model();
    made.version_ = archive.version();
    made.engine_ = load_engine(archive.spec(), archive.folder(), threads);
    return made;
}

Outputs Detector::operator()(const Image& image, Timing* timing, bool masks) const {
    Stopwatch watch;
    Timing taken;
    const ModelInput input = preprocess(image, spec_);
    taken.preprocess = watch.lap();
    RawOutputs raw;
    {
        const std::lock_guard<std::mutex> alone(*one_call_);
        watch.lap();
        raw = engine_->run(input, masks || spec_.has_keypoints());
        taken.forward = watch.lap();
    }
    Outputs outputs = d2serve::postprocess(raw, input, spec_, masks);
    taken.postprocess = watch.lap();
    if (timing != nullptr) *timing = taken;
    return outputs;
}

}  // namespace d2serve
