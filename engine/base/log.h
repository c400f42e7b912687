// One-line structured logging to standard error, and CHECK for broken invariants of our own.
//
//   LogInfo("model_loaded", {{"path", path}, {"seconds", seconds}});
//   -> 2026-01-31T10:00:00.123Z INFO event=model_loaded path=/models/x seconds=1.5
//
// Values are escaped (no line breaks, quotes round blanks), so that no caller's text can forge a line.
// All functions are thread-safe; each line is one write.
#pragma once

#include <initializer_list>
#include <span>
#include <string>
#include <string_view>

#include "engine/base/strings.h"

namespace expertd {

struct LogField {
  template <typename T>
  LogField(std::string_view name, const T& value) : name(name), value(StrCat(value)) {}
  std::string_view name;
  std::string value;
};

enum class LogLevel { kDebug, kInfo, kWarning, kError };

// Lines below this level are dropped. Initially kInfo.
void SetLogLevel(LogLevel level);

void Log(LogLevel level, std::string_view event, std::span<const LogField> fields);

inline void Log(LogLevel level, std::string_view event, std::initializer_list<LogField> fields) {
  Log(level, event, std::span(fields.begin(), fields.size()));
}

inline void LogInfo(std::string_view event, std::initializer_list<LogField> fields = {}) {
  Log(LogLevel::kInfo, event, fields);
}
inline void LogWarning(std::string_view event, std::initializer_list<LogField> fields = {}) {
  Log(LogLevel::kWarning, event, fields);
}
inline void LogError(std::string_view event, std::initializer_list<LogField> fields = {}) {
  Log(LogLevel::kError, event, fields);
}

// Prints the place and the condition, then aborts. Never reachable from a request or a model file.
[[noreturn]] void CheckFailed(const char* file, int line, const char* condition, std::string_view detail);

}  // namespace expertd

#define EXPERTD_CHECK(condition, ...)                                                                 \
  do {                                                                                                \
    if (!(condition)) [[unlikely]]                                                                    \
      ::expertd::CheckFailed(__FILE__, __LINE__, #condition, ::expertd::StrCat("" __VA_OPT__(, ) __VA_ARGS__)); \
  } while (false)
