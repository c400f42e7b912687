#include "engine/text/chat_template.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <string>

#include "absl/strings/str_format.h"
#include "absl/time/civil_time.h"
#include "engine/base/strings.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace expertd {
namespace {

using ::testing::HasSubstr;

constexpr const char* kSimple =
    "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content }}</{{ m.role }}>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}";

ChatTemplate Parsed(const std::string& source, SpecialTokens tokens = {}, const std::string& tool_source = "") {
  auto parsed = ChatTemplate::Parse(source, std::move(tokens), tool_source);
  EXPECT_TRUE(parsed.ok()) << parsed.status();
  return *std::move(parsed);
}

const Json kHello = Json::parse(R"([{"role": "user", "content": "Hi"}])");
const Json kStory = Json::parse(R"([{"role": "user", "content": "Go"}, {"role": "assistant", "content": "Once"}])");
const Json kNoArguments = Json::object();

ChatRenderOptions Continuing() { return {.add_generation_prompt = false, .continue_final_message = true, .clock = {}}; }

// ---- variables

TEST(ChatTemplateTest, GivesMessagesTokensAndThePromptSwitch) {
  const ChatTemplate chat = Parsed(kSimple, {.bos_token = "<s>"});

  EXPECT_EQ(*chat.Render(kHello, nullptr, kNoArguments, {}), "<s><user>Hi</user><assistant>");
  EXPECT_EQ(*chat.Render(kHello, nullptr, kNoArguments, {.add_generation_prompt = false}), "<s><user>Hi</user>");
}

TEST(ChatTemplateTest, LeavesTokensThatTheFolderLacksUndefined) {
  const ChatTemplate chat = Parsed("{{ bos_token is defined }} {{ eos_token }}", {.eos_token = "</s>"});

  EXPECT_EQ(*chat.Render(kHello, nullptr, kNoArguments, {}), "False </s>");
}

TEST(ChatTemplateTest, PassesTheCallersArguments) {
  const ChatTemplate chat = Parsed("{{ enable_thinking }} {{ documents }}");

  EXPECT_EQ(*chat.Render(kHello, nullptr, {{"enable_thinking", false}}, {}), "False None");
  EXPECT_EQ(*chat.Render(kHello, nullptr, Json(nullptr), {}), " None");
}

TEST(ChatTemplateTest, RefusesArgumentsThatAreNotTheCallers) {
  const ChatTemplate chat = Parsed(kSimple);

  for (const char* name : {"messages", "tools", "add_generation_prompt", "bos_token", "eos_token", "chat_template"}) {
    const auto rendered = chat.Render(kHello, nullptr, {{name, 1}}, {});
    EXPECT_EQ(rendered.status(),
              absl::InvalidArgumentError(StrCat("chat template argument ", name, " is set by the server")));
  }
}

TEST(ChatTemplateTest, RefusesMessagesThatAreNone) {
  const ChatTemplate chat = Parsed(kSimple);

  EXPECT_EQ(chat.Render(Json::array(), nullptr, kNoArguments, {}).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(chat.Render(Json("x"), nullptr, kNoArguments, {}).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(chat.Render(Json::parse("[5]"), nullptr, kNoArguments, {}).status(),
            absl::InvalidArgumentError("messages[0] must be an object, not number"));
}

TEST(ChatTemplateTest, DropsNullsAndNamesReasoningAsTemplatesReadIt) {
  const ChatTemplate chat = Parsed("{% for m in messages %}{{ m | tojson }}{% endfor %}");
  const Json messages = Json::parse(R"([{"role": "a", "content": null, "reasoning": "R"}])");

  EXPECT_EQ(*chat.Render(messages, nullptr, kNoArguments, {}),
            R"({"thinking": "R", "role": "a", "reasoning": "R", "reasoning_content": "R"})");
}

TEST(ChatTemplateTest, GivesATurnOfCallsAloneAnEmptyContent) {
  const Json messages = Json::parse(R"([{"role": "assistant", "content": null, "tool_calls": [{"id": "1"}]},
                                        {"role": "assistant", "tool_calls": [{"id": "2"}]},
                                        {"role": "assistant", "tool_calls": []}])");

  EXPECT_EQ(*Parsed("{% for m in messages %}{{ m | tojson }};{% endfor %}").Render(messages, nullptr, kNoArguments, {}),
            R"({"role": "assistant", "tool_calls": [{"id": "1"}], "content": ""};)"
            R"({"role": "assistant", "tool_calls": [{"id": "2"}], "content": ""};)"
            R"({"role": "assistant", "tool_calls": []};)");
}

TEST(ChatTemplateTest, GivesATurnOfCallsAloneNoneIfTheTemplateAsksForIt) {
  const Json messages = Json::parse(R"([{"role": "assistant", "tool_calls": [{"id": "1"}]}])");
  const std::pair<std::string, std::string> cases[] = {
      {"{% if messages[0]['content'] is none %}calls{% endif %}", "calls"},
      {"{% if messages[0].content is not none %}answer{% else %}calls{% endif %}", "calls"},
      {"{% set content = messages[0].content %}{% if content is none %}calls{% endif %}", "calls"},
      {"content is none {{ messages[0].content | tojson }}", "content is none \"\""},
  };

  for (const auto& [source, expected] : cases) {
    EXPECT_EQ(Parsed(source).Render(messages, nullptr, kNoArguments, {}).value_or(""), expected) << source;
  }
}

TEST(ChatTemplateTest, EachTemplateGetsTheContentThatItAsksFor) {
  const ChatTemplate chat = Parsed("{{ messages[0].content | tojson }}", {},
                                   "{{ messages[0].content is none }}{{ messages[0].content | tojson }}");
  const Json messages = Json::parse(R"([{"role": "assistant", "tool_calls": [{"id": "1"}]}])");
  const Json tools = Json::array();

  EXPECT_EQ(*chat.Render(messages, nullptr, kNoArguments, {}), R"("")");
  EXPECT_EQ(*chat.Render(messages, &tools, kNoArguments, {}), "Truenull");
}

TEST(ChatTemplateTest, TakesTheToolTemplateOnlyForTools) {
  const ChatTemplate chat = Parsed("plain {{ tools is none }}", {}, "tools {{ tools | length }}");
  const Json tools = Json::parse(R"([{"name": "f"}])");
  const Json null;

  EXPECT_EQ(*chat.Render(kHello, &tools, kNoArguments, {}), "tools 1");
  EXPECT_EQ(*chat.Render(kHello, nullptr, kNoArguments, {}), "plain True");
  EXPECT_EQ(*chat.Render(kHello, &null, kNoArguments, {}), "plain True");
}

TEST(ChatTemplateTest, GivesTheTemplatesOwnWordsWhenItRefuses) {
  const ChatTemplate chat = Parsed("{{ raise_exception('System role not supported') }}");

  EXPECT_EQ(chat.Render(kHello, nullptr, kNoArguments, {}).status(),
            absl::InvalidArgumentError("System role not supported"));
}

// ---- continue_final_message

TEST(ChatTemplateTest, ContinuesTheFinalMessage) {
  EXPECT_EQ(*Parsed(kSimple).Render(kStory, nullptr, kNoArguments, Continuing()), "<user>Go</user><assistant>Once");
}

TEST(ChatTemplateTest, ContinuesAMessageThatTheTemplateTrims) {
  const ChatTemplate chat = Parsed("{% for m in messages %}[{{ m.content | trim }}]{% endfor %}");
  const Json messages = Json::parse(R"([{"role": "assistant", "content": " Once  "}])");

  EXPECT_EQ(*chat.Render(messages, nullptr, kNoArguments, Continuing()), "[Once");
}

TEST(ChatTemplateTest, KeepsTheBlanksOfAMessageThatTheTemplateKeeps) {
  const Json messages = Json::parse(R"([{"role": "assistant", "content": "Once  "}])");

  EXPECT_EQ(*Parsed(kSimple).Render(messages, nullptr, kNoArguments, Continuing()), "<assistant>Once  ");
}

TEST(ChatTemplateTest, ContinuesTheLastTextOfParts) {
  const ChatTemplate chat =
      Parsed("{% for m in messages %}{% for p in m.content %}[{{ p.text }}]{% endfor %}{% endfor %}");
  const Json messages = Json::parse(
      R"([{"role": "assistant",
           "content": [{"type": "text", "text": "A"}, {"type": "text", "text": "B"}, {"type": "image"}]}])");

  EXPECT_EQ(*chat.Render(messages, nullptr, kNoArguments, Continuing()), "[A][B");
}

TEST(ChatTemplateTest, RefusesToContinueWhatIsNotInTheChat) {
  const Json without_content = Json::parse(R"([{"role": "assistant", "content": null}])");
  const Json without_text = Json::parse(R"([{"role": "assistant", "content": [{"type": "image"}]}])");

  EXPECT_EQ(
      Parsed(kSimple).Render(without_content, nullptr, kNoArguments, Continuing()).status(),
      absl::InvalidArgumentError("continue_final_message is set but the final message has no content to continue"));
  EXPECT_EQ(Parsed(kSimple).Render(without_text, nullptr, kNoArguments, Continuing()).status(),
            absl::InvalidArgumentError(
                "continue_final_message is set but there is no text to continue in the final message"));
  EXPECT_THAT(std::string(Parsed("fixed").Render(kStory, nullptr, kNoArguments, Continuing()).status().message()),
              HasSubstr("does not appear in the chat"));
}

TEST(ChatTemplateTest, RefusesToOpenATurnAndContinueOne) {
  const auto rendered = Parsed(kSimple).Render(kStory, nullptr, kNoArguments,
                                               {.add_generation_prompt = true, .continue_final_message = true});

  EXPECT_EQ(rendered.status().code(), absl::StatusCode::kInvalidArgument);
}

// ---- model folders

class ModelFolder {
 public:
  ModelFolder()
      : path_(std::filesystem::path(::testing::TempDir()) /
              StrCat("chat_template_", ::testing::UnitTest::GetInstance()->current_test_info()->name())) {
    std::filesystem::remove_all(path_);
    std::filesystem::create_directories(path_);
  }
  ~ModelFolder() { std::filesystem::remove_all(path_); }
  void Write(const std::string& name, const std::string& text) {
    std::filesystem::create_directories((path_ / name).parent_path());
    std::ofstream(path_ / name) << text;
  }
  std::string path() const { return path_.string(); }

 private:
  const std::filesystem::path path_;
};

TEST(LoadChatTemplateTest, ReadsTokenizerConfig) {
  ModelFolder folder;
  folder.Write(
      "tokenizer_config.json",
      R"({"chat_template": "{{ bos_token }}|{{ eos_token }}", "bos_token": "<s>", "eos_token": {"content": "</s>"}})");

  EXPECT_EQ(*LoadChatTemplate(folder.path())->Render(kHello, nullptr, kNoArguments, {}), "<s>|</s>");
}

TEST(LoadChatTemplateTest, PrefersTheFileOfItsOwn) {
  ModelFolder folder;
  folder.Write("tokenizer_config.json", R"({"chat_template": "old", "bos_token": "<s>"})");
  folder.Write("chat_template.jinja", "new {{ bos_token }}");
  folder.Write("additional_chat_templates/tool_use.jinja", "for tools");
  const auto chat = LoadChatTemplate(folder.path());
  const Json tools = Json::array();

  EXPECT_EQ(*chat->Render(kHello, nullptr, kNoArguments, {}), "new <s>");
  EXPECT_EQ(*chat->Render(kHello, &tools, kNoArguments, {}), "for tools");
}

TEST(LoadChatTemplateTest, ChoosesAmongNamedTemplates) {
  ModelFolder folder;
  folder.Write("tokenizer_config.json",
               R"({"chat_template": [{"name": "default", "template": "D"}, {"name": "tool_use", "template": "T"}]})");
  const auto chat = LoadChatTemplate(folder.path());
  const Json tools = Json::array();

  EXPECT_EQ(*chat->Render(kHello, nullptr, kNoArguments, {}), "D");
  EXPECT_EQ(*chat->Render(kHello, &tools, kNoArguments, {}), "T");
}

TEST(LoadChatTemplateTest, TheBundledModelsTemplateRendersATurnOfCallsAlone) {
  const auto chat = LoadChatTemplate(EXPERTD_SOURCE_DIR "/models/expertd-tiny");
  const Json messages = Json::parse(R"([{"role": "user", "content": "Rome?"},
      {"role": "assistant", "content": null, "tool_calls": [{"type": "function", "function": {"name": "f"}}]},
      {"role": "tool", "content": "21"}])");

  EXPECT_EQ(*chat->Render(messages, nullptr, kNoArguments, {}),
            "<|im_start|>user\nRome?<|im_end|>\n<|im_start|>assistant\n<|im_end|>\n<|im_start|>tool\n21<|im_end|>\n"
            "<|im_start|>assistant\n");
}

TEST(LoadChatTemplateTest, AFolderWithoutTemplateIsNotFound) {
  ModelFolder folder;
  folder.Write("tokenizer_config.json", R"({"bos_token": "<s>"})");

  EXPECT_EQ(LoadChatTemplate(folder.path()).status().code(), absl::StatusCode::kNotFound);
}

// A folder of Pangu Pro MoE with this template; empty: none.
absl::StatusOr<ChatTemplate> LoadPangu(const std::string& source, const std::string& more = "") {
  ModelFolder folder;
  folder.Write("tokenizer_config.json",
               StrCat(R"({"tokenizer_class": "PanguTokenizer", "bos_token": "<s>")", more, "}"));
  if (!source.empty()) folder.Write("chat_template.jinja", source);
  return LoadChatTemplate(folder.path());
}

TEST(LoadChatTemplateTest, APanguFolderWithoutTemplateHasTheBuiltInLayout) {
  const auto chat = LoadPangu("");
  const Json turns = Json::parse(R"([{"role": "system", "content": "S "}, {"role": "user", "content": "a\nb"},
      {"role": "assistant", "content": "c"}, {"role": "tool", "content": "t"}, {"role": "function", "content": "f"},
      {"role": "user", "content": [{"type": "text", "text": "d"}, {"type": "text", "text": "e"}]}])");
  ASSERT_TRUE(chat.ok()) << chat.status();

  EXPECT_EQ(*chat->Render(kHello, nullptr, kNoArguments, {}),
            "<s>[unused9]系统：[unused10][unused9]用户：Hi[unused10][unused9]助手：");
  EXPECT_EQ(*chat->Render(turns, nullptr, kNoArguments, {.add_generation_prompt = false}),
            "<s>[unused9]系统：S [unused10][unused9]用户：a\nb[unused10][unused9]助手：c[unused10]"
            "[unused9]工具：t[unused10][unused9]方法：f[unused10][unused9]用户：de[unused10]");
  EXPECT_EQ(*chat->Render(kStory, nullptr, kNoArguments, Continuing()),
            "<s>[unused9]系统：[unused10][unused9]用户：Go[unused10][unused9]助手：Once");
}

TEST(LoadChatTemplateTest, TheBuiltInLayoutRefusesWhatItCannotSay) {
  const auto chat = LoadPangu("");
  const Json tools = Json::parse(R"([{"name": "f"}])"), no_tools = Json::array();
  const Json critic = Json::parse(R"([{"role": "critic", "content": "x"}])");
  const Json call = Json::parse(R"([{"role": "assistant", "tool_calls": [{"id": "1"}]}])");
  ASSERT_TRUE(chat.ok()) << chat.status();

  EXPECT_EQ(chat->Render(kHello, &tools, kNoArguments, {}).status(),
            absl::InvalidArgumentError("the built-in chat layout has no tools; the model needs a chat template"));
  EXPECT_TRUE(chat->Render(kHello, &no_tools, kNoArguments, {}).ok());
  EXPECT_EQ(chat->Render(critic, nullptr, kNoArguments, {}).status(),
            absl::InvalidArgumentError("the built-in chat layout has no critic"));
  EXPECT_EQ(chat->Render(call, nullptr, kNoArguments, {}).status(),
            absl::InvalidArgumentError("the built-in chat layout has no calls"));
}

TEST(LoadChatTemplateTest, APanguChatBeginsWithOneBosWhoeverWritesIt) {
  const std::string turn = "[unused9]{{ messages[0].content }}[unused10]";

  for (const std::string& source : {turn, "{{ bos_token }}" + turn, "<s>" + turn}) {
    EXPECT_EQ(*LoadPangu(source)->Render(kHello, nullptr, kNoArguments, {}), "<s>[unused9]Hi[unused10]") << source;
  }
  EXPECT_EQ(*LoadPangu(turn, R"(, "add_bos_token": false)")->Render(kHello, nullptr, kNoArguments, {}),
            "[unused9]Hi[unused10]");
}

TEST(LoadChatTemplateTest, NamesTheFileOfABrokenTemplate) {
  ModelFolder folder;
  folder.Write("chat_template.jinja", "a\n{% if %}");

  const absl::Status status = LoadChatTemplate(folder.path()).status();

  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("chat_template.jinja"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("line 2"));
}

// ---- the templates of real models against transformers

std::string Digest(const std::string& text) {
  uint64_t value = 0xcbf29ce484222325u;
  for (const char c : text) value = (value ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return absl::StrFormat("%016x", value);
}

std::string ReadFile(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

absl::StatusOr<std::string> RenderCase(const ChatTemplate& chat, const Json& test_case) {
  ChatRenderOptions options;
  options.add_generation_prompt = test_case["add_generation_prompt"].get<bool>();
  options.continue_final_message = test_case["continue_final_message"].get<bool>();
  options.clock = [] { return absl::FromCivil(absl::CivilSecond(2025, 3, 7, 8, 5, 9), absl::LocalTimeZone()); };
  const Json* tools = JsonFind(test_case, "tools");
  return chat.Render(test_case["messages"], tools, test_case.value("kwargs", Json::object()), options);
}

void ExpectAsRecorded(const Json& entry, const absl::StatusOr<std::string>& rendered) {
  const std::string name = StrCat(entry["file"].get<std::string>(), " ", entry["case"].get<std::string>());
  if (entry.contains("digest")) {
    ASSERT_TRUE(rendered.ok()) << name << ": " << rendered.status();
    EXPECT_EQ(rendered->size(), entry["size"].get<size_t>()) << name << ":\n" << *rendered;
    EXPECT_EQ(Digest(*rendered), entry["digest"].get<std::string>()) << name << ":\n" << *rendered;
    return;
  }
  ASSERT_FALSE(rendered.ok()) << name << ":\n" << *rendered;
  const std::string message(rendered.status().message());
  if (entry["error"] == "raised") {
    EXPECT_EQ(message, entry["message"].get<std::string>()) << name;
  }
  if (entry["error"] == "undefined") {
    EXPECT_THAT(message, HasSubstr(entry["message"].get<std::string>())) << name;
  }
}

TEST(ChatTemplateGoldenTest, RendersConversationsAsTransformersDoes) {
  const std::string templates = EXPERTD_SOURCE_DIR "/../shared/data/chat-templates/";
  if (!std::filesystem::exists(templates)) GTEST_SKIP() << "the models' templates are not here: " << templates;
  const auto golden = ReadJsonFile(EXPERTD_SOURCE_DIR "/tests/golden/chat_templates/chats.json");
  ASSERT_TRUE(golden.ok()) << golden.status();
  const Json& tokens = (*golden)["special_tokens"];
  const SpecialTokens special = {tokens["bos_token"].get<std::string>(), tokens["eos_token"].get<std::string>(),
                                 tokens["pad_token"].get<std::string>(), tokens["unk_token"].get<std::string>()};
  std::map<std::string, ChatTemplate> parsed;

  int num_entries = 0;
  for (const Json& entry : (*golden)["entries"]) {
    const auto file = entry["file"].get<std::string>();
    if (!parsed.contains(file)) parsed.emplace(file, Parsed(ReadFile(templates + file), special));
    const Json& test_case = (*golden)["cases"][entry["case"].get<std::string>()];
    ExpectAsRecorded(entry, RenderCase(parsed.at(file), test_case));
    ++num_entries;
  }

  EXPECT_GT(num_entries, 800);
}

}  // namespace
}  // namespace expertd
