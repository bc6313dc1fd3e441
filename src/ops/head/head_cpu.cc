#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "ops/common/kernel.h"
#include "ops/common/products.h"
#include "ops/common/row_parts.h"
#include "ops/head/head_kernels.h"
#include "ops/head/head_tiles.h"

namespace serval {
SERVAL_CPU_FUNCTION(head_softmax, SoftmaxArgs)

namespace {

int64_t aligned(int64_t bytes) {
  return (bytes + 63) / 64 * 64;
}
int64_t wide_size(DType dtype) {
  return dtype == DType::f64 ? 8 : 4;
}
DType wide_type(DType dtype) {
  return dtype == DType::f64 ? DType::f64 : DType::f32;
}

// The workspace of one call: two numbers a row; then logits, gathered hidden rows, their gradient, or what
// head_tiles needs.
struct Workspace {
  double* nll;
  int32_t* correct;
  Matrix logits, hidden, d_hidden;
  void* tiles;
};

Workspace carve(void* memory, int64_t chunk, int64_t vocab_size, int64_t hidden_size, DType dtype,
                bool tiles) {
  char* at = static_cast<char*>(memory);
  const auto take = [&](int64_t bytes) {
    char* begin = at;
    at += aligned(bytes);
    return begin;
  };
  Workspace w{};
  w.nll = reinterpret_cast<double*>(take(chunk * 8));
  w.correct = reinterpret_cast<int32_t*>(take(chunk * 4));
  w.tiles = at;
  if (tiles) return w;
  w.logits = {
      take(chunk * vocab_size * wide_size(dtype)), wide_type(dtype), chunk, vocab_size, vocab_size, false};
  w.hidden = {take(chunk * hidden_size * size_of(dtype)), dtype, chunk, hidden_size, hidden_size, false};
  w.d_hidden = {take(chunk * hidden_size * size_of(dtype)), dtype, chunk, hidden_size, hidden_size, false};
  return w;
}

void copy_row(const Operand& from, int64_t from_row, void* to) {
  std::memcpy(to, static_cast<const char*>(from.data) + from_row * from.row_stride * size_of(from.dtype),
              static_cast<size_t>(from.row_size * size_of(from.dtype)));
}

struct Call {
  const Operand &hidden, &weight, &label_rows, &labels;
  const Operand &d_hidden, &d_weight;
  const float* row_weights;
  const Operand& upstream;
  bool gradient;
};

// The rows of a chunk from `from` on; the chunk begins at the label row `begin`.
SoftmaxArgs softmax_args(const Call& c, const Workspace& w, const Matrix& logits, int64_t begin,
                         int64_t from) {
  const int64_t row = begin + from;
  SoftmaxArgs args{
      .logits = logits.data, .dtype = c.hidden.dtype, .rows = logits.rows, .vocab_size = logits.columns};
  args.labels = c.labels.as<int32_t>() + row;
  args.row_weights = c.gradient && c.row_weights != nullptr ? c.row_weights + row : nullptr;
  if (c.upstream) {
    args.upstream_stride = c.upstream.row_stride;
    args.upstream =
        static_cast<const char*>(c.upstream.data) + row * c.upstream.row_stride * wide_size(c.hidden.dtype);
  }
  args.nll = w.nll + from;
  args.correct = w.correct + from;
  return args;
}

void clear_rows(const Operand& x) {
  parallel_for(0, x.rows, 64, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row)
      std::memset(static_cast<char*>(x.data) + row * x.row_stride * size_of(x.dtype), 0,
                  static_cast<size_t>(x.row_size * size_of(x.dtype)));
  });
}

// The rows of one chunk by head_tiles.
void run_tiles(const Call& c, const Workspace& w, int64_t begin, int64_t count) {
  HeadTiles t;
  t.hidden = c.hidden.as<uint16_t>(), t.hidden_stride = c.hidden.row_stride;
  t.weight = c.weight.as<uint16_t>(), t.weight_stride = c.weight.row_stride;
  if (c.gradient && c.d_hidden)
    t.d_hidden = c.d_hidden.as<uint16_t>(), t.d_hidden_stride = c.d_hidden.row_stride;
  t.rows = count, t.vocab_size = c.weight.rows, t.hidden_size = c.hidden.row_size;
  t.label_rows = c.label_rows.as<int32_t>() + begin, t.labels = c.labels.as<int32_t>() + begin;
  for (int64_t i = 0; i < count; ++i) SERVAL_CHECK(t.labels[i] >= 0 && t.labels[i] < t.vocab_size);
  if (c.row_weights != nullptr) t.row_weights = c.row_weights + begin;
  if (c.upstream) t.upstream = c.upstream.row<float>(begin), t.upstream_stride = c.upstream.row_stride;
  t.nll = w.nll, t.correct = w.correct;
  head_tiles(t, w.tiles);
}

// Runs `each_chunk(first row, rows, workspace)` after the softmax of each chunk.
template <class EachChunk>
void for_chunks(const Call& c, void* memory, EachChunk each_chunk) {
  const DType dtype = c.hidden.dtype;
  const int64_t rows = c.label_rows.rows, vocab_size = c.weight.rows, hidden_size = c.hidden.row_size;
  if (c.gradient && c.d_hidden) clear_rows(c.d_hidden);
  const bool tiles = head_uses_tiles(dtype, static_cast<bool>(c.d_weight));
  const int64_t chunk = head_chunk_rows(vocab_size, rows, tiles);
  const Matrix weight = Matrix::of(c.weight);
  const bool small = is_small_weight(c.weight);
  // Each row's gradient lies at the start of the row's logits, in the compute type.
  const auto gradient_of = [&](const Matrix& logits) {
    return Matrix{logits.data, dtype, logits.rows, vocab_size, vocab_size * wide_size(dtype) / size_of(dtype),
                  false};
  };
  for (int64_t begin = 0; begin < rows; begin += chunk) {
    const int64_t count = std::min(chunk, rows - begin);
    const Workspace w = carve(memory, chunk, vocab_size, hidden_size, dtype, tiles);
    if (tiles) {
      run_tiles(c, w, begin, count);
      each_chunk(begin, count, w);
      continue;
    }
    const int32_t* label_rows = c.label_rows.as<int32_t>() + begin;
    for_row_parts(small, count, [&](int64_t from, int64_t to) {
      const Matrix hidden = w.hidden.row_range(from, to - from), logits = w.logits.row_range(from, to - from);
      for (int64_t i = from; i < to; ++i)
        copy_row(c.hidden, label_rows[i],
                 static_cast<char*>(w.hidden.data) + i * hidden_size * size_of(dtype));
      multiply(hidden, weight.t(), logits);
      run_head_softmax(softmax_args(c, w, logits, begin, from));
      if (!c.gradient || !c.d_hidden) return;
      multiply(gradient_of(logits), weight, w.d_hidden.row_range(from, to - from));
      for (int64_t i = from; i < to; ++i)
        std::memcpy(
            static_cast<char*>(c.d_hidden.data) + label_rows[i] * c.d_hidden.row_stride * size_of(dtype),
            static_cast<char*>(w.d_hidden.data) + i * hidden_size * size_of(dtype),
            static_cast<size_t>(hidden_size * size_of(dtype)));
    });
    if (c.gradient && c.d_weight)
      add_over_rows(small, gradient_of(w.logits.row_range(0, count)), w.hidden.row_range(0, count),
                    Matrix::of(c.d_weight));
    each_chunk(begin, count, w);
  }
}

}  // namespace

int64_t head_workspace_bytes(const HeadSizes& s) {
  const bool tiles = head_uses_tiles(s.dtype, s.trains_weight);
  const int64_t chunk = head_most_chunk_rows(s.vocab_size, s.label_rows, tiles);
  const int64_t results = aligned(chunk * 8) + aligned(chunk * 4);
  if (tiles)
    return results + head_tiles_workspace_bytes(chunk, s.vocab_size, s.hidden_size, s.gives_d_hidden);
  return results + aligned(chunk * s.vocab_size * wide_size(s.dtype)) +
         2 * aligned(chunk * s.hidden_size * size_of(s.dtype));
}

void run_head_loss(const KernelContext& c) {
  const bool gradient = c.attributes->integer("gradient") != 0;
  const float* row_weights = c.input(4).as<float>();
  double* sums = c.update(0).as<double>();
  const Call call{c.input(0),  c.input(1),  c.input(2),     c.input(3), c.output(0),
                  c.update(1), row_weights, kAbsentOperand, gradient};
  for_chunks(call, c.workspace, [&](int64_t begin, int64_t count, const Workspace& w) {
    for (int64_t i = 0; i < count; ++i) {
      sums[0] += static_cast<double>(row_weights[begin + i]) * w.nll[i];
      sums[1] += w.nll[i];
      sums[2] += w.correct[i];
      sums[3] += 1;
    }
  });
}

void run_head_logprobs(const KernelContext& c) {
  const Operand& out = c.output(0);
  const Call call{c.input(0),     c.input(1), c.input(2),     c.input(3), kAbsentOperand,
                  kAbsentOperand, nullptr,    kAbsentOperand, false};
  for_chunks(call, c.workspace, [&](int64_t begin, int64_t count, const Workspace& w) {
    for (int64_t i = 0; i < count; ++i) {
      if (out.dtype == DType::f64)
        out.row<double>(begin + i)[0] = -w.nll[i];
      else
        out.row<float>(begin + i)[0] = static_cast<float>(-w.nll[i]);
    }
  });
}

void run_head_backward(const KernelContext& c) {
  const Call call{c.input(1),  c.input(2), c.input(3), c.input(4), c.output(0),
                  c.update(0), nullptr,    c.input(0), true};
  for_chunks(call, c.workspace, [](int64_t, int64_t, const Workspace&) {});
}

void run_logits(const KernelContext& c) {
  const Operand &hidden = c.input(0), &rows = c.input(2);
  const Matrix gathered{c.workspace, hidden.dtype, rows.rows, hidden.row_size, hidden.row_size, false};
  for (int64_t i = 0; i < rows.rows; ++i)
    copy_row(hidden, rows.as<int32_t>()[i],
             static_cast<char*>(c.workspace) + i * hidden.row_size * size_of(hidden.dtype));
  multiply(gathered, Matrix::of(c.input(1)).t(), Matrix::of(c.output(0)));
}

}  // namespace serval
