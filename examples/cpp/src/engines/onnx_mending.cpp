// An ONNX file is a protobuf message (onnx/onnx.proto). What is not mended is copied as it is.
#include "engines/onnx_mending.h"

#include <cstdint>
#include <iterator>
#include <vector>

namespace d2serve {
namespace {

/// Numbers of fields in onnx.proto.
enum Model { kGraph = 7 };
enum Graph { kNode = 1 };
enum Node { kInput = 1, kOutput = 2, kOpType = 4, kAttribute = 5 };
enum Attribute { kName = 1, kInt = 3, kTensor = 5, kSubgraph = 6, kInts = 8, kType = 20 };
enum AttributeType { kTypeInt = 2, kTypeTensor = 4, kTypeInts = 7 };
enum TensorField { kDims = 1, kDataType = 2, kRawData = 9 };
constexpr std::uint64_t kInt64 = 7;  // of TensorProto.DataType

enum Wire { kVarint = 0, kSixtyFour = 1, kBytes = 2, kThirtyTwo = 5 };

struct NotProtobuf {};

struct Field {
    std::uint64_t number = 0;
    int wire = 0;
    std::uint64_t value = 0;   // of a varint
    std::string_view content;  // of bytes
    std::string_view whole;    // with what says which field it is
};

/// The fields of a message, one after the other.
class Fields {
  public:
    explicit Fields(std::string_view message) : rest_(message) {}

    bool next(Field& field) {
        if (rest_.empty()) return false;
        const std::string_view before = rest_;
        const std::uint64_t tag = varint();
        field = {tag >> 3, static_cast<int>(tag & 7), 0, {}, {}};
        if (field.wire == kVarint) {
            field.value = varint();
        } else {
            const std::uint64_t size = field.wire == kBytes       ? varint()
                                       : field.wire == kSixtyFour ? 8
                                       : field.wire == kThirtyTwo ? 4
                                                                  : throw NotProtobuf();
            if (size > rest_.size()) throw NotProtobuf();
            field.content = rest_.substr(0, size);
            rest_.remove_prefix(size);
        }
        field.whole = before.substr(0, before.size() - rest_.size());
        return true;
    }

    std::uint64_t varint() {
        std::uint64_t value = 0;
        for (int shift = 0; shift < 64 && !rest_.empty(); shift += 7) {
            const auto byte = static_cast<unsigned char>(rest_.front());
            rest_.remove_prefix(1);
            value |= static_cast<std::uint64_t>(byte & 127) << shift;
            if (byte < 128) return value;
        }
        throw NotProtobuf();
    }

    bool empty() const { return rest_.empty(); }

  private:
    std::string_view rest_;
};

/// A message in the making.
class Message {
  public:
    Message& number(std::uint64_t field, std::uint64_t value) {
        varint(field << 3 | kVarint);
        varint(value);
        return *this;
    }
    Message& bytes(std::uint64_t field, std::string_view value) {
        varint(field << 3 | kBytes);
        varint(value.size());
        text_ += value;
        return *this;
    }
    Message& as_it_is(const Field& field) {
        text_ += field.whole;
        return *this;
    }
    const std::string& text() const { return text_; }

  private:
    void varint(std::uint64_t value) {
        for (; value >= 128; value >>= 7) text_ += static_cast<char>(value | 128);
        text_ += static_cast<char>(value);
    }

    std::string text_;
};

/// Numbers of a repeated field, which stand together or each by itself.
void append_numbers(const Field& field, std::vector<std::uint64_t>& numbers) {
    if (field.wire == kVarint) {
        numbers.push_back(field.value);
        return;
    }
    for (Fields packed(field.content); !packed.empty();) numbers.push_back(packed.varint());
}

struct TensorHead {
    std::vector<std::uint64_t> dims;
    std::uint64_t type = 0;

    bool is_empty() const {
        for (const std::uint64_t side : dims) {
            if (side == 0) return true;
        }
        return false;
    }
};

struct NodeParts {
    std::vector<std::string> inputs, outputs;
    std::string op_type;
    std::optional<TensorHead> value;  // of a constant
    std::optional<std::vector<std::uint64_t>> axes;
    std::uint64_t keep_dims = 1;
};

TensorHead tensor_head(std::string_view message) {
    TensorHead head;
    Field field;
    for (Fields fields(message); fields.next(field);) {
        if (field.number == kDims) append_numbers(field, head.dims);
        if (field.number == kDataType) head.type = field.value;
    }
    return head;
}

void read_attribute(std::string_view message, NodeParts& node) {
    std::string name;
    std::vector<std::uint64_t> numbers;
    std::uint64_t number = 0;
    std::optional<TensorHead> tensor;
    Field field;
    for (Fields fields(message); fields.next(field);) {
        if (field.number == kName) name = field.content;
        if (field.number == kInt) number = field.value;
        if (field.number == kInts) append_numbers(field, numbers);
        if (field.number == kTensor) tensor = tensor_head(field.content);
    }
    if (name == "value") node.value = tensor;
    if (name == "axes") node.axes = numbers;
    if (name == "keepdims") node.keep_dims = number;
}

NodeParts node_parts(std::string_view message) {
    NodeParts node;
    Field field;
    for (Fields fields(message); fields.next(field);) {
        if (field.number == kInput) node.inputs.emplace_back(field.content);
        if (field.number == kOutput) node.outputs.emplace_back(field.content);
        if (field.number == kOpType) node.op_type = field.content;
        if (field.number == kAttribute) read_attribute(field.content, node);
    }
    return node;
}

std::string int_attribute(std::string_view name, std::uint64_t value) {
    return Message().bytes(kName, name).number(kInt, value).number(kType, kTypeInt).text();
}

std::string ints_attribute(std::string_view name, const std::vector<std::uint64_t>& values) {
    Message made;
    made.bytes(kName, name);
    for (const std::uint64_t value : values) made.number(kInts, value);
    return made.number(kType, kTypeInts).text();
}

std::string tensor_attribute(std::string_view name, const std::string& tensor) {
    return Message().bytes(kName, name).bytes(kTensor, tensor).number(kType, kTypeTensor).text();
}

/// A one-dimensional tensor of whole numbers, of which 8 bytes a number are enough for any type.
std::string tensor_of(std::uint64_t type, const std::vector<std::uint64_t>& values, int bytes) {
    std::string raw;
    for (std::uint64_t value : values) {
        for (int i = 0; i < bytes; ++i, value >>= 8) raw += static_cast<char>(value & 255);
    }
    Message made;
    return made.number(kDims, values.size()).number(kDataType, type).bytes(kRawData, raw).text();
}

/// Bytes of a value of a type of onnx.proto.
int bytes_of(std::uint64_t type) {
    constexpr int sizes[] = {0, 4, 1, 1, 2, 2, 4, 8, 0, 1, 2, 8, 4, 8};
    return type < std::size(sizes) ? sizes[type] : 0;
}

/// Nodes in the making, each a field of the graph.
class Nodes {
  public:
    explicit Nodes(Message& graph) : graph_(graph) {}

    void add(std::string_view op_type, const std::vector<std::string>& inputs,
             const std::string& output, const std::vector<std::string>& attributes = {}) {
        Message node;
        for (const std::string& each : inputs) node.bytes(kInput, each);
        node.bytes(kOutput, output).bytes(kOpType, op_type);
        for (const std::string& each : attributes) node.bytes(kAttribute, each);
        graph_.bytes(kNode, node.text());
    }

  private:
    Message& graph_;
};

void add_empty_constant(Nodes nodes, const std::string& out, const TensorHead& value) {
    const std::string shape = tensor_of(kInt64, value.dims, 8);
    const std::string zero = tensor_of(value.type, {0}, bytes_of(value.type));
    nodes.add("Constant", {}, out + "_shape", {tensor_attribute("value", shape)});
    nodes.add("ConstantOfShape", {out + "_shape"}, out, {tensor_attribute("value", zero)});
}

void add_log_sum_exp(Nodes nodes, const NodeParts& node) {
    const std::string& x = node.inputs[0];
    const std::string& out = node.outputs[0];
    std::vector<std::string> with_axes, summed = {out + "_exp"};
    if (node.axes) {
        with_axes.push_back(ints_attribute("axes", *node.axes));
        summed.push_back(out + "_axes");  // those of ReduceSum are an input
        const std::string axes = tensor_of(kInt64, *node.axes, 8);
        nodes.add("Constant", {}, out + "_axes", {tensor_attribute("value", axes)});
    }
    const auto keeping = [&](std::uint64_t keep) {
        std::vector<std::string> attributes = with_axes;
        attributes.push_back(int_attribute("keepdims", keep));
        return attributes;
    };
    nodes.add("ReduceMax", {x}, out + "_most", keeping(1));
    nodes.add("Sub", {x, out + "_most"}, out + "_less");
    nodes.add("Exp", {out + "_less"}, out + "_exp");
    nodes.add("ReduceSum", summed, out + "_sum", {int_attribute("keepdims", node.keep_dims)});
    nodes.add("Log", {out + "_sum"}, out + "_log");
    nodes.add("ReduceMax", {x}, out + "_base", keeping(node.keep_dims));
    nodes.add("Add", {out + "_log", out + "_base"}, out);
}

std::string mended_graph(std::string_view message, bool& changed);

/// A node with its subgraphs mended.
std::string mended_node(std::string_view message, bool& changed) {
    Message made;
    Field field, part;
    for (Fields fields(message); fields.next(field);) {
        if (field.number != kAttribute) {
            made.as_it_is(field);
            continue;
        }
        Message attribute;
        for (Fields parts(field.content); parts.next(part);) {
            if (part.number == kSubgraph) {
                attribute.bytes(kSubgraph, mended_graph(part.content, changed));
            } else {
                attribute.as_it_is(part);
            }
        }
        made.bytes(kAttribute, attribute.text());
    }
    return made.text();
}

std::string mended_graph(std::string_view message, bool& changed) {
    Message made;
    Field field;
    for (Fields fields(message); fields.next(field);) {
        if (field.number != kNode) {
            made.as_it_is(field);
            continue;
        }
        const NodeParts node = node_parts(field.content);
        const bool one_output = node.outputs.size() == 1;
        if (one_output && node.op_type == "Constant" && node.value && node.value->is_empty()) {
            add_empty_constant(Nodes(made), node.outputs[0], *node.value);
            changed = true;
        } else if (one_output && node.op_type == "ReduceLogSumExp" && node.inputs.size() == 1) {
            add_log_sum_exp(Nodes(made), node);
            changed = true;
        } else {
            made.bytes(kNode, mended_node(field.content, changed));
        }
    }
    return made.text();
}

}  // namespace

std::optional<std::string> mended_onnx(std::string_view file) {
    Message made;
    bool changed = false;
    try {
        Field field;
        for (Fields fields(file); fields.next(field);) {
            if (field.number == kGraph && field.wire == kBytes) {
                made.bytes(kGraph, mended_graph(field.content, changed));
            } else {
                made.as_it_is(field);
            }
        }
    } catch (const NotProtobuf&) {
        return {};  // for whoever reads it to refuse
    }
    if (!changed) return {};
    return made.text();
}

}  // namespace d2serve
