# serval_library(NAME folder-sources... LINK libs...): one static library per folder of src/.
function(serval_library name)
  cmake_parse_arguments(arg "" "" "SOURCES;LINK" ${ARGN})
  add_library(${name} STATIC ${arg_SOURCES})
  target_include_directories(${name} PUBLIC "${PROJECT_SOURCE_DIR}/src")
  target_link_libraries(${name} PUBLIC ${arg_LINK})
endfunction()

# Each file is compiled once per instruction set, inside the namespace SERVAL_ISA, into one binary; src/base/cpu.h
# picks one at run time. Inline functions that such files share with others must be always_inline: else the
# linker could keep a copy that an older processor cannot run.
#   serval_isa_sources(TARGET files...):    avx2, avx512, avx512_bf16
#   serval_kernel_sources(TARGET files...): the same and `generic`, which any x86-64 processor runs
#   serval_amx_sources(TARGET files...):    amx, beside the others. Its flags are those of avx512_bf16:
#                                           gemm/bf16_tiles.h writes the matrix unit's instructions as assembly
#   serval_bf16_sources(TARGET files...):   avx512_bf16 and amx alone
function(serval_isa_sources target)
  serval_compile_for_isas(${target} "avx2;avx512;avx512_bf16" ${ARGN})
endfunction()
function(serval_kernel_sources target)
  serval_compile_for_isas(${target} "generic;avx2;avx512;avx512_bf16" ${ARGN})
endfunction()
function(serval_amx_sources target)
  serval_compile_for_isas(${target} "amx" ${ARGN})
endfunction()
function(serval_bf16_sources target)
  serval_compile_for_isas(${target} "avx512_bf16;amx" ${ARGN})
endfunction()
function(serval_compile_for_isas target isas)
  set(generic_flags)
  set(avx2_flags -mavx2 -mfma -mf16c)
  set(avx512_flags ${avx2_flags} -mavx512f -mavx512bw -mavx512dq -mavx512vl -mprefer-vector-width=512)
  set(avx512_bf16_flags ${avx512_flags} -mavx512bf16)
  set(amx_flags ${avx512_bf16_flags})
  # Only inlined functions take vectors, so how they are passed does not matter: -Wno-psabi.
  foreach(isa ${isas})
    set(library ${target}_${isa})
    if(NOT TARGET ${library})
      add_library(${library} OBJECT)
      target_include_directories(${library} PRIVATE "${PROJECT_SOURCE_DIR}/src")
      target_compile_definitions(${library} PRIVATE SERVAL_ISA=${isa} SERVAL_ISA_${isa}=1)
      target_compile_options(${library} PRIVATE ${${isa}_flags} -ffp-contract=fast -fopenmp-simd -fno-trapping-math
                             -Wno-psabi)
      target_sources(${target} PRIVATE $<TARGET_OBJECTS:${library}>)
    endif()
    target_sources(${library} PRIVATE ${ARGN})
  endforeach()
endfunction()

# serval_test(NAME SOURCES ... LINK ... LABELS fast|slow): one gtest executable, one CTest entry.
function(serval_test name)
  cmake_parse_arguments(arg "" "TIMEOUT" "SOURCES;LINK;LABELS" ${ARGN})
  if(NOT arg_LABELS)
    set(arg_LABELS fast)
  endif()
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 300)
  endif()
  add_executable(${name} ${arg_SOURCES})
  target_include_directories(${name} PRIVATE "${PROJECT_SOURCE_DIR}/tests")
  target_link_libraries(${name} PRIVATE ${arg_LINK} GTest::gtest_main)
  target_compile_definitions(${name} PRIVATE SERVAL_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  add_test(NAME ${name} COMMAND ${name})
  set_tests_properties(${name} PROPERTIES LABELS "${arg_LABELS}" TIMEOUT ${arg_TIMEOUT}
    ENVIRONMENT "SERVAL_BINARY=$<$<TARGET_EXISTS:serval>:$<TARGET_FILE:serval>>;SERVAL_ARROW_PLUGIN=$<$<TARGET_EXISTS:serval_arrow>:$<TARGET_FILE:serval_arrow>>;XDG_CACHE_HOME=${PROJECT_BINARY_DIR}/test-cache")
endfunction()
