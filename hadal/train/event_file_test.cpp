#include "hadal/train/event_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
#include <map>

#include "hadal/io/json.h"
#include "tests/support/temporary_directory.h"

namespace hadal::train {
namespace event_file_test {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;

// A reader of its own: messages as the list of their fields; groups and packed fields do not occur.
struct Field {
  std::uint64_t number = 0, value = 0;  // varint, or the bits of a fixed one
  std::string bytes;
};

std::uint64_t varint(std::string_view& s) {
  std::uint64_t v = 0;
  for (int shift = 0;; shift += 7) {
    const auto b = static_cast<unsigned char>(s.at(0));
    s.remove_prefix(1);
    v += static_cast<std::uint64_t>(b % 128) << shift;
    if (b < 128) return v;
  }
}

template <class T>
T fixed(std::string_view& s) {
  T v;
  std::memcpy(&v, s.substr(0, sizeof v).data(), sizeof v);
  s.remove_prefix(sizeof v);
  return v;
}

std::vector<Field> fields(std::string_view s) {
  std::vector<Field> out;
  while (!s.empty()) {
    Field f;
    const std::uint64_t key = varint(s);
    f.number = key / 8;
    if (key % 8 == 0) f.value = varint(s);
    if (key % 8 == 1) f.value = fixed<std::uint64_t>(s);
    if (key % 8 == 5) f.value = fixed<std::uint32_t>(s);
    if (key % 8 == 2) {
      const std::uint64_t size = varint(s);
      f.bytes = s.substr(0, size);
      s.remove_prefix(size);
    }
    out.push_back(f);
  }
  return out;
}

Field field(const std::vector<Field>& all, std::uint64_t number) {
  for (const Field& f : all)
    if (f.number == number) return f;
  return {};
}

struct Seen {
  double time = 0;
  Index step = 0;
  std::string version;
  std::uint64_t session = 0;
  std::vector<std::pair<std::string, float>> scalars;
};

Seen event(std::string_view message) {
  Seen out;
  for (const Field& f : fields(message)) {
    if (f.number == 1) std::memcpy(&out.time, &f.value, 8);
    if (f.number == 2) out.step = static_cast<Index>(f.value);
    if (f.number == 3) out.version = f.bytes;
    if (f.number == 7) out.session = field(fields(f.bytes), 1).value;
    if (f.number != 5) continue;
    for (const Field& v : fields(f.bytes)) {
      const auto bits = static_cast<std::uint32_t>(field(fields(v.bytes), 2).value);
      float number;
      std::memcpy(&number, &bits, 4);
      out.scalars.emplace_back(field(fields(v.bytes), 1).bytes, number);
    }
  }
  return out;
}

std::vector<Seen> events(const fs::path& path) {
  std::vector<Seen> out;
  const std::string bytes = io::read_text_file(path);
  std::string_view s = bytes;
  while (!s.empty()) {
    const std::string_view length = s.substr(0, 8);
    const auto size = fixed<std::uint64_t>(s);
    EXPECT_EQ(fixed<std::uint32_t>(s), masked_crc32c(length));
    const std::string_view message = s.substr(0, size);
    s.remove_prefix(size);
    EXPECT_EQ(fixed<std::uint32_t>(s), masked_crc32c(message));
    out.push_back(event(message));
  }
  return out;
}

class EventFiles : public ::testing::Test {
 protected:
  test::TemporaryDirectory dir;

  std::vector<fs::path> files() const {
    std::vector<fs::path> out;
    for (const auto& entry : fs::directory_iterator(dir.path())) out.push_back(entry.path());
    std::sort(out.begin(), out.end());
    return out;
  }
  // tag x: steps in the order in which a reader comes to them
  std::vector<Index> steps() const {
    std::vector<Index> out;
    for (const fs::path& path : files())
      for (const Seen& e : events(path))
        if (!e.scalars.empty()) out.push_back(e.step);
    return out;
  }
};

// RFC 3720, appendix B.4, and the check value of the catalogue of parametrised CRC algorithms.
TEST(Crc32c, PublishedVectors) {
  std::string up(32, '\0'), down(32, '\0');
  for (int i = 0; i < 32; ++i) {
    up[static_cast<std::size_t>(i)] = static_cast<char>(i);
    down[static_cast<std::size_t>(i)] = static_cast<char>(31 - i);
  }
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8A9136AAu);
  EXPECT_EQ(crc32c(std::string(32, '\xFF')), 0x62A8AB43u);
  EXPECT_EQ(crc32c(up), 0x46DD794Eu);
  EXPECT_EQ(crc32c(down), 0x113FDB5Cu);
  EXPECT_EQ(crc32c("123456789"), 0xE3069283u);
  EXPECT_EQ(crc32c(""), 0u);
  EXPECT_EQ(masked_crc32c(""), 0xA282EAD8u);
}

// The first record of any file that TensorFlow writes: 24 bytes of message.
TEST(EventRecords, TheVersionIsFramedAsTensorFlowDoes) {
  const std::string record = tf_record(version_event(0));
  EXPECT_EQ(record.size(), 24u + 16);
  EXPECT_EQ(record.substr(0, 12), std::string("\x18\0\0\0\0\0\0\0\xA3\x7F\x4B\x22", 12));
  EXPECT_EQ(record.substr(12, 9), std::string("\x09\0\0\0\0\0\0\0\0", 9));
  EXPECT_EQ(record.substr(21, 15),
            "\x1A\x0D"
            "brain.Event:2");
}

TEST(EventRecords, NumbersThatAreNotFiniteAreKept) {
  const Seen e = event(scalar_event(1, 2, {{"a", std::nan("")}, {"b", std::numeric_limits<double>::infinity()}}));
  EXPECT_TRUE(std::isnan(e.scalars[0].second));
  EXPECT_TRUE(std::isinf(e.scalars[1].second));
}

TEST(EventRecords, StepsBeyond32BitsAreWhole) {
  EXPECT_EQ(event(scalar_event(1, Index{1} << 40, {{"a", 1}})).step, Index{1} << 40);
}

TEST(EventRecords, TagsOfAStep) {
  StepRecord r;
  r.mtp = {1, 2};
  r.load.resize(1);
  r.load[0].layer = 3;
  std::vector<std::string> tags;
  for (const auto& [tag, value] : scalars_of(r)) tags.push_back(tag);
  EXPECT_THAT(tags,
              ElementsAre("loss/total", "loss/main", "loss/mtp0", "loss/mtp1", "loss/balance", "grad_norm", "lr",
                          "tokens", "speed/tokens_per_second", "speed/fma_share", "speed/seconds", "load/max_vio/mean",
                          "load/max_vio/layer3", "load/dead/layer3", "load/bias_low/layer3", "load/bias_high/layer3"));
}

TEST(EventRecords, EachTagHasTheValueOfItsField) {
  const StepRecord r{.step = 1,
                     .tokens = 2,
                     .loss = 3,
                     .main = 4,
                     .mtp = {5},
                     .balance = 6,
                     .grad_norm = 7,
                     .learning_rate = 8,
                     .tokens_per_second = 9,
                     .fma_share = 10,
                     .seconds = 11,
                     .load = {{3, {1}, 12, 13, 14, 15}},
                     .skipped = true};
  std::vector<double> values;
  for (const auto& [tag, value] : scalars_of(r)) values.push_back(value);
  EXPECT_THAT(values, ElementsAre(3, 4, 5, 6, 7, 8, 2, 9, 10, 11, 12, 12, 15, 13, 14));
}

TEST(EventRecords, TagsOfAValidation) {
  ValidationRecord r{1, 1, 2, 1, {}};
  EXPECT_THAT(scalars_of(r), ElementsAre(Pair("validation/nats_per_token", 2), Pair("validation/bits_per_byte", 1)));
  r.load = {{.layer = 1, .counts = {}, .max_vio = 0.5, .dead = 3}, {.layer = 2, .counts = {}, .max_vio = 0.25}};
  EXPECT_THAT(scalars_of(r), ElementsAre(Pair("validation/nats_per_token", 2), Pair("validation/bits_per_byte", 1),
                                         Pair("validation/max_vio/mean", 0.375), Pair("validation/max_vio/layer1", 0.5),
                                         Pair("validation/dead/layer1", 3), Pair("validation/max_vio/layer2", 0.25),
                                         Pair("validation/dead/layer2", 0)));
}

TEST(EventRecords, ASampleIsACodeBlockWhateverIsInIt) {
  EXPECT_EQ(markdown_of({1, 1, "# A", "\n\n<b>*\n"}), "    # A\n    \n    <b>*\n    ");
}

TEST_F(EventFiles, BeginWithVersionAndStartThenCarryWhatIsWritten) {
  EventFile(dir.path(), 0).write(7, {{"loss/main", 2.5}, {"lr", 1e-4}});
  ASSERT_EQ(files().size(), 1u);
  EXPECT_THAT(files()[0].filename().string(), ::testing::MatchesRegex("events\\.out\\.tfevents\\.[0-9]{10}\\.hadal"));
  const std::vector<Seen> all = events(files()[0]);
  ASSERT_EQ(all.size(), 3u);
  EXPECT_EQ(all[0].version, "brain.Event:2");
  EXPECT_GT(all[0].time, 1.6e9);
  EXPECT_EQ(all[1].session, 1u);
  EXPECT_EQ(all[1].step, 0);
  EXPECT_EQ(all[2].step, 7);
  EXPECT_THAT(all[2].scalars, ElementsAre(Pair("loss/main", 2.5f), Pair("lr", 1e-4f)));
}

// Readers drop points of START's step, too.
TEST_F(EventFiles, StartAtAResumeIsTheStepToCome) {
  EventFile(dir.path(), 0).write(5, {{"x", 1}});
  const EventFile resumed(dir.path(), 5);
  EXPECT_EQ(events(files().at(1)).at(1).step, 6);
  EXPECT_EQ(events(files().at(1)).at(1).session, 1u);
}

TEST_F(EventFiles, AResumeCutsLaterStepsOutOfOlderFiles) {
  {
    EventFile first(dir.path(), 0);
    for (Index n = 1; n <= 4; ++n) first.write(n, {{"x", 1}});
    first.write_text(4, "sample/0", "gone");
  }
  {
    EventFile second(dir.path(), 3);
    for (Index n = 4; n <= 9; ++n) second.write(n, {{"x", 2}});
  }
  EventFile(dir.path(), 6).write(7, {{"x", 3}});
  EXPECT_THAT(steps(), ElementsAre(1, 2, 3, 4, 5, 6, 7));
  EXPECT_EQ(files().size(), 3u);
}

TEST_F(EventFiles, AFileWithNothingLeftGoes) {
  EventFile(dir.path(), 0).write(1, {{"x", 1}});
  EventFile(dir.path(), 1).write(2, {{"x", 1}});
  EventFile(dir.path(), 1).write(2, {{"x", 2}});
  EXPECT_EQ(files().size(), 2u);
  EventFile(dir.path(), 0).write(1, {{"x", 2}});
  EXPECT_EQ(files().size(), 1u);
  EXPECT_THAT(steps(), ElementsAre(1));
}

TEST_F(EventFiles, TornAndDamagedEndsAreCutAway) {
  {
    EventFile first(dir.path(), 0);
    for (Index n = 1; n <= 4; ++n) first.write(n, {{"x", 1}});
  }
  const fs::path path = files().at(0);
  const auto whole = fs::file_size(path);
  fs::resize_file(path, whole - 3);
  EventFile(dir.path(), 4).write(5, {{"x", 1}});
  EXPECT_THAT(steps(), ElementsAre(1, 2, 3, 5));
  {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(fs::file_size(path)) - 6);
    file.put('\x7f');
  }
  const EventFile third(dir.path(), 5);
  EXPECT_THAT(steps(), ElementsAre(1, 2, 5));
}

TEST_F(EventFiles, AWholeFileIsResumedWithoutAWarning) {
  EventFile(dir.path(), 0).write(1, {{"x", 1}});
  ::testing::internal::CaptureStderr();
  const EventFile resumed(dir.path(), 1);
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
}

// Whatever length a damaged record claims, nothing of that size is made.
TEST_F(EventFiles, ALengthBeyondTheFileIsTheEnd) {
  const std::string huge("\0\0\0\0\0\0\0\x40", 8);
  std::string crc(4, '\0');
  const std::uint32_t masked = masked_crc32c(huge);
  std::memcpy(crc.data(), &masked, 4);
  std::ofstream(dir.path() / "events.out.tfevents.0000000001.x", std::ios::binary)
      << tf_record(scalar_event(1, 1, {{"x", 1}})) << huge << crc;
  const EventFile next(dir.path(), 3);
  EXPECT_THAT(steps(), ElementsAre(1));
}

TEST_F(EventFiles, AFileSortsBehindThoseOfTheSameSecondAndOfTheFuture) {
  std::ofstream(dir.path() / "events.out.tfevents.9999999990.other", std::ios::binary)
      << tf_record(scalar_event(1, 1, {{"x", 1}}));
  const EventFile first(dir.path(), 3);
  EXPECT_EQ(files().at(1).filename(), "events.out.tfevents.9999999991.hadal");
}

}  // namespace
}  // namespace event_file_test
}  // namespace hadal::train
