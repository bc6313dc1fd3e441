// The parameters of a network: how the names of a Hugging Face checkpoint or a PEFT adapter lie in the states
// of its programs. The layers fill this table while the first program is written; loader, exporter, optimizer
// and plan read it.
#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "program/program.h"

namespace serval {

enum class Init {
  normal,  // N(0, initializer_range)
  zeros,
  ones,
  lora_a,  // U(-1/sqrt(in), 1/sqrt(in)), as torch's kaiming_uniform_(a=sqrt(5))
};

// One named tensor of a checkpoint or adapter: rows [row_begin, row_begin + shape.rows()) of a state.
struct ParameterSlice {
  std::string
      name;     // "model.layers.0.self_attn.q_proj.weight", "model.layers.0.self_attn.q_proj.lora_A.weight"
  Shape shape;  // as the file has it
  int64_t row_begin = 0;
  bool trained = false;
  Init init = Init::normal;
  bool optional = false;  // zero where the file lacks it (a bias that only some segments have)
};

// A wider state that a parameter is a part of: a layout that some op wants on some device.
struct Storage {
  std::string state;
  Shape shape;
  int64_t offset = 0;  // of the parameter's first element
};

struct Parameter {
  std::string state;  // the tensor that the products read
  Shape shape;
  DType dtype = DType::f32;
  Role role = Role::weight;
  std::vector<ParameterSlice> slices;
  std::optional<Storage> storage{};

  bool trained() const {
    for (const auto& slice : slices)
      if (slice.trained) return true;
    return false;
  }
};

// The parameter's tensor in a program: a state, or a region of its storage.
TensorId declare_parameter(ProgramBuilder& b, const Parameter& parameter);

// Names of the states that training adds to a slice or a parameter.
std::string gradient_state(const Parameter& parameter);
std::string master_state(const ParameterSlice& slice);  // the f32 value where the products read bf16
std::string moment_state(const ParameterSlice& slice, int which);  // 1 or 2
std::string absmax_state(const ParameterSlice& slice, int which);  // of the blocks of an 8-bit moment

class ParameterTable {
 public:
  // Registers a parameter; one that is there already is left as it is.
  void add(Parameter parameter);
  const std::vector<Parameter>& all() const { return parameters_; }
  const Parameter* find_state(std::string_view state) const;

 private:
  std::vector<Parameter> parameters_;
  std::map<std::string, size_t, std::less<>> by_state_;
};

// What is trained, and how. The functions get names as the checkpoint has them, without ".weight" for
// modules.
struct ModuleAdapter {
  int64_t rank = 0;
  double scale = 1;
  double dropout = 0;
};

}  // namespace serval
