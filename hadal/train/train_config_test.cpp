#include "hadal/train/train_config.h"

#include <gmock/gmock.h>

#include "hadal/core/error.h"
#include "hadal/train/run_schedule.h"

namespace hadal::train {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using testing::ThrowsMessage;

constexpr const char* kSmall = R"(
run_dir = "runs/a"
[model]
config = "config.json"
[data]
directory = "data"
[batch]
sequences = [[0, 2], [100, 4]]
sequence_length = 10
[length]
tokens = 1480
)";

TrainConfig parse(const std::string& toml, std::vector<std::string> settings = {}) {
  return parse_train_config(toml, "x.toml", settings);
}

TEST(TrainConfig, ReadsWhatIsSetAndHasTheReportsValuesElse) {
  const TrainConfig c = parse(kSmall);
  EXPECT_EQ(c.run_dir, "runs/a");
  EXPECT_EQ(c.batch.sequences.at(99), 2);
  EXPECT_EQ(c.batch.sequences.at(100), 4);
  EXPECT_EQ(c.batch.sequence_length.at(0), 10);
  EXPECT_EQ(c.length.tokens, 1480u);
  EXPECT_EQ(c.learning_rate.peak, 2.2e-4);
  EXPECT_EQ(c.optimizer.beta2, 0.95);
  EXPECT_EQ(c.optimizer.clip, 1);
  EXPECT_EQ(c.objective.alpha, 1e-4);
  EXPECT_EQ(c.data.fim_rate, 0.1);
}

TEST(TrainConfig, SettingsComeOverTheFile) {
  const TrainConfig c = parse(kSmall, {"seed=7", "learning_rate.peak=1e-3", "run_dir=runs/b", "length.tokens=1e6",
                                       "log.sample_prompts=[\"a\", \"b\"]"});
  EXPECT_EQ(c.seed, 7u);
  EXPECT_EQ(c.learning_rate.peak, 1e-3);
  EXPECT_EQ(c.run_dir, "runs/b");
  EXPECT_EQ(c.length.tokens, 1000000u);
  EXPECT_THAT(c.log.sample_prompts, ElementsAre("a", "b"));
}

TEST(TrainConfig, SaysEverythingThatIsWrongWithItsLine) {
  EXPECT_THAT([] { parse("run_dir = 3\n[lenght]\ntokens = 5\n", {"seed=-1"}); },
              ThrowsMessage<Error>(AllOf(HasSubstr("x.toml, line 1: run_dir: text was expected, not 3"),
                                         HasSubstr("x.toml, line 3: lenght.tokens is not a field (did you mean "
                                                   "length.tokens?)"),
                                         HasSubstr("--set: seed: a whole number was expected, not -1"))));
  EXPECT_THAT([] { parse("a = = 1\n"); }, ThrowsMessage<Error>(HasSubstr("x.toml, line 1: not valid TOML")));
  EXPECT_THAT([] { parse(kSmall, {"length.steps=3", "optimizer.beta1=1"}); },
              ThrowsMessage<Error>(AllOf(HasSubstr("one of length.tokens and length.steps"),
                                         HasSubstr("optimizer.beta1, optimizer.beta2, optimizer.momentum and ema.decay are at least 0"))));
  EXPECT_THAT([] { parse(kSmall, {"batch.sequences=[[5, 2]]"}); },
              ThrowsMessage<Error>(HasSubstr("the first entry stands at 0 tokens")));
  EXPECT_THAT([] { parse(kSmall, {"batch.sequences=0.5"}); },
              ThrowsMessage<Error>(HasSubstr("0.5 is not a whole number above 0")));
}

TEST(TrainConfig, EveryFieldSurvivesAFile) {
  const TrainConfig c = parse(kSmall, {"data.epochs=1.5", "objective.lambda=[[0, 0.3], [500, 0.1]]", "recompute=true"});
  EXPECT_EQ(to_json(parse(to_toml(c))), to_json(c));
}

TEST(TrainConfig, ExplainsEveryFieldOnce) {
  const std::string text = explain_train_config(nullptr);
  for (const Field& f : train_fields()) {
    EXPECT_THAT(text, HasSubstr(f.text)) << f.key;
    EXPECT_FALSE(f.text.empty());
    EXPECT_FALSE(f.on_change == OnChange::kRefused && f.why.empty()) << f.key;
  }
}

TEST(TrainConfig, AChangeIsAcceptedOrRefusedFieldByField) {
  const TrainConfig before = parse(kSmall);
  EXPECT_THAT(accept_changes(to_json(before), before), testing::IsEmpty());
  EXPECT_THAT(accept_changes(to_json(before), parse(kSmall, {"log.every=3", "run_dir=elsewhere"})),
              ElementsAre("log.every: was 10, is 3"));
  EXPECT_THAT([&] { accept_changes(to_json(before), parse(kSmall, {"seed=1", "log.every=3", "batch.sequences=9"})); },
              ThrowsMessage<Error>(AllOf(HasSubstr("seed: was 0, is 1: a run that is resumed cannot change it"),
                                         HasSubstr("batch.sequences: was [[0,2],[100,4]], is 9"),
                                         Not(HasSubstr("log.every")))));
  // What an older program had no field for had the default.
  io::Json older = to_json(before);
  older.erase("optimizer.moments");
  EXPECT_THAT(accept_changes(older, before), testing::IsEmpty());
}

TEST(RunSchedule, TakesTheReportsSharesOfTheRun) {
  const RunSchedule s = run_schedule(parse(kSmall));
  // 2 x 10 until 100 tokens, then 4 x 10.
  EXPECT_EQ(s.total_steps, 5 + 35);
  EXPECT_EQ(s.total_tokens, 100u + 35 * 40);
  EXPECT_EQ(s.learning_rate.constant_until, 1014u);  // 10 / 14.8 of 1500
  EXPECT_EQ(s.learning_rate.cosine_until, 1449u);
  EXPECT_EQ(s.learning_rate.low_until, 1483u);
  EXPECT_DOUBLE_EQ(s.learning_rate.low, 2.2e-5);
  EXPECT_DOUBLE_EQ(s.learning_rate.last, 7.3e-6);
  EXPECT_EQ(s.lambda.at(1013), 0.3);
  EXPECT_EQ(s.lambda.at(1014), 0.1);
  EXPECT_EQ(s.gamma.at(1448), 0.001);
  EXPECT_EQ(s.gamma.at(1449), 0);
  EXPECT_FALSE(s.done(39, 1460));
  EXPECT_TRUE(s.done(40, 1500));
}

TEST(RunSchedule, CountsStepsOfEveryLength) {
  std::string toml = kSmall;
  toml.replace(toml.find("tokens = 1480"), 13, "steps = 9");
  const RunSchedule s = run_schedule(parse(toml, {"batch.sequence_length=[[0, 4], [41, 6]]"}));
  // 6 steps of 2 x 4 reach 48 tokens; then 2 x 6 until 100 is passed.
  EXPECT_EQ(s.total_steps, 9);
  EXPECT_EQ(s.total_tokens, 48u + 3 * 12);
  EXPECT_EQ(s.block, 12);
  EXPECT_EQ(s.longest(), 6);
  EXPECT_EQ(s.most_sequences(), 4);
}

}  // namespace
}  // namespace hadal::train
