// Reads a request's JSON: the body as a whole, and single members of its objects. A member that is null counts as
// absent. Errors are InvalidField statuses, which name the member and what is allowed.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <google/protobuf/struct.pb.h>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/base/json.h"

namespace expertd::rest {

// The object that a body holds. InvalidArgument when it is no JSON object, is nested too deep, or has more values than
// any request of the contract can have (a few bytes of JSON can take a hundred in memory).
absl::StatusOr<Json> ParseBody(std::string_view body);

// A JSON object and where it stands in the body. Looks at `json`, which must outlive it.
class JsonFields {
 public:
  // `place` ends in a dot when it is not empty: "messages[0].".
  explicit JsonFields(const Json& json, std::string place = "") : json_(json), place_(std::move(place)) {}

  // The member, or null.
  const Json* Find(std::string_view name) const { return JsonFind(json_, name); }
  bool Has(std::string_view name) const { return Find(name) != nullptr; }
  // The member's full name, for errors.
  std::string NameOf(std::string_view name) const;
  absl::Status Invalid(std::string_view name, std::string_view message) const;

  // The member; nullopt when it is absent. Errors: it is of another type, or not in [minimum, maximum].
  absl::StatusOr<std::optional<double>> Number(std::string_view name) const;
  absl::StatusOr<std::optional<int64_t>> Integer(std::string_view name, int64_t minimum, int64_t maximum) const;
  absl::StatusOr<std::optional<bool>> Bool(std::string_view name) const;
  absl::StatusOr<std::optional<std::string>> String(std::string_view name) const;
  // Empty when it is absent.
  absl::StatusOr<std::vector<uint32_t>> TokenIds(std::string_view name) const;

 private:
  const Json& json_;
  const std::string place_;
};

// The ids of a JSON array; an error names `name`.
absl::StatusOr<std::vector<uint32_t>> ReadTokenIds(const Json& array, std::string_view name);

// A JSON object as protobuf has them. Numbers become doubles.
google::protobuf::Struct ToStruct(const Json& object);

}  // namespace expertd::rest
