// A program: a flat list of coarse op calls over declared tensors. A model's forward pass writes one;
// differentiation, recompute, the arena are functions of it; src/run executes it. Shapes are fixed: what
// varies from run to run (tokens, documents, labelled rows) has a capacity in the shape and a count in a
// small input tensor.
//
//   Program program;
//   ProgramBuilder b(program);
//   TensorId tokens = b.input("input_ids", DType::i32, {capacity}, num_tokens);
//   TensorId weight = b.state("model.embed_tokens.weight", DType::bf16, {vocab_size, hidden_size},
//   Role::weight); TensorId x = ops::embedding(b, "model.embed_tokens", tokens, weight);
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "program/attributes.h"
#include "tensor/device_kind.h"
#include "tensor/dtype.h"
#include "tensor/shape.h"

namespace serval {

struct Op;

using TensorId = int32_t;
constexpr TensorId kNone = -1;  // an optional operand that is absent

enum class TensorKind {
  input,      // written by the host before each run
  state,      // survives runs; changed only by calls that list it under `updates`
  temporary,  // lives from its first to its last call, at an offset of the arena
};

// What a tensor is for: the rows of the memory table.
enum class Role { input, weight, adapter, gradient, optimizer, cache, counter, activation, workspace };
const char* name_of(Role role);

struct TensorDecl {
  std::string name;
  DType dtype = DType::f32;
  Shape shape;
  int64_t row_stride = 0;  // elements
  TensorKind kind = TensorKind::temporary;
  Role role = Role::activation;
  TensorId base = kNone;   // a view: shares the memory of `base`, which is no view itself
  int64_t offset = 0;      // of a view: elements from the start of `base`
  TensorId count = kNone;  // i32[1] that holds the valid rows; kNone: all rows are valid
  bool keep = false;       // a block's input: kept even where a whole block is recomputed
  bool host = false;       // a temporary in pinned host memory, not in the arena: for copies alone
  bool named = false;      // a view of a state that is known by a name of its own, as a state is

  // Bytes from the first element to the last, padding between rows included.
  int64_t span_bytes() const;
};

enum class Phase { forward, backward, update };

// An asynchronous call is a pair of entries: its operands live from `start` to `wait`.
enum class EntryKind { call, start, wait };

struct OpCall {
  const Op* op = nullptr;
  std::string name;               // stable: every pass keeps it; random numbers are keyed by it
  std::vector<TensorId> inputs;   // read
  std::vector<TensorId> outputs;  // temporaries (or views of them) written whole
  std::vector<TensorId> updates;  // read and written in place
  Attributes attributes;
  Phase phase = Phase::forward;
  EntryKind entry = EntryKind::call;
  int32_t pair = -1;        // of a `wait`: the position of its `start`
  bool recomputed = false;  // a second computation of a forward tensor
};

struct Program {
  std::string name;
  DeviceKind device = DeviceKind::cpu;  // where it will run: layouts and scratch memory depend on it
  std::vector<TensorDecl> tensors;
  std::vector<OpCall> calls;

  const TensorDecl& tensor(TensorId id) const { return tensors[static_cast<size_t>(id)]; }
  TensorDecl& tensor(TensorId id) { return tensors[static_cast<size_t>(id)]; }
  TensorId root(TensorId id) const { return tensor(id).base == kNone ? id : tensor(id).base; }
  TensorId find(std::string_view tensor_name) const;  // kNone where there is none
};

// Calls `visit(id)` for each present operand.
template <class Visit>
void for_each_operand(const OpCall& call, Visit visit) {
  for (const auto* list : {&call.inputs, &call.outputs, &call.updates})
    for (const TensorId id : *list)
      if (id != kNone) visit(id);
}

// Appends declarations and calls to a program. Names of calls and of temporaries are prefixed by the open
// scopes.
class ProgramBuilder {
 public:
  explicit ProgramBuilder(Program& program) : program_(program) {}
  Program& program() { return program_; }
  const TensorDecl& tensor(TensorId id) const { return program_.tensor(id); }

  TensorId input(std::string name, DType dtype, Shape shape, TensorId count = kNone);
  // A state of this name that exists already is returned; dtype and shape must agree.
  TensorId state(std::string name, DType dtype, Shape shape, Role role);
  TensorId temporary(std::string name, DType dtype, Shape shape, TensorId count = kNone,
                     Role role = Role::activation);

  // Views. A view of a view is a view of its root.
  TensorId columns(TensorId id, int64_t begin, int64_t size);  // x[:, begin : begin + size]
  TensorId rows(TensorId id, int64_t begin, int64_t size);     // x[begin : begin + size]
  // Elements [offset, ...) of a state as a state of its own: a tensor of that shape whose rows are as far
  // apart as the storage's. One of this name that exists already is returned.
  TensorId region(TensorId storage, const std::string& name, Shape shape, int64_t offset, Role role);
  // The same region of `target`, a tensor of the same shape as `id`'s root (used for gradients).
  TensorId same_view(TensorId id, TensorId target);

  // Appends a call; the op's shape rule declares its outputs, unless `outputs` names tensors of the right
  // shape. Returns the call's outputs.
  std::vector<TensorId> call(const Op& op, std::string name, std::vector<TensorId> inputs,
                             Attributes attributes = {}, std::vector<TensorId> updates = {},
                             std::vector<TensorId> outputs = {});

  void set_phase(Phase phase) { phase_ = phase; }
  Phase phase() const { return phase_; }
  void mark_keep(TensorId id) { program_.tensor(id).keep = true; }

  std::string scoped(std::string_view name) const;
  void push_scope(std::string_view name);
  void pop_scope();

 private:
  Program& program_;
  Phase phase_ = Phase::forward;
  std::vector<std::string> scopes_;
};

// auto scope = NameScope(b, "layers.3");
class NameScope {
 public:
  NameScope(ProgramBuilder& builder, std::string_view name) : builder_(builder) { builder_.push_scope(name); }
  ~NameScope() { builder_.pop_scope(); }
  NameScope(const NameScope&) = delete;
  NameScope& operator=(const NameScope&) = delete;

 private:
  ProgramBuilder& builder_;
};

}  // namespace serval
