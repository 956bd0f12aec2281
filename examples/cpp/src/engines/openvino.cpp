// Runs OpenVINO and ONNX programs on OpenVINO, on the CPU, in the precision that the spec names: as
// handlers/runtimes/openvino.py runs them.
#include <algorithm>
#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>
#include <limits>
#include <map>
#include <openvino/openvino.hpp>
#include <set>

#include "d2serve_cpp/engine.h"
#include "d2serve_cpp/error.h"
#include "engines/cpu_features.h"
#include "engines/onnx_mending.h"
#include "words.h"

namespace d2serve {
namespace {

DType dtype_of(const ov::element::Type& type) {
    if (type == ov::element::f32) return DType::float32;
    if (type == ov::element::f64) return DType::float64;
    if (type == ov::element::f16) return DType::float16;
    if (type == ov::element::i64) return DType::int64;
    if (type == ov::element::i32) return DType::int32;
    if (type == ov::element::i16) return DType::int16;
    if (type == ov::element::i8) return DType::int8;
    if (type == ov::element::u8) return DType::uint8;
    if (type == ov::element::boolean) return DType::boolean;
    throw Error("The program answers values of the type " + type.to_string() +
                ", which no output of detectron2 has: export the model again.");
}

Tensor copied(const ov::Tensor& from) {
    Tensor made;
    made.dtype = dtype_of(from.get_element_type());
    for (const std::size_t side : from.get_shape()) {
        made.shape.push_back(static_cast<std::int64_t>(side));
    }
    made.data.resize(from.get_byte_size());
    if (!made.data.empty()) std::memcpy(made.data.data(), from.data(), made.data.size());
    return made;
}

class OpenVino : public Engine {
  public:
    OpenVino(const ov::Core& core, const std::shared_ptr<ov::Model>& model, const Spec& spec,
             const ov::element::Type& type, int threads)
        : spec_(spec), core_(core) {
        // Workers that pin their threads all pin them to the same first cores.
        compiled_ = core_.compile_model(
            model, "CPU", ov::hint::performance_mode(ov::hint::PerformanceMode::LATENCY),
            ov::num_streams(1), ov::inference_num_threads(threads),
            ov::hint::enable_cpu_pinning(false), ov::hint::inference_precision(type));
        request_ = compiled_.create_infer_request();
    }

    RawOutputs run(const ModelInput& input, bool details) override {
        try {
            return answered(input, details);
        } catch (const std::exception& error) {
            throw Error("The model failed on this image (" + one_line(error.what()) +
                        "). If every image fails, the archive is at fault: check it with `d2serve "
                        "verify`. If large ones do, there is too little memory.");
        }
    }

  private:
    RawOutputs answered(const ModelInput& input, bool details) {
        const ov::Shape shape = {static_cast<std::size_t>(input.channels),
                                 static_cast<std::size_t>(input.resized_height),
                                 static_cast<std::size_t>(input.resized_width)};
        // Read only: the program does not write into its input.
        auto* pixels = const_cast<float*>(input.tensor.data());
        request_.set_input_tensor(0, ov::Tensor(ov::element::f32, shape, pixels));
        std::map<std::string, std::int64_t> numbers = {
            {"height", input.height},
            {"width", input.width},
            {"detail_most", details ? kAllDetails : 0}};
        std::vector<float> scores(static_cast<std::size_t>(spec_.detail_classes.value_or(0)),
                                  -std::numeric_limits<float>::infinity());
        // OpenVINO takes inputs of an ONNX file that have values there for constants.
        for (std::size_t i = 1; i < compiled_.inputs().size(); ++i) {
            const std::string name = spec_.inputs()[i];
            if (name == "detail_scores") {
                request_.set_input_tensor(
                    i, ov::Tensor(ov::element::f32, ov::Shape{scores.size()}, scores.data()));
            } else {
                request_.set_input_tensor(
                    i, ov::Tensor(ov::element::i64, ov::Shape{}, &numbers.at(name)));
            }
        }
        request_.infer();
        RawOutputs outputs;
        for (const std::string& name : spec_.outputs) {
            outputs.emplace(name, copied(request_.get_tensor(name)));
        }
        return outputs;
    }

    Spec spec_;
    ov::Core core_;
    ov::CompiledModel compiled_;
    ov::InferRequest request_;
};

void check(const ov::Model& model, const Spec& spec, const std::string& program) {
    std::set<std::string> outputs;
    for (const auto& output : model.outputs()) {
        outputs.insert(output.get_names().begin(), output.get_names().end());
    }
    std::string missing;
    for (const std::string& name : spec.outputs) {
        if (!outputs.contains(name)) missing += (missing.empty() ? "" : ", ") + name;
    }
    const auto inputs = model.inputs();
    bool fits = inputs.size() == spec.inputs().size() ||
                (spec.runtime == "onnxruntime" && spec.detail_classes && inputs.size() == 1);
    if (fits) {
        const ov::PartialShape& shape = inputs.front().get_partial_shape();
        fits = shape.rank() == 3 && shape[0] == spec.channels;
    }
    if (missing.empty() && fits) return;
    throw Error(program + " is not the program that its spec describes: expected one image [" +
                std::to_string(spec.channels) + ",?,?]" +
                (spec.postprocessed ? ", its height and width" : "") +
                (spec.detail_classes ? ", of which instances details are wanted" : "") +
                " to go in, and to come out also [" + missing + "]. Export the model again.");
}

/// Let activations pass unrounded; weights stay the rounded ones.
void drop_quantization(ov::Model& model) {
    for (const auto& node : model.get_ordered_ops()) {
        if (std::strcmp(node->get_type_info().name, "FakeQuantize") == 0) {
            node->output(0).replace(node->input_value(0));
        }
    }
    model.validate_nodes_and_infer_types();
}

std::shared_ptr<ov::Model> read(ov::Core& core, const std::filesystem::path& program) {
    if (program.extension() == ".onnx") {
        std::ifstream file(program, std::ios::binary);
        const std::string bytes{std::istreambuf_iterator<char>(file), {}};
        if (const auto mended = mended_onnx(bytes)) return core.read_model(*mended, ov::Tensor());
    }
    return core.read_model(program.string());
}

std::shared_ptr<ov::Model> model_of(ov::Core& core, const std::filesystem::path& program,
                                    const Spec& spec) {
    try {
        return read(core, program);
    } catch (const std::exception& error) {
        const auto version = spec.versions.find(spec.runtime == "openvino" ? "openvino" : "onnx");
        throw Error("OpenVINO " + std::string(ov::get_openvino_version().buildNumber) +
                    " cannot load " + program.filename().string() + ", which was exported with " +
                    (version == spec.versions.end() ? "an unknown version"
                                                    : version->first + " " + version->second) +
                    " (" + one_line(error.what()) +
                    "). Build with a newer OpenVINO, or export again with this one.");
    }
}

std::unique_ptr<Engine> loaded(const Spec& spec, const std::filesystem::path& program,
                               int threads) {
    ov::Core core;
    const auto model = model_of(core, program, spec);
    check(*model, spec, program.filename().string());
    const auto capabilities = core.get_property("CPU", ov::device::capabilities);
    const bool has_bf16 =
        std::find(capabilities.begin(), capabilities.end(), "BF16") != capabilities.end();
    std::string precision = spec.precision;
    const std::string lacking = slow_precision(precision, has_bf16);
    if (!lacking.empty()) {
        std::cerr << spec.name << " is in " << precision << ", but " << lacking
                  << ": it runs in fp32.\n";
        if (precision == "int8") drop_quantization(*model);
        precision = "fp32";
    }
    // What an int8 program has in float is marked as a bf16 program is.
    const bool in_bf16 = precision != "fp32" && has_bf16;
    return std::make_unique<OpenVino>(core, model, spec,
                                      in_bf16 ? ov::element::bf16 : ov::element::f32, threads);
}

}  // namespace
}  // namespace d2serve

extern "C" d2serve::Engine* d2serve_load_engine(const d2serve::Spec& spec,
                                                const std::filesystem::path& program, int threads) {
    try {
        return d2serve::loaded(spec, program, threads).release();
    } catch (const d2serve::Error&) {
        throw;
    } catch (const std::exception& error) {
        throw d2serve::Error("OpenVINO cannot prepare " + program.filename().string() + " (" +
                             d2serve::one_line(error.what()) +
                             "). If the archive is whole, there is too little memory.");
    }
}
