// What a template may spend, and the error that ends it. Every object that a rendering makes is charged to
// the meter of its thread and credited back when it dies, so that memory and work stay bounded whatever the
// template does.
//
//   Meter meter(limits);
//   MeterScope scope(meter);     // from here on this thread's objects and spend() are charged to `meter`
//   spend(n / 128);              // raises when the work is used up
//   raise("'{}' is undefined", name);
#pragma once
#include <fmt/core.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>

namespace serval::jinja {

// Raised by whatever goes wrong in a template; the evaluator adds the place, ChatTemplate turns it into a
// UserError.
class TemplateError : public std::runtime_error {
 public:
  explicit TemplateError(const std::string& message, int64_t place = -1)
      : std::runtime_error(message), offset(place) {}
  int64_t offset;  // byte of the template's source, -1 while not known
};

template <class... Args>
[[noreturn]] void raise(fmt::format_string<Args...> format, Args&&... args) {
  throw TemplateError(fmt::format(format, std::forward<Args>(args)...));
}

struct Limits {
  int64_t source_bytes = 1 << 20;
  int64_t work = 5'000'000;          // evaluation steps, plus one for each 128 bytes of text handled
  int64_t memory_bytes = 160 << 20;  // alive at one time
  int64_t output_bytes = 64 << 20;
  int64_t range_items = 100'000;  // as jinja2's sandbox
  int nesting = 600;              // statements, expressions and macro calls open at one time
  int syntax_depth = 200;         // of the parsed template
  int value_depth = 128;          // lists within lists
};

struct Meter {
  explicit Meter(const Limits& given) : limits(given) {}
  Limits limits;
  int64_t work = 0;
  int64_t memory = 0;
};

// Makes `meter` the one of this thread until the end of the scope.
class MeterScope {
 public:
  explicit MeterScope(Meter& meter);
  ~MeterScope();
  MeterScope(const MeterScope&) = delete;
  MeterScope& operator=(const MeterScope&) = delete;

 private:
  Meter* previous_;
};

Meter* current_meter();           // nullptr outside a MeterScope
const Limits& current_limits();   // the defaults outside a MeterScope
void spend(int64_t work = 1);     // work done
void spend_bytes(int64_t bytes);  // text handled

// A share of the meter's memory, given back when it goes.
class MemoryCharge {
 public:
  explicit MemoryCharge(int64_t bytes) { add(bytes); }
  ~MemoryCharge();
  MemoryCharge(const MemoryCharge&) = delete;
  MemoryCharge& operator=(const MemoryCharge&) = delete;
  void add(int64_t bytes);

 private:
  Meter* meter_ = current_meter();
  int64_t bytes_ = 0;
};

}  // namespace serval::jinja
