#include "hadal/infer/page_record.h"

#include <algorithm>
#include <cstring>

namespace hadal::infer {

using model::Form;
using model::kPageTokens;
using model::PagePool;
using model::PageRef;
using model::SharedPage;

namespace {

std::size_t record_bytes(const model::CachePools& pools) {
  const std::uint64_t depth = sizeof(std::int64_t) + 2 * pools.mtp->page_bytes();
  return static_cast<std::size_t>(pools.main->page_bytes() + static_cast<std::uint64_t>(pools.mtp_depths) * depth);
}

// A record is written and read from its beginning to its end.
template <class Byte>
class Cursor {
 public:
  explicit Cursor(std::span<Byte> bytes) : bytes_(bytes) {}
  std::span<Byte> next(std::size_t size) {
    const std::span<Byte> part = bytes_.first(size);
    bytes_ = bytes_.subspan(size);
    return part;
  }

 private:
  std::span<Byte> bytes_;
};

PageRef take(const std::shared_ptr<PagePool>& pool) {
  const PagePool::PageId id = pool->take();
  PageRef page(pool, id);
  pool->release(id);  // take()'s own reference
  return page;
}

// How many of a page's tokens MTP's cache of `length` tokens has.
Index tokens_in(Index length, Index page) {
  if (page < 0) return 0;
  return std::clamp<Index>(length - page * kPageTokens, 0, kPageTokens);
}

}  // namespace

PageName root_name(std::string_view salt) {
  return io::Sha256().text("prompt").text(salt).finish();
}

PageName page_name(const PageName& before, std::span<const config::TokenId> tokens) {
  return io::Sha256().digest(before).bytes(std::as_bytes(tokens)).finish();
}

std::string page_layout(const model::CachePools& pools) {
  return fmt::format("{} layers, {} bytes of {}, {} of MTP", pools.main->layers(), pools.main->page_bytes(),
                     dtype_name(pools.main->dtype()), pools.mtp_depths);
}

std::vector<std::byte> to_record(const model::CachePools& pools, const SharedPage& page, Index index) {
  HADAL_CHECK(page.count() == kPageTokens, "page record: {} tokens are no whole page", page.count());
  std::vector<std::byte> record(record_bytes(pools));
  Cursor<std::byte> at(record);
  const auto main_bytes = static_cast<std::size_t>(pools.main->page_bytes());
  const auto mtp_bytes = static_cast<std::size_t>(pools.mtp->page_bytes());
  pools.main->read(page.main.id(), kPageTokens, at.next(main_bytes));
  for (const SharedPage::Depth& depth : page.mtp) {
    const std::int64_t length = depth.length;
    std::memcpy(at.next(sizeof(length)).data(), &length, sizeof(length));
    const std::span<std::byte> before = at.next(mtp_bytes), here = at.next(mtp_bytes);
    if (depth.before) pools.mtp->read(depth.before.id(), tokens_in(length, index - 1), before);
    if (depth.here) pools.mtp->read(depth.here.id(), tokens_in(length, index), here);
  }
  return record;
}

std::optional<SharedPage> from_record(model::CachePools& pools, std::span<const std::byte> record, Index index,
                                      const SharedPage* before) {
  HADAL_CHECK(record.size() == record_bytes(pools), "page record: {} bytes instead of {}", record.size(),
              record_bytes(pools));
  if (pools.main->available() < 1 || (pools.mtp_depths > 0 && pools.mtp->available() < 2 * pools.mtp_depths)) return {};
  Cursor<const std::byte> at(record);
  const auto mtp_bytes = static_cast<std::size_t>(pools.mtp->page_bytes());
  SharedPage page{.main = take(pools.main),
                  .forms = std::vector<Form>(static_cast<std::size_t>(kPageTokens), Form::kExpanded),
                  .mtp = {}};
  pools.main->write(page.main.id(), at.next(static_cast<std::size_t>(pools.main->page_bytes())));
  for (Index d = 0; d < pools.mtp_depths; ++d) {
    std::int64_t length = 0;
    std::memcpy(&length, at.next(sizeof(length)).data(), sizeof(length));
    HADAL_CHECK(length >= 0 && length < (index + 1) * kPageTokens - d, "page record: MTP reaches {} tokens", length);
    const std::span<const std::byte> bytes_before = at.next(mtp_bytes), bytes_here = at.next(mtp_bytes);
    SharedPage::Depth& depth = page.mtp.emplace_back();
    depth.length = length;
    if (tokens_in(length, index - 1) > 0) {
      const SharedPage::Depth* known = before ? &before->mtp[static_cast<std::size_t>(d)] : nullptr;
      depth.before = known && known->here ? known->here : take(pools.mtp);
      pools.mtp->write(depth.before.id(), bytes_before);
    }
    if (tokens_in(length, index) > 0) {
      depth.here = take(pools.mtp);
      pools.mtp->write(depth.here.id(), bytes_here);
    }
  }
  return page;
}

}  // namespace hadal::infer
