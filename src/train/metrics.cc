#include "train/metrics.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "base/error.h"
#include "base/file.h"
#include "base/text.h"

namespace serval {

Metrics::Metrics(const std::string& directory, int64_t restored_step)
    : path_(join_path(directory, "metrics.jsonl")), plot_path_(join_path(directory, "loss.svg")) {
  std::string kept;
  if (restored_step > 0 && file_exists(path_)) {
    for (const std::string& line : split(read_file(path_), '\n')) {
      if (line.empty()) continue;
      Json entry;
      try {
        entry = Json::parse(line, path_);
      } catch (const UserError&) {
        break;  // the line that was being written when the run was killed
      }
      const Json* step = entry.find("step");
      if (step == nullptr || step->as_int() > restored_step) break;
      kept += line + "\n";
      history_.push_back(std::move(entry));
    }
  }
  write_file_atomically(path_, kept);
}

void Metrics::record(const Json& entry) {
  history_.push_back(entry);
  std::FILE* file = std::fopen(path_.c_str(), "a");
  if (file == nullptr) fail("{}: cannot be written", path_);
  const std::string line = entry.dump() + "\n";
  const bool written = std::fwrite(line.data(), 1, line.size(), file) == line.size();
  if (std::fclose(file) != 0 || !written) fail("{}: cannot be written; is the disk full?", path_);
}

void Metrics::write_plot() const {
  write_file_atomically(plot_path_, loss_svg(history_));
}

std::string loss_svg(const Json::Array& history) {
  struct Point {
    double step, value;
  };
  std::vector<Point> raw, smooth, eval;
  for (const Json& entry : history) {
    const Json* step = entry.find("step");
    if (step == nullptr) continue;
    const double at = step->as_double();
    if (const Json* loss = entry.find("loss"); loss != nullptr && std::isfinite(loss->as_double())) {
      const double value = loss->as_double();
      raw.push_back({at, value});
      smooth.push_back({at, smooth.empty() ? value : 0.9 * smooth.back().value + 0.1 * value});
    }
    if (const Json* loss = entry.find("eval_loss"); loss != nullptr && std::isfinite(loss->as_double()))
      eval.push_back({at, loss->as_double()});
  }
  constexpr double kWidth = 800, kHeight = 400, kLeft = 60, kRight = 20, kTop = 20, kBottom = 40;
  double last = 1, high = 0, low = 0;
  for (const auto* list : {&raw, &eval}) {
    for (const Point& p : *list) {
      last = std::max(last, p.step);
      high = std::max(high, p.value);
    }
  }
  if (high <= low) high = low + 1;
  const auto x = [&](double step) { return kLeft + step / last * (kWidth - kLeft - kRight); };
  const auto y = [&](double value) {
    return kHeight - kBottom - (value - low) / (high - low) * (kHeight - kTop - kBottom);
  };
  std::string svg = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" font-family=\"sans-serif\" "
      "font-size=\"12\">\n"
      "<rect width=\"{0}\" height=\"{1}\" fill=\"white\"/>\n",
      kWidth, kHeight);
  for (int tick = 0; tick <= 4; ++tick) {
    const double value = low + (high - low) * tick / 4, step = last * tick / 4;
    svg += fmt::format("<line x1=\"{:.1f}\" x2=\"{:.1f}\" y1=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"#ddd\"/>\n",
                       kLeft, kWidth - kRight, y(value), y(value));
    svg += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"end\">{:.3g}</text>\n", kLeft - 6,
                       y(value) + 4, value);
    svg += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"middle\">{:.0f}</text>\n", x(step),
                       kHeight - kBottom + 18, step);
  }
  svg += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"middle\">step</text>\n", kWidth / 2,
                     kHeight - 6);
  const auto line = [&](const std::vector<Point>& points, const char* colour, double width) {
    if (points.empty()) return;
    svg += fmt::format("<polyline fill=\"none\" stroke=\"{}\" stroke-width=\"{}\" points=\"", colour, width);
    for (const Point& p : points) svg += fmt::format("{:.1f},{:.1f} ", x(p.step), y(p.value));
    svg += "\"/>\n";
  };
  line(raw, "#9ecae1", 1);
  line(smooth, "#1f77b4", 2);
  for (const Point& p : eval)
    svg += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"4\" fill=\"#d62728\"/>\n", x(p.step),
                       y(p.value));
  return svg + "</svg>\n";
}

}  // namespace serval
