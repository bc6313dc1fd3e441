#include "text/jinja/meter.h"

namespace serval::jinja {
namespace {
thread_local Meter* active_meter = nullptr;
}

MeterScope::MeterScope(Meter& meter) : previous_(active_meter) {
  active_meter = &meter;
}
MeterScope::~MeterScope() {
  active_meter = previous_;
}

Meter* current_meter() {
  return active_meter;
}

const Limits& current_limits() {
  static const Limits defaults;
  return active_meter != nullptr ? active_meter->limits : defaults;
}

void spend(int64_t work) {
  if (active_meter == nullptr) return;
  active_meter->work += work;
  if (active_meter->work > active_meter->limits.work)
    raise("the template does too much work (limit: {} steps)", active_meter->limits.work);
}

void spend_bytes(int64_t bytes) {
  spend(1 + bytes / 128);
}

void MemoryCharge::add(int64_t bytes) {
  if (meter_ == nullptr) return;
  if (bytes > meter_->limits.memory_bytes - meter_->memory)
    raise("the template needs too much memory (limit: {} bytes)", meter_->limits.memory_bytes);
  meter_->memory += bytes;
  bytes_ += bytes;
}

MemoryCharge::~MemoryCharge() {
  if (meter_ != nullptr) meter_->memory -= bytes_;
}

}  // namespace serval::jinja
