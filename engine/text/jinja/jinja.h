// Jinja templates, rendered as Python's jinja2 renders them with the settings of transformers' chat templates:
// ImmutableSandboxedEnvironment(trim_blocks, lstrip_blocks, loop controls), a plain-JSON `tojson`, `raise_exception`,
// `strftime_now` and the `generation` tag. The reference is jinja2 3.1 and Python 3.11; equality is tested byte for
// byte (tests/golden/chat_templates).
//
// Left out, with an error that names what is asked for: templates that load other templates, autoescape, and the
// filters `pprint`, `random`, `striptags`, `urlize` and `wordwrap`. Integers have 128 bits, and there are no complex
// numbers. A slice of a literal that has no items (`none[1:]`) is an error, where jinja2 makes it undefined if the
// whole expression is constant.
//
// Templates are untrusted: a rendering that exceeds a limit ends with ResourceExhausted.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/base/json.h"

namespace expertd::jinja {

struct Limits {
  int64_t max_steps = 25'000'000;                // about a second of work at the worst
  int64_t max_output_bytes = int64_t{16} << 20;  // of all text being rendered, captured blocks included
  int64_t max_live_bytes = int64_t{64} << 20;    // of the values the template makes; the input is not counted
};

inline constexpr int64_t kMaxSourceBytes = int64_t{1} << 20;
// Nesting of statements and expressions in the source.
inline constexpr int kMaxSourceNesting = 100;

struct RenderOptions {
  Limits limits;
  // The time that strftime_now formats. Empty: the clock of the machine.
  std::function<absl::Time()> clock;
  absl::TimeZone time_zone = absl::LocalTimeZone();
};

struct TemplateNode;

// Immutable after Parse, so that any number of threads may render at once.
class Template {
 public:
  // Errors: InvalidArgument "line N: what"; ResourceExhausted when the source or its nesting is too large.
  static absl::StatusOr<Template> Parse(std::string_view source);

  ~Template();
  Template(Template&&) noexcept;
  Template& operator=(Template&&) noexcept;

  // Renders with the members of the JSON object `variables` as variables. Errors: InvalidArgument with exactly the
  // template's words when it calls raise_exception; InvalidArgument "line N: what" for other errors of the template;
  // ResourceExhausted for a limit.
  absl::StatusOr<std::string> Render(const Json& variables, const RenderOptions& options = {}) const;

 private:
  explicit Template(std::unique_ptr<const TemplateNode> root);
  std::unique_ptr<const TemplateNode> root_;
};

}  // namespace expertd::jinja
