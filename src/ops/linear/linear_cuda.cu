// The linear op on a GPU: the library's products, and small kernels for dropout and bias gradients. The maths
// is in linear.h.
#include <vector>

#include "base/philox.h"
#include "ops/common/cuda_kernel.h"
#include "ops/common/products.h"
#include "ops/linear/adapter_backward.h"
#include "ops/linear/linear_calls.h"

namespace serval {
namespace {

using namespace cuda;

struct Dropout {
  const void* x;
  void* out;
  int64_t rows, columns, x_stride, out_stride;
  float scale;     // 1 / (1 - p)
  uint32_t limit;  // an element is kept where its random word is below: (1 - p) 2^32
  bool accumulate;
  const int64_t* random;  // seed, step, micro-step
  uint64_t name_hash;
};

// Four elements of a row share one block of random numbers, as on the CPU.
template <class T>
__global__ void dropout_kernel(Dropout d) {
  const int64_t quads = (d.columns + 3) / 4, quad = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (quad >= quads * d.rows) return;
  const PhiloxKey key = philox_key(static_cast<uint64_t>(d.random[0]), d.name_hash,
                                   static_cast<uint32_t>(d.random[1]), static_cast<uint32_t>(d.random[2]));
  const auto words = philox_block(key, static_cast<uint64_t>(quad));
  const int64_t row = quad / quads;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int64_t column = quad % quads * 4 + i;
    if (column >= d.columns) return;
    const float value = to_float(static_cast<const T*>(d.x)[row * d.x_stride + column]);
    const float kept = words[i] < d.limit ? value * d.scale : 0.0f;
    T* target = static_cast<T*>(d.out) + row * d.out_stride + column;
    *target = from_float<T>(d.accumulate ? to_float(*target) + kept : kept);
  }
}

template <class T>
void start_dropout(const Dropout& d, void* stream) {
  const unsigned blocks = blocks_for((d.columns + 3) / 4 * d.rows, 256);
  if (blocks == 0) return;
  dropout_kernel<T><<<blocks, 256, 0, as_stream(stream)>>>(d);
  SERVAL_CUDA(cudaGetLastError());
}

void drop(const Matrix& x, const Matrix& out, bool accumulate, double p, const int64_t* random,
          uint64_t name_hash, void* stream) {
  const Dropout d{
      x.data,           out.data,   x.rows, x.columns, x.stride, out.stride, static_cast<float>(1 / (1 - p)),
      dropout_limit(p), accumulate, random, name_hash};
  SERVAL_CUDA_DISPATCH(x.dtype, start_dropout, d, stream);
}

constexpr int kColumns = 32, kLanes = 16;

// target[j] += sum over rows of dy[:, j]: each lane adds every 16th row, then the lanes are added in order.
template <class T>
__global__ void column_sums_kernel(const T* dy, int64_t rows, int64_t columns, int64_t stride,
                                   float* target) {
  __shared__ float partial[kLanes][kColumns];
  const int64_t column = int64_t{blockIdx.x} * kColumns + threadIdx.x;
  float sum = 0;
  if (column < columns)
    for (int64_t row = threadIdx.y; row < rows; row += kLanes) sum += to_float(dy[row * stride + column]);
  partial[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || column >= columns) return;
  for (int lane = 1; lane < kLanes; ++lane) sum += partial[lane][threadIdx.x];
  target[column] += sum;
}

template <class T>
void add_column_sums(const Operand& dy, const Operand& target, void* stream) {
  column_sums_kernel<T><<<blocks_for(dy.row_size, kColumns), dim3(kColumns, kLanes), 0, as_stream(stream)>>>(
      dy.as<T>(), dy.rows, dy.row_size, dy.row_stride, target.as<float>());
  SERVAL_CUDA(cudaGetLastError());
}

template <class T>
__global__ void copy_columns_kernel(const T* from, int64_t from_stride, T* to, int64_t to_stride,
                                    int64_t rows, int64_t columns) {
  const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= rows * columns) return;
  to[i / columns * to_stride + i % columns] = from[i / columns * from_stride + i % columns];
}

template <class T>
void copy_columns(const Matrix& from, const Matrix& to, void* stream) {
  const unsigned blocks = blocks_for(to.rows * to.columns, 256);
  if (blocks == 0) return;
  copy_columns_kernel<T><<<blocks, 256, 0, as_stream(stream)>>>(static_cast<const T*>(from.data), from.stride,
                                                                static_cast<T*>(to.data), to.stride, to.rows,
                                                                to.columns);
  SERVAL_CUDA(cudaGetLastError());
}

// A matrix with more of its storage's columns, or rows.
Matrix widened(Matrix m, int64_t columns) {
  m.columns += columns;
  return m;
}
Matrix heightened(Matrix m, int64_t rows) {
  m.rows += rows;
  return m;
}

AdapterBackward fused_backward(const KernelContext& c, const std::vector<AdaptedSegment>& segments) {
  using namespace linear_backward_operands;
  AdapterBackward call;
  call.dy = &c.input(dy);
  call.u = &c.input(u);
  call.v = &c.output(dy_side);
  if (segments.size() > AdapterBackward::kMostSegments) return call;
  for (const AdaptedSegment& s : segments)
    call.segments[call.num_segments++] = {s.column,
                                          s.size,
                                          s.rank_begin,
                                          s.rank,
                                          s.scale,
                                          &c.input(first_b + s.index),
                                          &c.update(first_d_b + s.index)};
  const int64_t own = linear_dropout_scratch(c.input(dy).rows, c.input(u).row_size, c.input(weight).row_size,
                                             c.attributes->number("dropout"), size_of(c.input(dy).dtype));
  call.workspace = static_cast<char*>(c.workspace) + own;
  return call;
}

}  // namespace

void linear_forward_cuda(const KernelContext& c, void* stream) {
  using namespace linear_forward_operands;
  const Matrix input = Matrix::of(c.input(x)), out = Matrix::of(c.output(y)),
               frozen = Matrix::of(c.input(weight));
  const auto segments = adapted_segments(c);
  if (segments.empty()) {
    multiply_cuda(stream, input, frozen.t(), out, 1, false, &c.input(bias));
    return;
  }
  const Operand& side = c.output(x_side);
  const Matrix adapter = Matrix::of(c.input(a)), low = Matrix::of(side ? side : c.output(u));
  const int64_t rank = adapter.rows, rest = low.columns - rank;
  const double p = c.attributes->number("dropout");
  const bool at_once = p == 0 && equal_scales(segments);
  // Rows of the storage below the adapter are zeros, and so the columns that they give.
  if (at_once) multiply_cuda(stream, input, heightened(adapter, rest).t(), low, segments[0].scale);
  for (const AdaptedSegment& s : segments) {
    if (at_once) break;
    Matrix factor = input;
    if (p > 0) {
      factor.data = c.workspace;
      factor.stride = input.columns;
      drop(input, factor, false, p, c.input(random).as<int64_t>(), s.name_hash, stream);
    }
    multiply_cuda(stream, factor, adapter.row_range(s.rank_begin, s.rank).t(),
                  low.column_range(s.rank_begin, s.rank), s.scale);
  }
  if (!at_once && rest > 0)
    multiply_cuda(stream, input, heightened(adapter, rest).row_range(rank, rest).t(),
                  low.column_range(rank, rest));
  if (side) {
    multiply_cuda(stream, widened(input, side.row_size), widened(frozen, side.row_size).t(), out, 1, false,
                  &c.input(bias));
    if (c.output(u)) SERVAL_CUDA_DISPATCH(input.dtype, copy_columns, low, Matrix::of(c.output(u)), stream);
    return;
  }
  multiply_cuda(stream, input, frozen.t(), out, 1, false, &c.input(bias));
  for (const AdaptedSegment& s : segments)
    multiply_cuda(stream, low.column_range(s.rank_begin, s.rank), Matrix::of(c.input(first_b + s.index)).t(),
                  out.column_range(s.column, s.size), 1, true);
}

void linear_backward_cuda(const KernelContext& c, void* stream) {
  using namespace linear_backward_operands;
  const Matrix grad = Matrix::of(c.input(dy)), frozen = Matrix::of(c.input(weight));
  const bool wants_dx = static_cast<bool>(c.output(dx));
  const Matrix out = Matrix::of(c.output(dx));
  if (c.update(d_bias))
    SERVAL_CUDA_DISPATCH(grad.dtype, add_column_sums, c.input(dy), c.update(d_bias), stream);
  const auto segments = adapted_segments(c);
  if (segments.empty()) {
    if (wants_dx) multiply_cuda(stream, grad, frozen, out);
    return;
  }

  const Operand& side = c.output(dy_side);
  const Matrix adapter = Matrix::of(c.input(a)), low = Matrix::of(c.input(u));
  const double p = c.attributes->number("dropout");
  const int64_t rank = low.columns;
  const AdapterBackward fused = fused_backward(c, segments);
  const bool at_once = side && adapter_backward_takes(fused);
  if (at_once) adapter_backward_cuda(fused, stream);
  // Where there are side columns, v is the first of them.
  const Matrix wide = Matrix::of(side ? side : c.output(v));
  if (at_once) {
    // v and dB are done.
  } else if (side && equal_scales(segments)) {
    // The columns beside the weight hold every B and zeros.
    Matrix b = frozen;
    b.data = static_cast<char*>(frozen.data) + frozen.columns * size_of(frozen.dtype);
    b.columns = wide.columns;
    multiply_cuda(stream, grad, b, wide, segments[0].scale);
  } else {
    for (const AdaptedSegment& s : segments)
      multiply_cuda(stream, grad.column_range(s.column, s.size), Matrix::of(c.input(first_b + s.index)),
                    wide.column_range(s.rank_begin, s.rank), s.scale);
    if (wide.columns > rank)
      SERVAL_CUDA(cudaMemset2DAsync(static_cast<char*>(wide.data) + rank * size_of(wide.dtype),
                                    static_cast<size_t>(wide.stride * size_of(wide.dtype)), 0,
                                    static_cast<size_t>((wide.columns - rank) * size_of(wide.dtype)),
                                    static_cast<size_t>(wide.rows), as_stream(stream)));
  }
  for (const AdaptedSegment& s : segments)
    if (c.update(first_d_b + s.index) && !at_once)
      multiply_cuda(stream, grad.column_range(s.column, s.size).t(), low.column_range(s.rank_begin, s.rank),
                    Matrix::of(c.update(first_d_b + s.index)), 1, true);
  if (!wants_dx) return;
  if (p == 0 && side) {
    multiply_cuda(stream, widened(grad, wide.columns), heightened(frozen, wide.columns), out);
    return;
  }
  multiply_cuda(stream, grad, frozen, out);
  if (p == 0) {
    multiply_cuda(stream, wide.column_range(0, rank), adapter, out, 1, true);
    return;
  }
  const Matrix copy{c.workspace, grad.dtype, grad.rows, frozen.columns, frozen.columns, false};
  for (const AdaptedSegment& s : segments) {
    multiply_cuda(stream, wide.column_range(s.rank_begin, s.rank), adapter.row_range(s.rank_begin, s.rank),
                  copy);
    drop(copy, out, true, p, c.input(random).as<int64_t>(), s.name_hash, stream);
  }
}

void linear_gradients_cuda(const KernelContext& c, void* stream) {
  using namespace linear_gradients_operands;
  const Matrix input = Matrix::of(c.input(x));
  if (c.update(d_weight))
    multiply_cuda(stream, Matrix::of(c.input(dy)).t(), input, Matrix::of(c.update(d_weight)), 1, true);
  if (!c.update(d_a)) return;
  const Matrix v_all = Matrix::of(c.input(v)), d_adapter = Matrix::of(c.update(d_a));
  const double p = c.attributes->number("dropout");
  if (p == 0) {
    multiply_cuda(stream, v_all.t(), input, d_adapter, 1, true);
    return;
  }
  const Matrix copy{c.workspace, input.dtype, input.rows, input.columns, input.columns, false};
  for (const AdaptedSegment& s : adapted_segments(c)) {
    drop(input, copy, false, p, c.input(random).as<int64_t>(), s.name_hash, stream);
    multiply_cuda(stream, v_all.column_range(s.rank_begin, s.rank).t(), copy,
                  d_adapter.row_range(s.rank_begin, s.rank), 1, true);
  }
}

}  // namespace serval
