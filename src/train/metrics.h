// What a run records: metrics.jsonl, one object a line with the names that existing dashboards expect, and
// loss.svg. On resume, lines after the restored step are dropped: the file equals that of a run that never
// stopped.
//
//   Metrics metrics(output_dir, restored_step);
//   metrics.record({{"step", 10}, {"loss", 1.25}, ...});
//   metrics.write_plot();
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "base/json.h"

namespace serval {

class Metrics {
 public:
  Metrics(const std::string& directory, int64_t restored_step);
  void record(const Json& entry);  // appended and flushed
  const Json::Array& history() const { return history_; }
  void write_plot() const;  // loss.svg: raw and smoothed loss, evaluation points

 private:
  std::string path_, plot_path_;
  Json::Array history_;
};

std::string loss_svg(const Json::Array& history);

}  // namespace serval
