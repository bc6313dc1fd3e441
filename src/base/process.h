// What the system says of this process.
#pragma once
#include <cstdint>

namespace serval {

int64_t resident_bytes();       // now
int64_t peak_resident_bytes();  // the most so far

}  // namespace serval
