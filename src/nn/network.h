// The context in which a model writes its forward pass, and the layers with parameters. A layer declares its
// states, registers them in the parameter table and appends op calls; it knows nothing of devices, memory or
// backward passes.
//
//   Network net(builder, table, {.compute = DType::bf16, .adapter = ..., .trained = ...});
//   TensorId qkv = net.linear("self_attn", {{"q_proj", 2048}, {"k_proj", 512}, {"v_proj", 512}}, x);
#pragma once
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "nn/parameters.h"
#include "program/program.h"

namespace serval {

struct NetworkOptions {
  DType compute = DType::f32;
  // The adapter of a linear module ("model.layers.0.self_attn.q_proj"), if it has one.
  std::function<std::optional<ModuleAdapter>(const std::string& module)> adapter;
  // Whether a parameter of the base ("model.norm.weight") is trained.
  std::function<bool(const std::string& parameter)> trained;
  bool train_adapters = true;
  bool dropout = false;    // adapters drop out inputs: training programs only
  bool gradients = false;  // declare gradient accumulators: training programs only
  // On a GPU: equal bits on every run, and our own attention kernels instead of the library's.
  bool deterministic = false, own_attention = false;
  // Adapters lie beside and below their weights (ops/linear); the default is what suits the device.
  std::optional<bool> adapter_storage{};
};

struct LinearPart {
  std::string name;  // "q_proj"
  int64_t size = 0;  // output features
  bool bias = false;
};

class Network {
 public:
  Network(ProgramBuilder& builder, ParameterTable& table, NetworkOptions options)
      : b(builder), table_(table), options_(std::move(options)) {}

  ProgramBuilder& b;
  const NetworkOptions& options() const { return options_; }

  // weight [vocab_size, hidden_size]; y [T, hidden_size].
  TensorId embedding(const std::string& name, TensorId ids, int64_t vocab_size, int64_t hidden_size);
  // One product for all parts: y [T, sum of sizes], parts side by side. Names are scoped: module =
  // scope.part.
  TensorId linear(const std::string& scope, const std::vector<LinearPart>& parts, TensorId x);
  TensorId rms_norm(const std::string& name, TensorId x, double eps);
  // A weight vector (a norm's), by its scoped name.
  TensorId vector(const std::string& name, int64_t size, Init init);
  // A matrix by its whole name: the head's, or the embedding's for a tied head.
  TensorId matrix(const std::string& name, int64_t rows, int64_t columns);
  // The gradient accumulator of a trained parameter's state, else kNone.
  TensorId gradient_of(TensorId parameter);
  // The random state (seed, step, micro-step): an input, declared once.
  TensorId random();

 private:
  TensorId declare(Parameter parameter);
  bool trained(const std::string& name) const { return options_.trained && options_.trained(name); }

  ParameterTable& table_;
  NetworkOptions options_;
  TensorId random_ = kNone;
};

}  // namespace serval
