// Runs traced and scripted programs on libtorch, on the CPU.
//
// A traced program takes the tensors that the spec's inputs name, of one image, and gives a tuple in
// the order of its outputs; a scripted one takes List[Dict[str, Tensor]] and gives the same.
#include <ATen/Parallel.h>
#include <c10/util/Exception.h>
#include <torch/csrc/jit/runtime/graph_executor.h>
#include <torch/script.h>
#include <torch/version.h>

#include <cmath>
#include <cstring>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "d2serve_cpp/engine.h"
#include "d2serve_cpp/error.h"

namespace d2serve {
namespace {

DType dtype_of(torch::ScalarType type) {
    switch (type) {
        case torch::kBool: return DType::boolean;
        case torch::kByte: return DType::uint8;
        case torch::kChar: return DType::int8;
        case torch::kShort: return DType::int16;
        case torch::kInt: return DType::int32;
        case torch::kLong: return DType::int64;
        case torch::kHalf: return DType::float16;
        case torch::kFloat: return DType::float32;
        case torch::kDouble: return DType::float64;
        default: break;
    }
    throw Error(std::string("The model answered a tensor of ") + torch::toString(type) +
                ", which has no place in a reply. Export the model again.");
}

Tensor taken(const torch::Tensor& given) {
    const torch::Tensor tensor = given.cpu().contiguous();
    Tensor made{dtype_of(tensor.scalar_type()), tensor.sizes().vec(), {}};
    made.data.resize(tensor.nbytes());
    if (!made.data.empty()) std::memcpy(made.data.data(), tensor.const_data_ptr(), tensor.nbytes());
    return made;
}

/// The last line of an error of torch's that says something, without where it was raised.
std::string one_line(const std::exception& error) {
    const auto* of_torch = dynamic_cast<const c10::Error*>(&error);
    std::istringstream lines(of_torch ? of_torch->what_without_backtrace() : error.what());
    std::string line, last;
    while (std::getline(lines, line)) {
        if (line.find_first_not_of(" \t~<>-^") != std::string::npos) last = line;
    }
    return last.substr(0, 300);
}

/// torch warns of what its own functions will do some day.
class Silence : public c10::WarningHandler {
  public:
    void process(const c10::Warning&) override {}
};

class Libtorch : public Engine {
  public:
    Libtorch(const Spec& spec, const std::filesystem::path& program, int threads)
        : spec_(spec), threads_(threads) {
        const auto found = spec.versions.find("torch");
        const std::string with = found == spec.versions.end() ? "" : found->second;
        const std::string here = TORCH_VERSION;
        const auto major = [](const std::string& each) { return each.substr(0, each.find('.')); };
        if (!with.empty() && major(with) != major(here)) {
            throw Error(spec.program + " was exported with torch " + with + ", this is libtorch " +
                        here + ": TorchScript is only read across minor versions. Build with that "
                        "version, or export again with this one.");
        }
        try {
            program_ = torch::jit::load(program.string(), torch::kCPU);
        } catch (const std::exception& error) {
            throw Error("libtorch " + here + " cannot load " + spec.program +
                        ", which was exported with torch " + (with.empty() ? "?" : with) + " (" +
                        one_line(error) + "). Build with that version, or export again with this "
                        "one.");
        }
    }

    RawOutputs run(const ModelInput& input, bool details) override {
        at::set_num_threads(threads_);
        // The optimiser specialises for input shapes, and images nearly always bring a new one.
        torch::jit::setGraphExecutorOptimize(false);
        const c10::InferenceMode no_gradients;
        Silence silence;
        const c10::WarningUtils::WarningHandlerGuard no_warnings(&silence);
        try {
            return spec_.method == "scripting" ? run_scripted(input, details)
                                               : run_traced(input, details);
        } catch (const Error&) {
            throw;
        } catch (const std::exception& error) {
            throw Error("The model failed on this image (" + one_line(error) +
                        "). If every image fails, the archive is at fault: check it with `d2serve "
                        "verify`. If large ones do, memory is lacking.");
        }
    }

  private:
    /// What the program takes: the image, and what else the spec says.
    std::vector<torch::Tensor> given(const ModelInput& input, bool details) const {
        std::vector<torch::Tensor> tensors;
        for (const std::string& name : spec_.inputs()) {
            if (name == "image") {
                // The program reads it, and does not keep it.
                tensors.push_back(torch::from_blob(
                    const_cast<float*>(input.tensor.data()),
                    {input.channels, input.resized_height, input.resized_width}, torch::kFloat));
            } else if (name == "detail_scores") {
                tensors.push_back(torch::full({*spec_.detail_classes}, -INFINITY, torch::kFloat));
            } else {
                const std::map<std::string, std::int64_t> numbers = {
                    {"height", input.height},
                    {"width", input.width},
                    {"detail_most", details ? kAllDetails : 0}};
                const std::int64_t number = numbers.at(name);
                tensors.push_back(torch::tensor(number, torch::kLong));
            }
        }
        return tensors;
    }

    RawOutputs run_traced(const ModelInput& input, bool details) {
        std::vector<torch::jit::IValue> arguments;
        for (torch::Tensor& each : given(input, details)) arguments.emplace_back(std::move(each));
        const auto answered = program_.forward(std::move(arguments)).toTupleRef().elements().vec();
        if (answered.size() != spec_.outputs.size()) {
            throw Error(spec_.program + " answered " + std::to_string(answered.size()) +
                        " tensors, its spec names " + std::to_string(spec_.outputs.size()) +
                        ". Export the model again.");
        }
        RawOutputs raw;
        for (std::size_t i = 0; i < answered.size(); ++i) {
            raw[spec_.outputs[i]] = taken(answered[i].toTensor());
        }
        return raw;
    }

    RawOutputs run_scripted(const ModelInput& input, bool details) {
        c10::Dict<std::string, torch::Tensor> image;
        std::vector<torch::Tensor> tensors = given(input, details);
        for (std::size_t i = 0; i < tensors.size(); ++i) {
            image.insert(spec_.inputs()[i], tensors[i]);
        }
        c10::List<c10::Dict<std::string, torch::Tensor>> batch;
        batch.push_back(image);
        const auto answers = program_.forward({batch}).toList();
        if (answers.size() != 1) {
            throw Error(spec_.program + " answered " + std::to_string(answers.size()) +
                        " images of one. Export the model again.");
        }
        const auto answer = answers.get(0).toGenericDict();
        RawOutputs raw;
        for (const std::string& name : spec_.outputs) {
            if (answer.contains(name)) raw[name] = taken(answer.at(name).toTensor());
        }
        return raw;
    }

    Spec spec_;
    int threads_;
    torch::jit::Module program_;
};

}  // namespace
}  // namespace d2serve

extern "C" d2serve::Engine* d2serve_load_engine(const d2serve::Spec& spec,
                                                const std::filesystem::path& program,
                                                int threads) {
    return new d2serve::Libtorch(spec, program, threads);
}
