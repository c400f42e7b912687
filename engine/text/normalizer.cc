#include "engine/text/normalizer.h"

#include <optional>
#include <utility>
#include <vector>

#include "engine/base/status_macros.h"
#include "engine/base/strings.h"
#include "engine/text/text_pattern.h"
#include "engine/text/unicode.h"

namespace expertd {
namespace {

constexpr int kMaxDepth = 8;   // of Sequences in Sequences
constexpr int kMaxParts = 64;  // of all of them; each is a pass over every text

class UnicodeFormNormalizer : public Normalizer {
 public:
  explicit UnicodeFormNormalizer(UnicodeNormalizer::Form form) : normalizer_(form) {}

  absl::Status Apply(AlignedText* aligned) const override {
    const std::string_view text = aligned->text();
    ByteRange cluster = normalizer_.NextCluster(text, 0);
    if (cluster.begin == text.size()) return absl::OkStatus();
    AlignedText::Rewriter rewriter(*aligned);
    size_t done = 0;
    for (; cluster.begin < text.size(); cluster = normalizer_.NextCluster(text, done)) {
      rewriter.Keep(done, cluster.begin);
      const std::string_view before = text.substr(cluster.begin, cluster.end - cluster.begin);
      const std::string after = normalizer_.Normalize(before);
      if (after == before) {
        rewriter.Keep(cluster.begin, cluster.end);
      } else {
        rewriter.Replace(cluster.begin, cluster.end, after);
      }
      done = cluster.end;
    }
    rewriter.Keep(done, text.size());
    ASSIGN_OR_RETURN(*aligned, std::move(rewriter).Finish());
    return absl::OkStatus();
  }

 private:
  UnicodeNormalizer normalizer_;
};

class LowercaseNormalizer : public Normalizer {
 public:
  absl::Status Apply(AlignedText* aligned) const override {
    const std::string_view text = aligned->text();
    AlignedText::Rewriter rewriter(*aligned);
    std::string lower;
    for (size_t i = 0; i < text.size();) {
      const size_t begin = i;
      lower.clear();
      AppendLowercase(DecodeUtf8(text, &i), &lower);
      rewriter.Replace(begin, i, lower);
    }
    ASSIGN_OR_RETURN(*aligned, std::move(rewriter).Finish());
    return absl::OkStatus();
  }
};

class PrependNormalizer : public Normalizer {
 public:
  explicit PrependNormalizer(std::string prefix) : prefix_(std::move(prefix)) {}

  absl::Status Apply(AlignedText* aligned) const override {
    if (aligned->text().empty()) return absl::OkStatus();
    AlignedText::Rewriter rewriter(*aligned);
    rewriter.Replace(0, 0, prefix_);
    rewriter.Keep(0, aligned->text().size());
    ASSIGN_OR_RETURN(*aligned, std::move(rewriter).Finish());
    return absl::OkStatus();
  }

 private:
  std::string prefix_;
};

class ReplaceNormalizer : public Normalizer {
 public:
  ReplaceNormalizer(TextPattern pattern, std::string content)
      : pattern_(std::move(pattern)), content_(std::move(content)) {}

  absl::Status Apply(AlignedText* aligned) const override {
    std::vector<ByteRange> matches;
    TextPattern::Searcher searcher(pattern_);
    RETURN_IF_ERROR(searcher.FindAll(aligned->text(), &matches));
    if (matches.empty()) return absl::OkStatus();
    AlignedText::Rewriter rewriter(*aligned);
    size_t done = 0;
    for (const ByteRange& match : matches) {
      rewriter.Keep(done, match.begin);
      rewriter.Replace(match.begin, match.end, content_);
      done = match.end;
    }
    rewriter.Keep(done, aligned->text().size());
    ASSIGN_OR_RETURN(*aligned, std::move(rewriter).Finish());
    return absl::OkStatus();
  }

 private:
  TextPattern pattern_;
  std::string content_;
};

class StripNormalizer : public Normalizer {
 public:
  StripNormalizer(bool left, bool right) : left_(left), right_(right) {}

  absl::Status Apply(AlignedText* aligned) const override {
    const std::string_view text = aligned->text();
    size_t begin = 0, end = text.size();
    while (left_ && begin < end) {
      size_t next = begin;
      if (!IsWhitespace(DecodeUtf8(text, &next))) break;
      begin = next;
    }
    while (right_ && begin < end) {
      size_t previous = end;
      if (!IsWhitespace(DecodeUtf8Backward(text, &previous))) break;
      end = previous;
    }
    if (begin == 0 && end == text.size()) return absl::OkStatus();
    AlignedText::Rewriter rewriter(*aligned);
    rewriter.Keep(begin, end);
    ASSIGN_OR_RETURN(*aligned, std::move(rewriter).Finish());
    return absl::OkStatus();
  }

 private:
  bool left_, right_;
};

class SequenceNormalizer : public Normalizer {
 public:
  explicit SequenceNormalizer(std::vector<std::unique_ptr<Normalizer>> parts) : parts_(std::move(parts)) {}

  absl::Status Apply(AlignedText* aligned) const override {
    for (const auto& part : parts_) RETURN_IF_ERROR(part->Apply(aligned));
    return absl::OkStatus();
  }

 private:
  std::vector<std::unique_ptr<Normalizer>> parts_;
};

std::optional<UnicodeNormalizer::Form> ParseForm(std::string_view type) {
  if (type == "NFC") return UnicodeNormalizer::Form::kNfc;
  if (type == "NFD") return UnicodeNormalizer::Form::kNfd;
  if (type == "NFKC") return UnicodeNormalizer::Form::kNfkc;
  if (type == "NFKD") return UnicodeNormalizer::Form::kNfkd;
  return std::nullopt;
}

absl::StatusOr<std::unique_ptr<Normalizer>> Parse(const Json& json, int depth, int* num_parts);

absl::StatusOr<std::unique_ptr<Normalizer>> ParseSequence(const Json& json, int depth, int* num_parts) {
  const Json* list = JsonFind(json, "normalizers");
  if (list == nullptr || !list->is_array()) {
    return absl::InvalidArgumentError("normalizer Sequence has no list of normalizers");
  }
  std::vector<std::unique_ptr<Normalizer>> parts;
  for (const Json& item : *list) {
    ASSIGN_OR_RETURN(std::unique_ptr<Normalizer> part, Parse(item, depth + 1, num_parts));
    if (part != nullptr) parts.push_back(std::move(part));
  }
  return std::make_unique<SequenceNormalizer>(std::move(parts));
}

// `num_parts` counts all that have been read.
absl::StatusOr<std::unique_ptr<Normalizer>> Parse(const Json& json, int depth, int* num_parts) {
  if (json.is_null()) return std::unique_ptr<Normalizer>();
  if (depth > kMaxDepth) return absl::InvalidArgumentError("normalizer is nested too deeply");
  if (++*num_parts > kMaxParts) {
    return absl::InvalidArgumentError(StrCat("normalizer has more than ", kMaxParts, " parts"));
  }
  ASSIGN_OR_RETURN(const std::string type, JsonStringOr(json, "type", ""));
  if (const auto form = ParseForm(type)) return std::make_unique<UnicodeFormNormalizer>(*form);
  if (type == "Lowercase") return std::make_unique<LowercaseNormalizer>();
  if (type == "Sequence") return ParseSequence(json, depth, num_parts);
  if (type == "Prepend") {
    ASSIGN_OR_RETURN(std::string prefix, JsonStringOr(json, "prepend", ""));
    return std::make_unique<PrependNormalizer>(std::move(prefix));
  }
  if (type == "Replace") {
    ASSIGN_OR_RETURN(TextPattern pattern, TextPattern::Parse(json, "normalizer Replace"));
    ASSIGN_OR_RETURN(std::string content, JsonStringOr(json, "content", ""));
    return std::make_unique<ReplaceNormalizer>(std::move(pattern), std::move(content));
  }
  if (type == "Strip") {
    ASSIGN_OR_RETURN(const bool left, JsonBoolOr(json, "strip_left", true));
    ASSIGN_OR_RETURN(const bool right, JsonBoolOr(json, "strip_right", true));
    return std::make_unique<StripNormalizer>(left, right);
  }
  return absl::UnimplementedError(StrCat("normalizer type \"", type, "\" is not supported"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Normalizer>> ParseNormalizer(const Json& json) {
  int num_parts = 0;
  return Parse(json, 0, &num_parts);
}

std::unique_ptr<Normalizer> MakeNfcNormalizer() {
  return std::make_unique<UnicodeFormNormalizer>(UnicodeNormalizer::Form::kNfc);
}

}  // namespace expertd
