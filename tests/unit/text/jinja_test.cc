// The interpreter's own promises: errors, limits, threads, input. What templates mean is in jinja_golden_test.cc.
#include "engine/text/jinja/jinja.h"

#include <string>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "engine/base/strings.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace expertd::jinja {
namespace {

using ::testing::HasSubstr;

absl::StatusOr<std::string> Render(const std::string& source, const Json& variables = Json::object(),
                                   const RenderOptions& options = {}) {
  auto parsed = Template::Parse(source);
  if (!parsed.ok()) return parsed.status();
  return parsed->Render(variables, options);
}

std::string Repeated(const std::string& piece, int count) {
  std::string text;
  for (int i = 0; i < count; ++i) text += piece;
  return text;
}

// ---- errors

TEST(JinjaTest, NamesTheLineOfASyntaxError) {
  const auto rendered = Render("one\ntwo\n{% nope %}");

  EXPECT_EQ(rendered.status(), absl::InvalidArgumentError("line 3: Encountered unknown tag 'nope'."));
}

TEST(JinjaTest, NamesTheLineOfAnErrorWhileRendering) {
  const auto rendered = Render("one\n{% for x in [1] %}\n{{ x.y.z }}\n{% endfor %}");

  EXPECT_EQ(rendered.status(), absl::InvalidArgumentError("line 3: 'int object' has no attribute 'y'"));
}

TEST(JinjaTest, GivesTheWordsOfRaiseExceptionUnchanged) {
  const auto rendered = Render("\n\n{{ raise_exception('Roles must alternate!') }}");

  EXPECT_EQ(rendered.status(), absl::InvalidArgumentError("Roles must alternate!"));
}

TEST(JinjaTest, RefusesASourceThatIsNotUtf8) {
  const auto rendered = Render("a\xff");

  EXPECT_EQ(rendered.status(), absl::InvalidArgumentError("the template is not valid UTF-8"));
}

TEST(JinjaTest, RefusesInputThatIsNotUtf8) {
  const auto rendered = Render("{{ x }}", {{"x", "\xc3("}});

  EXPECT_EQ(rendered.status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(JinjaTest, RefusesTemplatesThatLoadOthersOnlyWhenTheyDo) {
  EXPECT_EQ(*Render("{% if false %}{% include 'x' %}{% endif %}ok"), "ok");
  EXPECT_THAT(std::string(Render("{% include 'x' %}").status().message()), HasSubstr("'include'"));
}

TEST(JinjaTest, KeepsTheOrderAndTheNumbersOfTheInput) {
  const Json variables = {{"x", {{"b", 1}, {"a", 18446744073709551615u}, {"c", 1.0}, {"d", -0.5}}}};

  EXPECT_EQ(*Render("{{ x | tojson }}", variables), R"({"b": 1, "a": 18446744073709551615, "c": 1.0, "d": -0.5})");
}

TEST(JinjaTest, AnIntegerBeyond128BitsIsAnError) {
  EXPECT_EQ(*Render("{{ 2 ** 126 }}"), "85070591730234615865843651857942052864");
  EXPECT_EQ(Render("{{ 2 ** 127 }}").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Render("{{ 9" + std::string(60, '9') + " }}").status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(JinjaTest, ReadsTheGivenClock) {
  RenderOptions options;
  options.clock = [] { return absl::FromUnixSeconds(86400 * 365); };
  options.time_zone = absl::UTCTimeZone();

  EXPECT_EQ(*Render("{{ strftime_now('%d %B %Y') }}", Json::object(), options), "01 January 1971");
}

TEST(JinjaTest, ManyThreadsMayRenderOneTemplate) {
  auto parsed = Template::Parse(
      "{% set ns = namespace(s='') %}{% for x in items %}{% set ns.s = ns.s ~ x %}{% endfor %}{{ ns.s }}");
  std::vector<std::string> results(8);

  std::vector<std::thread> threads;
  for (size_t i = 0; i < results.size(); ++i) {
    threads.emplace_back([&, i] {
      for (int round = 0; round < 50; ++round) results[i] = *parsed->Render({{"items", {"a", i, "b"}}});
    });
  }
  for (std::thread& thread : threads) thread.join();

  for (size_t i = 0; i < results.size(); ++i) EXPECT_EQ(results[i], StrCat("a", i, "b"));
}

// ---- limits

class JinjaLimitTest : public ::testing::TestWithParam<const char*> {};

// Whatever a template tries, it ends with an error of its own, soon, and within the memory it is given.
TEST_P(JinjaLimitTest, EndsWithResourceExhausted) {
  const absl::Time start = absl::Now();

  const auto rendered = Render(GetParam());

  EXPECT_EQ(rendered.status().code(), absl::StatusCode::kResourceExhausted) << rendered.status();
  EXPECT_LT(absl::Now() - start, absl::Seconds(30));  // far above what it takes, even under a sanitizer
}

INSTANTIATE_TEST_SUITE_P(
    Memory, JinjaLimitTest,
    ::testing::Values(
        "{{ 'a' * 10 ** 9 }}", "{{ 'a' * 10 ** 30 }}", "{{ [1] * 10 ** 9 }}", "{{ 10 ** 12 * 'ab' }}",
        "{% set ns = namespace(l=[1]) %}{% for i in range(100) %}{% set ns.l = ns.l + ns.l %}{% endfor %}",
        "{% set ns = namespace(s='ab') %}{% for i in range(100) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
        "{% set ns = namespace(s='ab') %}{% for i in range(100) %}{% set ns.s = ns.s | replace('a', ns.s) %}{% endfor "
        "%}",
        "{% set ns = namespace(s='ab') %}{% for i in range(100) %}{% set ns.s = (ns.s | list) | join(ns.s) %}{% endfor "
        "%}",
        "{% set ns = namespace(s='a\\nb') %}{% for i in range(100) %}{% set ns.s = ns.s | indent(ns.s, true) %}{% "
        "endfor %}",
        "{{ 'a'.center(10 ** 9) }}", "{{ 'a'.zfill(10 ** 10) }}", "{{ '%1000000000d' % 1 }}",
        "{{ '{:1000000000}'.format(1) }}", "{{ 'a\tb'.expandtabs(10 ** 9) }}", "{{ [1] | batch(10 ** 9, 'x') | list }}",
        "{{ [1] | slice(10 ** 9) | list }}", "{{ 'a' | indent(10 ** 9) }}", "{{ [1] | tojson(indent=10 ** 9) }}",
        "{{ 'a'.join(['b' * 1000000] * 1000) }}",
        "{% set x = 'a' * 1000000 %}{{ [[[[[1] * 100] * 100] * 100] * 100] | tojson }}",
        "{% set ns = namespace(l=[]) %}{% for i in range(100000) %}{% set ns.l = ns.l + ['x' * 1000] %}{% endfor %}",
        "{% for i in range(100000) %}{% for j in range(100000) %}{% set ns = namespace(a='x' * 100) %}{% endfor %}{% "
        "endfor %}",
        "{% set ns = namespace(v='é' * 1000000) %}{% for i in range(100) %}{% set ns.v = ns.v.upper() ~ ns.v %}{% "
        "endfor %}"));

INSTANTIATE_TEST_SUITE_P(
    Output, JinjaLimitTest,
    ::testing::Values("{% for i in range(100000) %}{{ 'a' * 100000 }}{% endfor %}",
                      "{% macro m(n) %}{{ 'a' * 1000000 }}{% if n %}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(50) }}",
                      "{% set x %}{% for i in range(100) %}{{ 'a' * 1000000 }}{% endfor %}{% endset %}"));

INSTANTIATE_TEST_SUITE_P(
    Steps, JinjaLimitTest,
    ::testing::Values(
        "{% set s = 'a' * 3000000 %}{% set t = 'a' * 1500000 ~ 'b' %}{% for i in range(100000) %}"
        "{% if t in s or s.rfind(t) > 0 or s.find(t) > 0 %}{% endif %}{% set r = s.replace(t, '') %}{% endfor %}",
        "{% set s = 'a' * 3000000 %}{% set d = {s: 1} %}{% set t = 'a' * 2999999 ~ 'a' %}{% for i in range(100000) %}"
        "{% if t in d and d[t] and d.get(t) %}{% endif %}{% endfor %}",
        "{% set d = dict() %}{% for i in range(100000) %}{% set d = dict(d, x=range(1000) | list) %}"
        "{% set l = range(1000) | unique | list %}{% endfor %}",
        "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
        "{% for a in range(100000) %}{% for b in range(100000) %}{{ '' }}{% endfor %}{% endfor %}",
        "{% set s = 'a' * 1000000 %}{% for i in range(100000) %}{% if 'b' in s %}{% endif %}{% endfor %}",
        "{% set s = 'a' * 1000000 %}{% for i in range(100000) %}{% set t = s.upper() %}{% endfor %}",
        "{% set s = 'ab ' * 300000 %}{% for i in range(100000) %}{% set t = s.rsplit(none, 1) %}{% endfor %}",
        "{% set s = 'a' * 1000000 %}{% for i in range(100000) %}{% set t = s.strip(s[:1000]) %}{% endfor %}",
        "{% set s = 'é' * 1000000 %}{% for i in range(100000) %}{% set t = s[-1] %}{% endfor %}",
        "{% set l = range(100000) | list %}{% for i in l %}{% if -1 in l %}{% endif %}{% endfor %}",
        "{% set l = range(100000) | list %}{% for i in l %}{% set x = l | sort(reverse=true) %}{% endfor %}",
        "{% set l = range(100000) | list %}{% for i in l %}{% set x = l[1:] %}{% endfor %}",
        "{% set s = 'a' * 1000000 %}{% set t = 'a' * 999999 ~ 'a' %}{% for i in range(100000) %}{% if s == t %}{% "
        "endif %}{% endfor %}",
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(40) }}",
        "{% set ns = namespace(l=[1]) %}{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l }}",
        "{% set ns = namespace(a=[1], b=[1]) %}{% for i in range(60) %}{% set ns.a = [ns.a, ns.a] %}"
        "{% set ns.b = [ns.b, ns.b] %}{% endfor %}{{ ns.a == ns.b }}",
        "{% set ns = namespace(l=[1]) %}{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l | "
        "tojson }}",
        "{% set ns = namespace(d={1: 2}) %}{% for i in range(60) %}{% set ns.d = {1: ns.d, 2: ns.d} %}{% endfor %}{{ "
        "ns.d | length ~ ns.d }}"));

INSTANTIATE_TEST_SUITE_P(
    Depth, JinjaLimitTest,
    ::testing::Values(
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% macro f(n) %}{{ f(n + 1) ~ f(n + 1) }}{% endmacro %}{{ f(0) }}",
        "{% macro f() %}{% call f() %}{{ caller() }}{% endcall %}{% endmacro %}{{ f() }}",
        "{% set ns = namespace(l=[]) %}{% for i in range(100000) %}{% set ns.l = [ns.l] %}{% endfor %}",
        "{% set ns = namespace(l={}) %}{% for i in range(100000) %}{% set ns.l = {'a': ns.l} %}{% endfor %}",
        "{% set ns = namespace(l=(1,)) %}{% for i in range(100000) %}{% set ns.l = (ns.l,) %}{% endfor %}",
        "{% set ns = namespace(g=[1]) %}{% for i in range(100000) %}{% set ns.g = ns.g | map('string') %}{% endfor %}",
        "{% set ns = namespace(g=[1]) %}{% for i in range(100000) %}{% set ns.g = [ns.g].copy %}{% endfor %}",
        "{% set ns = namespace(g=1) %}{% for i in range(100000) %}{% set ns.g = cycler(ns.g).next %}{% endfor %}",
        "{% set ns = namespace(g=1) %}{% for i in range(100000) %}{% set ns.g = joiner([ns.g]) %}{% endfor %}",
        "{% set ns = namespace() %}{% for i in range(100000) %}{% set ns2 = namespace(p=ns) %}{% set ns.p = ns2 %}{% "
        "set ns = ns2 %}"
        "{% endfor %}{% for i in range(3000) %}{% set ns.p = namespace(p=ns.p) %}{% endfor %}{{ ns }}",
        "{% for n in [1] recursive %}{{ loop([1]) }}{% endfor %}", "{% block a %}{{ self.a() }}{% endblock %}"));

// A function with very many variables costs what they cost each time it is called.
TEST(JinjaTest, ChargesTheVariablesOfEveryCall) {
  std::string source = "{% macro m(n) %}";
  for (int i = 0; i < 20000; ++i) StrAppend(&source, "{% set v", i, " = 1 %}");
  source += "{% if n %}{{ m(n - 1) }}{% endif %}{% endmacro %}{% for i in range(100000) %}{{ m(100) }}{% endfor %}";

  EXPECT_EQ(Render(source).status().code(), absl::StatusCode::kResourceExhausted);
}

TEST(JinjaTest, ChargesTheNamesOfEveryIteration) {
  std::string source = "{% for i in range(100000) %}{% if false %}";
  for (int i = 0; i < 20000; ++i) StrAppend(&source, "{{ name", i, " }}");
  source += "{% endif %}{% endfor %}";

  EXPECT_EQ(Render(source).status().code(), absl::StatusCode::kResourceExhausted);
}

TEST(JinjaTest, RefusesTuplesThatAreCostlyKeys) {
  EXPECT_EQ(*Render("{{ {(1, (2, 3)): 'x'}[(1, (2, 3))] }}"), "x");
  EXPECT_EQ(Render("{% set ns = namespace(t=(1,)) %}{% for i in range(60) %}{% set ns.t = (ns.t, ns.t) %}{% endfor %}"
                   "{{ {ns.t: 1} }}")
                .status()
                .code(),
            absl::StatusCode::kResourceExhausted);
}

TEST(JinjaTest, RefusesASourceBeyondItsLimit) {
  const auto rendered = Render(std::string((1 << 20) + 1, 'a'));

  EXPECT_EQ(rendered.status().code(), absl::StatusCode::kResourceExhausted);
}

TEST(JinjaTest, RefusesASourceThatNestsTooDeep) {
  const std::string sources[] = {
      "{{ " + Repeated("(", 5000) + "1" + Repeated(")", 5000) + " }}",
      "{{ " + Repeated("[", 5000) + "1" + Repeated("]", 5000) + " }}",
      "{{ " + Repeated("{1:", 5000) + "1" + Repeated("}", 5000) + " }}",
      "{{ " + Repeated("not ", 5000) + "1 }}",
      "{{ " + Repeated("- ", 5000) + "1 }}",
      "{{ x" + Repeated(".a", 5000) + " }}",
      "{{ x" + Repeated("()", 5000) + " }}",
      "{{ x" + Repeated("|e", 5000) + " }}",
      "{{ " + Repeated("1 if 1 else ", 5000) + "1 }}",
      "{{ " + Repeated("x[", 5000) + "1" + Repeated("]", 5000) + " }}",
      Repeated("{% if 1 %}", 5000) + Repeated("{% endif %}", 5000),
      Repeated("{% for x in y %}", 5000) + Repeated("{% endfor %}", 5000),
      Repeated("{% macro m() %}", 5000) + Repeated("{% endmacro %}", 5000),
  };

  for (const std::string& source : sources) {
    EXPECT_EQ(Render(source).status().code(), absl::StatusCode::kResourceExhausted) << source.substr(0, 30);
  }
}

TEST(JinjaTest, LongChainsAreNoNesting) {
  EXPECT_EQ(*Render("{{ 1" + Repeated(" + 1", 20000) + " }}"), "20001");
  EXPECT_EQ(*Render("{{ 1" + Repeated(" and 1", 20000) + " }}"), "1");
  EXPECT_EQ(*Render("{{ ''" + Repeated(" ~ ''", 20000) + " }}"), "");
  EXPECT_EQ(*Render("{% if 0 %}" + Repeated("{% elif 0 %}", 20000) + "{% else %}x{% endif %}"), "x");
}

TEST(JinjaTest, AcceptsSourcesOfManyStatementsQuickly) {
  const std::string source = Repeated("{% if a %}{% set b = 1 %}{% elif c %}{% set d = 2 %}{% endif %}", 15000);
  const absl::Time start = absl::Now();

  EXPECT_EQ(*Render(source), "");

  EXPECT_LT(absl::Now() - start, absl::Seconds(30));
}

TEST(JinjaTest, NestsAsDeepAsRealSchemasDo) {
  Json schema = {{"type", "leaf"}};
  for (int i = 0; i < 40; ++i) schema = {{"child", schema}};
  const std::string source =
      "{% macro m(s) %}{% if s.child %}{% for k, v in s.items() %}{% if true %}({{ m(v) }}){% endif %}{% endfor %}"
      "{% else %}leaf{% endif %}{% endmacro %}{{ m(schema) }}";

  EXPECT_EQ(*Render(source, {{"schema", schema}}), Repeated("(", 40) + "leaf" + Repeated(")", 40));
}

TEST(JinjaTest, TakesCyclesApartInTheEnd) {
  EXPECT_EQ(*Render("{% set ns = namespace() %}{% set ns.me = [ns] %}{{ ns }}"),
            "<Namespace {'me': [<Namespace {...}>]}>");
  EXPECT_EQ(*Render("{% for i in [1, 2] %}{{ loop.changed(loop) }}{% endfor %}"), "TrueFalse");
  EXPECT_EQ(*Render("{% set ns = namespace() %}{% for i in [1] %}{% set ns.l = loop %}{% endfor %}{{ ns.l.last }}"),
            "True");
  EXPECT_EQ(*Render("{% set ns = namespace() %}{% macro m() %}{{ ns.x }}{% endmacro %}{% set ns.m = m %}{% set ns.x = "
                    "'y' %}{{ ns.m() }}"),
            "y");
  EXPECT_EQ(
      *Render(
          "{% set ns = namespace() %}{% macro outer(a) %}{% macro inner() %}{{ a }}{% endmacro %}{% set ns.f = inner %}"
          "{% endmacro %}{{ outer(7) }}{{ ns.f() }}"),
      "7");
  EXPECT_EQ(
      *Render("{% set ns = namespace() %}{% for n in [1] recursive %}{% set ns.l = loop %}{% endfor %}{{ ns.l([2]) }}"),
      "");
}

}  // namespace
}  // namespace expertd::jinja
