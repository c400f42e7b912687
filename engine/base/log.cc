#include "engine/base/log.h"

#include <unistd.h>

#include <atomic>
#include <cstdlib>

#include "absl/strings/escaping.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace expertd {
namespace {

std::atomic<LogLevel> minimum_level{LogLevel::kInfo};

std::string_view LevelName(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug: return "DEBUG";
    case LogLevel::kInfo: return "INFO";
    case LogLevel::kWarning: return "WARNING";
    case LogLevel::kError: return "ERROR";
  }
  return "UNKNOWN";
}

bool NeedsQuotes(std::string_view value) {
  if (value.empty()) return true;
  for (unsigned char c : value) {
    if (c <= ' ' || c == '"' || c == '\\' || c == '=' || c == 0x7f) return true;
  }
  return false;
}

void WriteAll(std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(STDERR_FILENO, text.data(), text.size());
    if (written <= 0) return;  // nowhere left to report to
    text.remove_prefix(static_cast<size_t>(written));
  }
}

}  // namespace

void SetLogLevel(LogLevel level) { minimum_level.store(level, std::memory_order_relaxed); }

void Log(LogLevel level, std::string_view event, std::span<const LogField> fields) {
  if (level < minimum_level.load(std::memory_order_relaxed)) return;
  std::string line = StrCat(absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", absl::Now(), absl::UTCTimeZone()), " ",
                                  LevelName(level), " event=", event);
  for (const LogField& field : fields) {
    StrAppend(&line, " ", field.name, "=");
    if (NeedsQuotes(field.value)) {
      StrAppend(&line, "\"", absl::Utf8SafeCEscape(field.value), "\"");
    } else {
      StrAppend(&line, field.value);
    }
  }
  line.push_back('\n');
  WriteAll(line);
}

void CheckFailed(const char* file, int line, const char* condition, std::string_view detail) {
  Log(LogLevel::kError, "check_failed",
      {{"file", file}, {"line", line}, {"condition", condition}, {"detail", detail}});
  std::abort();
}

}  // namespace expertd
