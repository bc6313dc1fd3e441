// Attention on a GPU: cuDNN where it covers the call and is not known to fail there, else our own kernels.
// The log says once which ran and why.
#include <mutex>
#include <set>
#include <string>

#include "base/log.h"
#include "ops/attention/attention_cudnn.h"
#include "ops/attention/attention_own.h"

namespace serval {
namespace {

void log_once(const std::string& line) {
  static std::mutex mutex;
  static std::set<std::string> said;
  const std::lock_guard<std::mutex> lock(mutex);
  if (said.insert(line).second) log_info("{}", line);
}

void log_choice(const char* direction, const std::string& refusal) {
  if (refusal.empty())
    log_once(fmt::format("attention {}: cuDNN {}", direction, attention_cudnn_version()));
  else
    log_once(fmt::format("attention {}: own kernels ({})", direction, refusal));
}

}  // namespace

void attention_forward_cuda(const KernelContext& context, void* stream) {
  const std::string refusal = attention_cudnn_forward(context, stream);
  if (!refusal.empty()) attention_own_forward(context, stream);
  log_choice("forward", refusal);
}

void attention_backward_cuda(const KernelContext& context, void* stream) {
  const std::string refusal = attention_cudnn_backward(context, stream);
  if (!refusal.empty()) attention_own_backward(context, stream);
  log_choice("backward", refusal);
}

}  // namespace serval
