#include "hadal/train/event_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <chrono>
#include <cstring>
#include <fstream>

#include "hadal/core/error.h"
#include "hadal/core/log.h"
#include "hadal/train/expert_load.h"

namespace hadal::train {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrefix = "events.out.tfevents.";

// Fields of protobuf messages: a key (number, kind), then the value.
enum class WireKind { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

void append_varint(std::string& to, std::uint64_t value) {
  for (; value >= 0x80; value >>= 7) to += static_cast<char>(value | 0x80);
  to += static_cast<char>(value);
}

template <class T>
void append_fixed(std::string& to, T value) {
  for (std::size_t i = 0; i < sizeof(T); ++i) to += static_cast<char>(value >> (8 * i));
}

class ProtoMessage {
 public:
  ProtoMessage& number(int field, std::uint64_t value) {
    key(field, WireKind::kVarint);
    append_varint(bytes_, value);
    return *this;
  }
  ProtoMessage& real(int field, double value) {
    key(field, WireKind::kFixed64);
    append_fixed(bytes_, std::bit_cast<std::uint64_t>(value));
    return *this;
  }
  ProtoMessage& real(int field, float value) {
    key(field, WireKind::kFixed32);
    append_fixed(bytes_, std::bit_cast<std::uint32_t>(value));
    return *this;
  }
  ProtoMessage& bytes(int field, std::string_view value) {
    key(field, WireKind::kBytes);
    append_varint(bytes_, value.size());
    bytes_ += value;
    return *this;
  }
  ProtoMessage& message(int field, const ProtoMessage& value) { return bytes(field, value.bytes_); }
  std::string done() { return std::move(bytes_); }

 private:
  void key(int field, WireKind kind) {
    append_varint(bytes_, static_cast<std::uint64_t>(field) << 3 | static_cast<std::uint64_t>(kind));
  }
  std::string bytes_;
};

// Field numbers of tensorboard/compat/proto: event.proto, summary.proto, tensor.proto.
namespace proto {
constexpr int kWallTime = 1, kStep = 2, kFileVersion = 3, kSummary = 5, kSessionLog = 7;  // of Event
constexpr int kStatus = 1;                                                                // of SessionLog
constexpr std::uint64_t kStart = 1;
constexpr int kValue = 1;                                              // of Summary
constexpr int kTag = 1, kSimpleValue = 2, kTensor = 8, kMetadata = 9;  // of Summary.Value
constexpr int kPluginData = 1, kPluginName = 1, kDataClass = 4;        // of SummaryMetadata
constexpr std::uint64_t kTensorClass = 2;
constexpr int kType = 1, kShape = 2, kStringValue = 8;  // of TensorProto
constexpr std::uint64_t kStringType = 7;
}  // namespace proto

ProtoMessage event_at(double time, Index step) {
  ProtoMessage m;
  m.real(proto::kWallTime, time);
  if (step != 0) m.number(proto::kStep, static_cast<std::uint64_t>(step));
  return m;
}

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

std::uint64_t read_fixed(std::string_view from, std::size_t bytes) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < bytes; ++i) value |= std::uint64_t{static_cast<unsigned char>(from[i])} << (8 * i);
  return value;
}

std::optional<std::uint64_t> take_varint(std::string_view& from) {
  std::uint64_t value = 0;
  for (int shift = 0; shift < 64 && !from.empty(); shift += 7) {
    const auto byte = static_cast<unsigned char>(from.front());
    from.remove_prefix(1);
    value |= std::uint64_t{byte & 0x7Fu} << shift;
    if (byte < 0x80) return value;
  }
  return {};
}

bool skip_bytes(std::string_view& from, std::uint64_t bytes) {
  if (bytes > from.size()) return false;
  from.remove_prefix(static_cast<std::size_t>(bytes));
  return true;
}

// What decides about an event: its step, and whether it says anything of one.
struct EventOutline {
  Index step = 0;
  bool summary = false;
};

EventOutline outline(std::string_view message) {
  EventOutline out;
  while (!message.empty()) {
    const auto key = take_varint(message);
    if (!key) break;
    const auto field = static_cast<int>(*key >> 3);
    const auto kind = static_cast<WireKind>(*key & 7);
    out.summary = out.summary || field == proto::kSummary;
    if (kind == WireKind::kVarint) {
      const auto value = take_varint(message);
      if (!value) break;
      if (field == proto::kStep) out.step = static_cast<Index>(*value);
    } else if (kind == WireKind::kBytes) {
      const auto size = take_varint(message);
      if (!size || !skip_bytes(message, *size)) break;
    } else if (!skip_bytes(message, kind == WireKind::kFixed64 ? 8 : 4)) {
      break;
    }
  }
  return out;
}

// The next record of the file, or nothing at its end, or where it is torn or damaged.
std::optional<std::string> next_record(std::ifstream& file, std::uint64_t rest) {
  constexpr std::uint64_t kAround = 16;
  std::string head(12, '\0');
  if (!file.read(head.data(), 12)) return {};
  const std::uint64_t size = read_fixed(head, 8);
  if (masked_crc32c(std::string_view(head).substr(0, 8)) != read_fixed(std::string_view(head).substr(8), 4)) return {};
  if (rest < kAround || size > rest - kAround) return {};
  std::string message(static_cast<std::size_t>(size), '\0'), end(4, '\0');
  if (!file.read(message.data(), static_cast<std::streamsize>(size)) || !file.read(end.data(), 4)) return {};
  if (masked_crc32c(message) != read_fixed(end, 4)) return {};
  return message;
}

std::vector<fs::path> event_files(const fs::path& directory) {
  std::vector<fs::path> out;
  std::error_code status;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory, status))
    if (entry.path().filename().string().starts_with(kPrefix)) out.push_back(entry.path());
  std::sort(out.begin(), out.end());
  return out;
}

void cut_file(const fs::path& path, Index last_step) {
  std::error_code status;
  const fs::path temporary = path.parent_path() / "events.tmp";  // no name that a reader takes up
  fs::remove(temporary, status);
  AppendFile kept(temporary, AppendFile::Open::kNew);
  std::ifstream file(path, std::ios::binary);
  std::uint64_t rest = fs::file_size(path, status);
  bool any = false;
  while (const auto message = next_record(file, rest)) {
    rest -= message->size() + 16;
    const EventOutline event = outline(*message);
    if (event.summary && (event.step > last_step || last_step == 0)) continue;
    any = any || event.summary;
    kept.write(tf_record(*message));
  }
  if (rest > 0) log_warning("{}: the last {} bytes are torn or damaged and are cut away", path.string(), rest);
  if (any) return kept.replace(path);
  fs::remove(temporary, status);
  fs::remove(path, status);
}

// A name behind all others, whatever the clock says.
fs::path next_name(const fs::path& directory) {
  auto seconds = static_cast<std::uint64_t>(seconds_now());
  for (const fs::path& path : event_files(directory)) {
    const std::string name = path.filename().string();
    const std::uint64_t used = std::strtoull(name.c_str() + kPrefix.size(), nullptr, 10);
    seconds = std::max(seconds, used + 1);
  }
  return directory / fmt::format("{}{:010d}.hadal", kPrefix, seconds);
}

constexpr std::array<std::uint32_t, 256> crc_table() {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t i = 0; i < 256; ++i) {
    std::uint32_t c = i;
    for (int bit = 0; bit < 8; ++bit) c = c & 1 ? c >> 1 ^ 0x82F63B78u : c >> 1;
    table[i] = c;
  }
  return table;
}

}  // namespace

std::uint32_t crc32c(std::string_view bytes) {
  static constexpr std::array<std::uint32_t, 256> kTable = crc_table();
  std::uint32_t c = 0xFFFFFFFFu;
  for (const char byte : bytes) c = c >> 8 ^ kTable[(c ^ static_cast<unsigned char>(byte)) & 0xFF];
  return ~c;
}

std::uint32_t masked_crc32c(std::string_view bytes) {
  return std::rotr(crc32c(bytes), 15) + 0xA282EAD8u;
}

std::string tf_record(std::string_view message) {
  std::string out;
  out.reserve(message.size() + 16);
  append_fixed(out, static_cast<std::uint64_t>(message.size()));
  append_fixed(out, masked_crc32c(out));
  out += message;
  append_fixed(out, masked_crc32c(message));
  return out;
}

std::string version_event(double time) {
  return event_at(time, 0).bytes(proto::kFileVersion, "brain.Event:2").done();
}

std::string start_event(double time, Index step) {
  return event_at(time, step).message(proto::kSessionLog, ProtoMessage().number(proto::kStatus, proto::kStart)).done();
}

std::string scalar_event(double time, Index step, const Scalars& scalars) {
  ProtoMessage values;
  for (const auto& [tag, number] : scalars)
    values.message(proto::kValue,
                   ProtoMessage().bytes(proto::kTag, tag).real(proto::kSimpleValue, static_cast<float>(number)));
  return event_at(time, step).message(proto::kSummary, values).done();
}

std::string text_event(double time, Index step, std::string_view tag, std::string_view markdown) {
  ProtoMessage text, about, plugin;
  text.number(proto::kType, proto::kStringType).message(proto::kShape, {}).bytes(proto::kStringValue, markdown);
  about.message(proto::kPluginData, plugin.bytes(proto::kPluginName, "text"))
      .number(proto::kDataClass, proto::kTensorClass);
  ProtoMessage one;
  one.bytes(proto::kTag, tag).message(proto::kMetadata, about).message(proto::kTensor, text);
  return event_at(time, step).message(proto::kSummary, ProtoMessage().message(proto::kValue, one)).done();
}

Scalars scalars_of(const StepRecord& r) {
  Scalars out = {{"loss/total", r.loss}, {"loss/main", r.main}};
  for (std::size_t d = 0; d < r.mtp.size(); ++d) out.emplace_back(fmt::format("loss/mtp{}", d), r.mtp[d]);
  out.insert(out.end(), {{"loss/balance", r.balance},
                         {"grad_norm", r.grad_norm},
                         {"lr", r.learning_rate},
                         {"tokens", static_cast<double>(r.tokens)},
                         {"speed/tokens_per_second", r.tokens_per_second},
                         {"speed/fma_share", r.fma_share},
                         {"speed/seconds", r.seconds}});
  if (!r.load.empty()) out.emplace_back("load/max_vio/mean", mean_max_vio(r.load));
  for (const LayerLoad& l : r.load) {
    out.emplace_back(fmt::format("load/max_vio/layer{}", l.layer), l.max_vio);
    out.emplace_back(fmt::format("load/dead/layer{}", l.layer), static_cast<double>(l.dead));
    out.emplace_back(fmt::format("load/bias_low/layer{}", l.layer), l.bias_low);
    out.emplace_back(fmt::format("load/bias_high/layer{}", l.layer), l.bias_high);
  }
  return out;
}

Scalars scalars_of(const ValidationRecord& r) {
  Scalars out = {{"validation/nats_per_token", r.nats_per_token}, {"validation/bits_per_byte", r.bits_per_byte}};
  if (!r.load.empty()) out.emplace_back("validation/max_vio/mean", mean_max_vio(r.load));
  for (const LayerLoad& l : r.load) {
    out.emplace_back(fmt::format("validation/max_vio/layer{}", l.layer), l.max_vio);
    out.emplace_back(fmt::format("validation/dead/layer{}", l.layer), static_cast<double>(l.dead));
  }
  return out;
}

// Indented by four spaces it is a block of code: nothing in it is markup.
std::string markdown_of(const SampleRecord& r) {
  std::string out = "    ";
  for (const char c : r.prompt + r.text) {
    out += c;
    if (c == '\n') out += "    ";
  }
  return out;
}

EventFile::EventFile(const fs::path& directory, Index resume_step)
    : file_((cut_events(directory, resume_step), next_name(directory)), AppendFile::Open::kNew) {
  const double time = seconds_now();
  file_.write(tf_record(version_event(time)) + tf_record(start_event(time, resume_step == 0 ? 0 : resume_step + 1)));
}

void EventFile::write(Index step, const Scalars& scalars) {
  file_.write(tf_record(scalar_event(seconds_now(), step, scalars)));
}

void EventFile::write_text(Index step, std::string_view tag, std::string_view markdown) {
  file_.write(tf_record(text_event(seconds_now(), step, tag, markdown)));
}

void cut_events(const fs::path& directory, Index last_step) {
  for (const fs::path& path : event_files(directory)) cut_file(path, last_step);
}

}  // namespace hadal::train
