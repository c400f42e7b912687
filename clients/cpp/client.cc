#include "clients/cpp/client.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string_view>
#include <utility>

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>

#include "absl/strings/ascii.h"
#include "absl/time/clock.h"
#include "expertd/v1/model.grpc.pb.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "clients/cpp/channel_arguments.h"
#include "engine/base/range_check.h"
#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/base/terminal_text.h"

namespace expertd {
namespace {

// Takes pipes too, which base's ReadFile refuses: `--api-key-file <(pass show expertd)` keeps the key off the disk.
absl::StatusOr<std::string> ReadFileOrPipe(std::string_view flag, const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return absl::NotFoundError(StrCat(flag, " ", path, " cannot be opened"));
  std::ostringstream text;
  text << file.rdbuf();
  return std::move(text).str();
}

// gRPC ends the program, with the key in its last words, when it is to send any other character.
absl::StatusOr<std::string> CheckApiKey(std::string_view source, std::string key) {
  if (std::all_of(key.begin(), key.end(), [](char c) { return c > ' ' && c <= '~'; })) return key;
  return absl::InvalidArgumentError(StrCat("the key of ", source, " is not printable ASCII without blanks"));
}

absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> MakeCredentials(const ClientOptions& options) {
  if (!options.uses_tls()) return grpc::InsecureChannelCredentials();
  grpc::SslCredentialsOptions tls;
  if (!options.tls_ca_file.empty()) {
    ASSIGN_OR_RETURN(tls.pem_root_certs, ReadFileOrPipe("--tls-ca-certs", options.tls_ca_file));
    // gRPC would trust the system's authorities instead.
    if (tls.pem_root_certs.empty()) {
      return absl::InvalidArgumentError(StrCat("--tls-ca-certs ", options.tls_ca_file, " holds nothing"));
    }
  }
  return grpc::SslCredentials(tls);
}

}  // namespace

absl::Status ClientOptions::Validate() const {
  if (target.empty()) return absl::InvalidArgumentError("--target is empty; must be HOST:PORT or unix:PATH");
  return CheckNotNegative("--wait-ready", wait_ready_seconds);
}

absl::StatusOr<std::string> FindApiKey(const ClientOptions& options) {
  if (options.api_key_file.empty()) {
    const char* variable = std::getenv("EXPERTD_API_KEY");
    std::string key = variable == nullptr ? "" : variable;
    absl::StripAsciiWhitespace(&key);
    return CheckApiKey("EXPERTD_API_KEY", std::move(key));
  }
  ASSIGN_OR_RETURN(const std::string text, ReadFileOrPipe("--api-key-file", options.api_key_file));
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    line = line.substr(0, line.find('#'));  // as the server reads its own file, which may be the same
    absl::StripAsciiWhitespace(&line);
    if (line.empty()) continue;
    return CheckApiKey(StrCat("--api-key-file ", options.api_key_file), std::move(line));
  }
  return absl::InvalidArgumentError(StrCat("--api-key-file ", options.api_key_file, " holds no key"));
}

void AddTargetFlags(CLI::App& command, ClientOptions& options) {
  command.add_option("--target", options.target, "Address of the server [127.0.0.1:50051]");
  command.add_flag("--tls", options.use_tls, "Use TLS with the system's certificate authorities");
  command.add_option("--tls-ca-certs", options.tls_ca_file, "Use TLS with these certificate authorities (PEM)");
}

void AddClientFlags(CLI::App& command, ClientOptions& options) {
  AddTargetFlags(command, options);
  command.add_option("--api-key-file", options.api_key_file, "File with the API key [EXPERTD_API_KEY, or none]");
  command.add_option("--wait-ready", options.wait_ready_seconds, "Seconds to wait for the server to answer [10]");
}

absl::StatusOr<std::shared_ptr<grpc::Channel>> MakeChannel(const ClientOptions& options, int index) {
  ASSIGN_OR_RETURN(const std::shared_ptr<grpc::ChannelCredentials> credentials, MakeCredentials(options));
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(64 << 20);
  KeepInTouch(arguments);
  arguments.SetInt("expertd.channel_index", index);  // unlike arguments keep gRPC from sharing one connection
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return grpc::CreateCustomChannel(options.target, credentials, arguments);
}

absl::StatusOr<std::unique_ptr<Client>> Client::Connect(const ClientOptions& options, int num_channels,
                                                        const std::function<bool()>& is_interrupted) {
  auto client = std::make_unique<Client>();
  ASSIGN_OR_RETURN(client->api_key_, FindApiKey(options));
  for (int i = 0; i < num_channels; ++i) {
    ASSIGN_OR_RETURN(std::shared_ptr<grpc::Channel> channel, MakeChannel(options, i));
    client->channels_.push_back(std::move(channel));
  }
  const absl::Time deadline = absl::Now() + absl::Seconds(options.wait_ready_seconds);
  for (;;) {
    if (is_interrupted && is_interrupted()) return absl::CancelledError("interrupted");
    const absl::Time end = is_interrupted ? std::min(deadline, absl::Now() + absl::Seconds(2)) : deadline;
    grpc::ClientContext context;
    client->Prepare(context);
    context.set_wait_for_ready(true);
    context.set_deadline(absl::ToChronoTime(end));
    v1::GetModelResponse response;
    const auto stub = v1::ModelService::NewStub(client->channel());
    const grpc::Status status = stub->GetModel(&context, v1::GetModelRequest(), &response);
    if (status.ok()) {
      client->model_ = response.model();
      return client;
    }
    if (status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED) {
      if (end < deadline) continue;
      return absl::UnavailableError(StrCat("no server answers at ", options.target,
                                           options.uses_tls() ? " over TLS" : "", " within ",
                                           options.wait_ready_seconds, " s; start one with `expertd serve MODEL`, or "
                                           "name its address with --target"));
    }
    // wait_for_ready sits out a missing server; one that is there but still loads its model is asked again.
    constexpr absl::Duration kPause = absl::Milliseconds(100);
    if (status.error_code() != grpc::StatusCode::UNAVAILABLE || absl::Now() + kPause >= deadline) {
      return FromGrpc(status);
    }
    absl::SleepFor(kPause);
  }
}

void Client::Prepare(grpc::ClientContext& context) const {
  if (!api_key_.empty()) context.AddMetadata("authorization", StrCat("Bearer ", api_key_));
}

std::string ErrorReason(const grpc::Status& status) {
  google::rpc::Status details;
  if (!details.ParseFromString(status.error_details())) return "";
  for (const google::protobuf::Any& detail : details.details()) {
    google::rpc::ErrorInfo info;
    if (detail.UnpackTo(&info)) return info.reason();
  }
  return "";
}

absl::Status FromGrpc(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  const auto code = static_cast<absl::StatusCode>(status.error_code());
  const std::string reason = ErrorReason(status);
  const std::string message =
      status.error_message().empty() ? StrCat(absl::StatusCodeToString(code), ", and the server says no more")
                                     : status.error_message();
  return absl::Status(code, WithoutControls(reason.empty() ? message : StrCat(reason, ": ", message)));
}

}  // namespace expertd
