# Flags that every target shares. Sanitizers and optimisation come from the presets.
find_program(CCACHE ccache)
if(CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER "${CCACHE}")
endif()

set(serval_warnings -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual
                    -Wno-missing-field-initializers)
if(SERVAL_WERROR)
  list(APPEND serval_warnings -Werror)
endif()
# A frozen product is one expression everywhere: never let the compiler fuse or reorder it by itself.
set(serval_code_flags -ffp-contract=off -fno-math-errno -fstack-protector-strong)
add_compile_definitions($<$<CONFIG:Debug>:_GLIBCXX_ASSERTIONS>)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # GCC 12 reports false positives from inlined std::string and std::vector code.
  list(APPEND serval_warnings -Wno-maybe-uninitialized -Wno-restrict -Wno-stringop-overflow -Wno-array-bounds
       -Wno-dangling-pointer -Wno-stringop-overread)
endif()
add_compile_options("$<$<COMPILE_LANGUAGE:CXX>:${serval_warnings};${serval_code_flags}>")
add_link_options(-Wl,-z,relro,-z,now)
