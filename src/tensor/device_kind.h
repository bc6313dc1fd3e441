// The kinds of devices, light enough for device compilers.
#pragma once

namespace serval {

enum class DeviceKind { cpu, cuda };

}  // namespace serval
