#include "nn/network.h"

#include "base/error.h"
#include "ops/embedding/embedding.h"
#include "ops/linear/linear.h"
#include "ops/rms_norm/rms_norm.h"

namespace serval {
namespace {

DType gradient_type(DType compute) {
  return compute == DType::f64 ? DType::f64 : DType::f32;
}

}  // namespace

TensorId Network::declare(Parameter parameter) {
  const TensorId id = declare_parameter(b, parameter);
  if (options_.gradients && parameter.trained())
    b.state(gradient_state(parameter), gradient_type(parameter.dtype), parameter.shape, Role::gradient);
  table_.add(std::move(parameter));
  return id;
}

TensorId Network::gradient_of(TensorId parameter) {
  if (!options_.gradients) return kNone;
  return b.program().find(b.tensor(parameter).name + ".gradient");
}

TensorId Network::random() {
  if (random_ == kNone) random_ = b.input("random", DType::i64, {3});
  return random_;
}

TensorId Network::embedding(const std::string& name, TensorId ids, int64_t vocab_size, int64_t hidden_size) {
  const std::string full = b.scoped(name) + ".weight";
  const TensorId weight = matrix(full, vocab_size, hidden_size);
  return ops::embedding(b, name, ids, weight);
}

TensorId Network::matrix(const std::string& name, int64_t rows, int64_t columns) {
  const Shape shape{rows, columns};
  return declare({name,
                  shape,
                  options_.compute,
                  Role::weight,
                  {{.name = name, .shape = shape, .trained = trained(name), .init = Init::normal}}});
}

TensorId Network::vector(const std::string& name, int64_t size, Init init) {
  const std::string full = b.scoped(name);
  return declare({full,
                  {size},
                  options_.compute,
                  Role::weight,
                  {{.name = full, .shape = {size}, .trained = trained(full), .init = init}}});
}

TensorId Network::rms_norm(const std::string& name, TensorId x, double eps) {
  const TensorId weight = vector(name + ".weight", b.tensor(x).shape.row_size(), Init::ones);
  return ops::rms_norm(b, name, x, weight, eps);
}

TensorId Network::linear(const std::string& scope, const std::vector<LinearPart>& parts, TensorId x) {
  const int64_t in = b.tensor(x).shape.row_size();
  const std::string prefix = b.scoped(scope) + ".";
  std::string joined;
  int64_t out = 0, rank = 0;
  bool any_bias = false;
  std::vector<int64_t> segments;
  ops::LinearAdapter adapter;
  for (const auto& part : parts) {
    joined += (joined.empty() ? "" : "+") + part.name;
    out += part.size;
    any_bias = any_bias || part.bias;
    segments.push_back(part.size);
    const auto spec = options_.adapter ? options_.adapter(prefix + part.name) : std::nullopt;
    adapter.ranks.push_back(spec ? spec->rank : 0);
    adapter.scales.push_back(spec ? spec->scale : 0);
    if (spec && options_.dropout) adapter.dropout = spec->dropout;
    rank += adapter.ranks.back();
  }
  const std::string fused = prefix + joined;

  Parameter weight{fused + ".weight", {out, in}, options_.compute, Role::weight, {}};
  Parameter bias{fused + ".bias", {out}, options_.compute, Role::weight, {}};
  Parameter a{fused + ".lora_A", {rank, in}, options_.compute, Role::adapter, {}};
  // On a GPU the adapters lie beside and below the weight, so that each direction is one product.
  const bool stored = options_.adapter_storage.value_or(b.program().device == DeviceKind::cuda);
  const int64_t side = stored ? ops::linear_side_columns(rank) : 0;
  const auto place = [&](int64_t at_row, int64_t at_column) -> std::optional<Storage> {
    if (side == 0) return std::nullopt;
    return Storage{fused + ".storage", {out + side, in + side}, at_row * (in + side) + at_column};
  };
  weight.storage = place(0, 0);
  a.storage = place(out, 0);
  int64_t row = 0, rank_row = 0;
  for (size_t i = 0; i < parts.size(); ++i) {
    const std::string module = prefix + parts[i].name;
    weight.slices.push_back({.name = module + ".weight",
                             .shape = {parts[i].size, in},
                             .row_begin = row,
                             .trained = trained(module + ".weight")});
    if (parts[i].bias)
      bias.slices.push_back({.name = module + ".bias",
                             .shape = {parts[i].size},
                             .row_begin = row,
                             .trained = trained(module + ".bias"),
                             .init = Init::zeros});
    if (adapter.ranks[i] > 0) {
      a.slices.push_back({.name = module + ".lora_A.weight",
                          .shape = {adapter.ranks[i], in},
                          .row_begin = rank_row,
                          .trained = options_.train_adapters,
                          .init = Init::lora_a});
      const Shape shape{parts[i].size, adapter.ranks[i]};
      adapter.b.push_back(declare({module + ".lora_B",
                                   shape,
                                   options_.compute,
                                   Role::adapter,
                                   {{.name = module + ".lora_B.weight",
                                     .shape = shape,
                                     .trained = options_.train_adapters,
                                     .init = Init::zeros}},
                                   place(row, in + rank_row)}));
    } else {
      adapter.b.push_back(kNone);
    }
    row += parts[i].size;
    rank_row += adapter.ranks[i];
  }
  const TensorId w = declare(std::move(weight));
  const TensorId bias_id = any_bias ? declare(std::move(bias)) : kNone;
  if (rank > 0) adapter.a = declare(std::move(a));
  if (adapter.dropout > 0) adapter.random = random();
  return ops::linear(b, scope + "." + joined, x, w, bias_id, segments, adapter);
}

}  // namespace serval
