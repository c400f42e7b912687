// Templates against Python's jinja2: tests/golden/chat_templates holds what it rendered (record.py wrote it).
#include <cstdlib>
#include <string>

#include "absl/time/civil_time.h"
#include "engine/base/json.h"
#include "engine/base/strings.h"
#include "engine/text/jinja/jinja.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace expertd {
namespace {

using ::testing::HasSubstr;

jinja::RenderOptions Options() {
  jinja::RenderOptions options;
  options.time_zone = absl::UTCTimeZone();
  options.clock = [] {
    return absl::FromCivil(absl::CivilSecond(2025, 3, 7, 8, 5, 9), absl::UTCTimeZone()) + absl::Microseconds(123456);
  };
  return options;
}

absl::StatusOr<std::string> Render(const std::string& source, const Json& variables) {
  auto parsed = jinja::Template::Parse(source);
  if (!parsed.ok()) return parsed.status();
  return parsed->Render(variables, Options());
}

void ExpectAsRecorded(const Json& entry, const Json& variables) {
  const auto source = entry["template"].get<std::string>();
  const absl::StatusOr<std::string> rendered = Render(source, variables);

  if (entry.contains("text")) {
    ASSERT_TRUE(rendered.ok()) << source << "\n  " << rendered.status() << "\n  recorded: " << entry["text"];
    EXPECT_EQ(*rendered, entry["text"].get<std::string>()) << source;
    return;
  }
  ASSERT_FALSE(rendered.ok()) << source << "\n  rendered: " << *rendered << "\n  recorded: " << entry.dump();
  const std::string message(rendered.status().message());
  if (entry["error"] == "raised") {
    EXPECT_EQ(message, entry["message"].get<std::string>()) << source;
  }
  if (entry["error"] == "undefined") {
    EXPECT_THAT(message, HasSubstr(entry["message"].get<std::string>())) << source;
  }
  if (entry["error"] == "syntax" && entry.contains("line")) {
    EXPECT_THAT(message, HasSubstr(StrCat("line ", entry["line"].get<int>(), ":"))) << source;
  }
}

void ExpectAllAsRecorded(const std::string& path) {
  const absl::StatusOr<Json> golden = ReadJsonFile(path);
  ASSERT_TRUE(golden.ok()) << golden.status();
  const Json shared = golden->value("variables", Json::object());
  ASSERT_GT((*golden)["entries"].size(), 0u);

  for (const Json& entry : (*golden)["entries"]) ExpectAsRecorded(entry, entry.value("variables", shared));
}

const std::string kFolder = EXPERTD_SOURCE_DIR "/tests/golden/chat_templates/";

TEST(JinjaGoldenTest, RendersEveryFeatureAsPythonDoes) { ExpectAllAsRecorded(kFolder + "snippets.json"); }

TEST(JinjaGoldenTest, RendersRandomTemplatesAsPythonDoes) { ExpectAllAsRecorded(kFolder + "random.json"); }

// More random templates from a file outside of the repository: record.py --fuzz writes it.
TEST(JinjaGoldenTest, RendersFurtherTemplatesAsPythonDoes) {
  const char* path = std::getenv("EXPERTD_JINJA_FUZZ");
  if (path == nullptr) GTEST_SKIP() << "EXPERTD_JINJA_FUZZ names no file of recorded templates";

  ExpectAllAsRecorded(path);
}

}  // namespace
}  // namespace expertd
