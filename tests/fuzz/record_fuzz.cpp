// Files of cache pages of any bytes: a record that is what was written, or an error; a page, or an error.
#include <cstring>

#include "hadal/core/error.h"
#include "hadal/infer/page_record.h"
#include "hadal/io/record_files.h"

namespace {

hadal::config::Config tiny() {
  hadal::config::Config c;
  c.kv_lora_rank = 2;
  c.qk_rope_head_dim = 2;
  c.num_hidden_layers = 1;
  return c;
}

void page_of(std::span<const std::byte> record, hadal::Index index) {
  hadal::model::CachePools pools(tiny(), 1, hadal::DType::kBF16, 4);
  try {
    auto page = hadal::infer::from_record(pools, record, index, nullptr);
    if (!page) __builtin_trap();
    hadal::model::SequenceState state(pools, 1024);
    const hadal::model::SharedPage* const pages[] = {&*page};
    if (index == 0) state.adopt(pages, 127, 128);
    if (index == 0 && (state.main.length() != 127 || state.mtp[0].length() > 127)) __builtin_trap();
  } catch (const hadal::Error&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const hadal::io::Digest owner{1}, name{2};
  const auto bytes = std::as_bytes(std::span(data, size));
  try {
    const auto record = hadal::io::parse_record(bytes, owner, name);
    const std::vector<std::byte> header = hadal::io::record_header(owner, name, record);
    if (std::memcmp(header.data(), data, header.size()) != 0) __builtin_trap();
  } catch (const hadal::Error&) {
  }
  if (size == 0) return 0;
  page_of(bytes.subspan(1), data[0] % 3);
  // Of the right size, with numbers of any kind.
  std::vector<std::byte> whole(1024 + 8 + 2 * 1024);
  for (std::size_t i = 0; i < whole.size(); ++i) whole[i] = bytes[i % size];
  std::memcpy(whole.data() + 1024, data, std::min<std::size_t>(size, 8));
  page_of(whole, data[0] % 3);
  return 0;
}
