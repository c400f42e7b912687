#include "clients/rest_shim/web_page.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <grpcpp/create_channel.h>

#include "clients/rest_shim/routes.h"
#include "clients/rest_shim/upstream.h"

namespace expertd::rest {
namespace {

// Keeps the answer to a request.
class FakeExchange final : public HttpExchange {
 public:
  FakeExchange(const std::string& method, const std::string& path) : request_{.method = method, .path = path} {}

  const HttpRequest& request() const override { return request_; }
  std::string TakeBody() override { return ""; }
  void Send(HttpResponse response) override { this->response = std::move(response); }
  void StartStream(HttpResponse, std::string) override {}
  void Write(std::string, std::function<void()>) override {}
  void EndStream() override {}
  void SetOnGone(std::function<void()>) override {}

  std::optional<HttpResponse> response;

 private:
  const HttpRequest request_;
};

// The answer of a shim whose server can't be reached.
HttpResponse AnswerTo(const std::string& method, const std::string& path) {
  Upstream upstream(grpc::CreateChannel("127.0.0.1:1", grpc::InsecureChannelCredentials()));
  const auto exchange = std::make_shared<FakeExchange>(method, path);
  MakeRoutes(upstream, nullptr)(exchange);
  return exchange->response.value();
}

std::string Header(const HttpResponse& response, std::string_view name) {
  for (const auto& [known, value] : response.headers) {
    if (known == name) return value;
  }
  return "";
}

TEST(WebPageTest, IsThereWithoutKeyAndServer) {
  const HttpResponse page = AnswerTo("GET", "/");

  EXPECT_EQ(page.status, 200);
  EXPECT_EQ(page.content_type, "text/html; charset=utf-8");
  EXPECT_TRUE(page.body.starts_with("<!doctype html>"));
  EXPECT_TRUE(Header(page, "content-security-policy").starts_with("default-src 'self';"));
  EXPECT_EQ(Header(page, "x-content-type-options"), "nosniff");
  EXPECT_EQ(Header(page, "cache-control"), "no-cache");
}

TEST(WebPageTest, TakesGetAlone) {
  const HttpResponse answer = AnswerTo("POST", "/");

  EXPECT_EQ(answer.status, 405);
  EXPECT_EQ(Header(answer, "allow"), "GET");
}

TEST(WebPageTest, FilesHaveTheirTypes) {
  EXPECT_EQ(AnswerTo("GET", "/page/style.css").content_type, "text/css; charset=utf-8");
  EXPECT_EQ(AnswerTo("GET", "/page/main.js").content_type, "text/javascript; charset=utf-8");
  EXPECT_EQ(AnswerTo("GET", "/page/icon.svg").content_type, "image/svg+xml; charset=utf-8");
  EXPECT_EQ(AnswerTo("GET", "/page/embed.cmake").status, 404);
}

// What stands in `text` between `before` and the quote that follows.
std::vector<std::string> Quoted(std::string_view text, std::string_view before) {
  std::vector<std::string> found;
  for (size_t at = text.find(before); at != std::string_view::npos; at = text.find(before, at)) {
    at += before.size();
    found.emplace_back(text.substr(at, text.find('"', at) - at));
  }
  return found;
}

TEST(WebPageTest, EveryFileThatIsLoadedIsThere) {
  const std::string page = AnswerTo("GET", "/").body;
  std::vector<std::string> paths;
  for (const std::string_view before : {" href=\"", " src=\""}) {
    for (const std::string& path : Quoted(page, before)) paths.push_back("/" + path);
  }
  for (const WebFile& file : WebFiles()) {
    for (const std::string& name : Quoted(file.bytes, "from \"./")) paths.push_back("/page/" + name);
  }

  EXPECT_GE(paths.size(), 5);
  for (const std::string& path : paths) EXPECT_EQ(AnswerTo("GET", path).status, 200) << path;
}

// What the policy forbids would fail in a browser without a word.
TEST(WebPageTest, HasNothingInline) {
  const std::string page = AnswerTo("GET", "/").body;

  for (const std::string_view inlined : {"<style", " style=", "<script>", " onclick="}) {
    EXPECT_EQ(page.find(inlined), std::string::npos) << inlined;
  }
}

}  // namespace
}  // namespace expertd::rest
