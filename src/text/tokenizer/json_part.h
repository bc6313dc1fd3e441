// What the parts of a tokenizer have in common: each knows the section of a tokenizer.json that makes it
// again, whatever file it came from.
#pragma once
#include <utility>

#include "base/json.h"

namespace serval {

class JsonPart {
 public:
  // null: the part changes nothing, and a tokenizer.json has no section for it.
  const Json& json() const { return json_; }
  void set_json(Json json) { json_ = std::move(json); }

 protected:
  ~JsonPart() = default;

 private:
  Json json_;
};

}  // namespace serval
