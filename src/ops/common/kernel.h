// What the CPU kernels of all ops share. A kernel file (x_cpu.cc) is compiled once per instruction set and
// defines its functions inside `namespace serval::SERVAL_ISA`; the op's x.cc declares and dispatches them:
//
//   SERVAL_CPU_KERNEL(rms_norm_forward)                    // in x.cc, at namespace scope
//   const Op rms_norm_op = {.name = "rms_norm", ..., .run_cpu = run_rms_norm_forward};
#pragma once
#include "base/cpu.h"
#include "base/parallel.h"
#include "program/kernel_context.h"

// Declares the function of each instruction set, and run_<function>() that calls the one for this processor.
#define SERVAL_CPU_FUNCTION_OF(function, Arguments, unit)  \
  namespace generic {                                      \
  void function(const Arguments&);                         \
  }                                                        \
  namespace avx2 {                                         \
  void function(const Arguments&);                         \
  }                                                        \
  namespace avx512 {                                       \
  void function(const Arguments&);                         \
  }                                                        \
  namespace avx512_bf16 {                                  \
  void function(const Arguments&);                         \
  }                                                        \
  namespace unit {                                         \
  void function(const Arguments&);                         \
  }                                                        \
  static void run_##function(const Arguments& arguments) { \
    switch (cpu_isa()) {                                   \
      case CpuIsa::generic:                                \
        return generic::function(arguments);               \
      case CpuIsa::avx2:                                   \
        return avx2::function(arguments);                  \
      case CpuIsa::avx512:                                 \
        return avx512::function(arguments);                \
      case CpuIsa::avx512_bf16:                            \
        return avx512_bf16::function(arguments);           \
      case CpuIsa::amx:                                    \
        return unit::function(arguments);                  \
    }                                                      \
  }
#define SERVAL_CPU_FUNCTION(function, Arguments) SERVAL_CPU_FUNCTION_OF(function, Arguments, avx512_bf16)
// For a kernel that has code of its own for the matrix unit (serval_amx_sources).
#define SERVAL_CPU_KERNEL_WITH_AMX(function) SERVAL_CPU_FUNCTION_OF(function, KernelContext, amx)

#define SERVAL_CPU_KERNEL(function) SERVAL_CPU_FUNCTION(function, KernelContext)
