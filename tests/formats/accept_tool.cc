// Reads paths from stdin and says of each file whether it is a right safetensors file: "ok", or why not.
// tests/reference/check_safetensors_parity.py compares the answers with the reference reader's.
#include <cstdio>
#include <iostream>
#include <string>

#include "base/error.h"
#include "formats/safetensors.h"

int main() {
  std::string path;
  while (std::getline(std::cin, path)) {
    try {
      const serval::SafetensorsFile file(path);
      std::puts("ok");
    } catch (const serval::UserError& error) {
      std::puts(error.what());
    }
  }
}
