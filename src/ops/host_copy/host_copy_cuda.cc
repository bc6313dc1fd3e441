// One copy of the driver each: the copy engines work beside the kernels, and graphs record it.
#include "program/kernel_context.h"
#include "tensor/gpu.h"

namespace serval {
namespace {

void copy(const KernelContext& c, cudaMemcpyKind kind, void* stream) {
  const Operand &from = c.input(0), &to = c.output(0);
  const auto size = static_cast<size_t>(size_of(to.dtype));
  const size_t row_bytes = static_cast<size_t>(to.row_size) * size, rows = static_cast<size_t>(to.rows);
  if (row_bytes == 0 || rows == 0) return;
  const size_t to_stride = static_cast<size_t>(to.row_stride) * size,
               from_stride = static_cast<size_t>(from.row_stride) * size;
  const auto on = static_cast<cudaStream_t>(stream);
  if (rows == 1 || (to_stride == row_bytes && from_stride == row_bytes))
    SERVAL_CUDA(cudaMemcpyAsync(to.data, from.data, row_bytes * rows, kind, on));
  else
    SERVAL_CUDA(cudaMemcpy2DAsync(to.data, to_stride, from.data, from_stride, row_bytes, rows, kind, on));
}

}  // namespace

void copy_to_host_cuda(const KernelContext& context, void* stream);
void copy_from_host_cuda(const KernelContext& context, void* stream);

void copy_to_host_cuda(const KernelContext& context, void* stream) {
  copy(context, cudaMemcpyDeviceToHost, stream);
}
void copy_from_host_cuda(const KernelContext& context, void* stream) {
  copy(context, cudaMemcpyHostToDevice, stream);
}

}  // namespace serval
