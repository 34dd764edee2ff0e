#include "hadal/data/shard.h"

#include <gmock/gmock.h>

#include <fstream>

#include "hadal/data/shard_writer.h"
#include "hadal/io/json.h"
#include "tests/support/said.h"
#include "tests/support/temporary_directory.h"

namespace hadal::data {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

constexpr io::Digest kTokenizer{1, 2, 3};
using DocumentList = std::vector<std::vector<TokenId>>;

void write_shard(const fs::path& path, std::uint32_t vocab_size, const DocumentList& documents) {
  ShardWriter writer(path, vocab_size, kTokenizer);
  for (const auto& document : documents) writer.add(document, 3 * document.size());
  writer.finish();
}

std::vector<TokenId> tokens_of(const DocumentList& documents) {
  std::vector<TokenId> out;
  for (const auto& d : documents) out.insert(out.end(), d.begin(), d.end());
  return out;
}

// Of lengths 1, 2, ... with ids all over the vocabulary.
DocumentList some_documents(std::size_t count, std::uint32_t vocab_size) {
  DocumentList out(count);
  std::uint32_t at = 0;
  for (std::size_t i = 0; i < count; ++i)
    for (std::size_t j = 0; j <= i; ++j) out[i].push_back(static_cast<TokenId>(at++ * 2654435761u % vocab_size));
  return out;
}

class Shards : public testing::Test {
 protected:
  std::string damaged(std::string bytes) {
    const fs::path path = folder_.path() / "damaged";
    std::ofstream(path, std::ios::binary) << bytes;
    return test::said([&] {
      const Shard shard(path);
      shard.verify();
    });
  }

  test::TemporaryDirectory folder_;
  const fs::path path_ = folder_.path() / "s.tokens";
};

TEST_F(Shards, GiveBackWhatWasWritten) {
  for (const std::uint32_t vocab_size : {2u, 65536u, 65537u, 129280u}) {
    const DocumentList documents = some_documents(400, vocab_size);  // 80200 tokens: several chunks
    const std::vector<TokenId> all = tokens_of(documents);
    write_shard(path_, vocab_size, documents);
    const Shard shard(path_);
    EXPECT_EQ(shard.header().token_bytes, vocab_size <= 65536 ? 2u : 4u);
    EXPECT_GT(shard.header().chunks(), 1u);
    EXPECT_EQ(shard.tokens(), all.size());
    EXPECT_EQ(shard.header().text_bytes, 3 * all.size());
    EXPECT_EQ(shard.header().tokenizer, kTokenizer);
    ASSERT_EQ(shard.documents(), documents.size());
    std::uint64_t at = 0;
    for (std::uint64_t i = 0; i < documents.size(); ++i) {
      EXPECT_EQ(shard.begin_of(i), at);
      EXPECT_EQ(shard.document_at(at), i);
      EXPECT_EQ(shard.document_at(at + documents[i].size() - 1), i);
      std::vector<TokenId> read(documents[i].size());
      shard.read(at, read);
      EXPECT_EQ(read, documents[i]);
      at += read.size();
    }
    EXPECT_EQ(shard.begin_of(documents.size()), at);
    std::vector<TokenId> read(all.size());
    shard.read(0, read);
    EXPECT_EQ(read, all);
    shard.verify();
    EXPECT_THAT(test::said([&] { shard.read(1, read); }), HasSubstr("tokens, 80200 from 1 on were asked for"));
  }
}

TEST_F(Shards, MayBeEmpty) {
  write_shard(path_, 10, {});
  const Shard shard(path_);
  shard.verify();
  EXPECT_EQ(shard.tokens() + shard.documents(), 0u);
}

TEST_F(Shards, ADamagedByteIsNoticedWhereverItIs) {
  write_shard(path_, 1000, some_documents(5, 1000));
  const std::string good = io::read_text_file(path_);
  EXPECT_EQ(damaged(good), "nothing");
  for (std::size_t i = 0; i < good.size(); ++i)
    for (const int bit : {0, 7}) {
      std::string bad = good;
      bad[i] = static_cast<char>(bad[i] ^ (1 << bit));
      const std::string what = damaged(bad);
      EXPECT_THAT(what, HasSubstr("damaged: ")) << i;  // the file's name
    }
}

TEST_F(Shards, SaysWhatIsDamaged) {
  write_shard(path_, 1000, some_documents(5, 1000));
  const std::string good = io::read_text_file(path_);
  const auto with = [&](std::size_t at) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ 1);
    return damaged(bad);
  };
  EXPECT_THAT(with(0), HasSubstr("is no shard of `hadal data build`"));
  EXPECT_THAT(with(8), HasSubstr("has version 0 of the format"));
  EXPECT_THAT(with(64), HasSubstr("header is damaged"));
  EXPECT_THAT(with(200), HasSubstr("header is damaged"));  // zeros
  EXPECT_THAT(with(kShardHeader), HasSubstr("bytes 256 to 288 are damaged"));
  EXPECT_THAT(with(kShardHeader + 31), HasSubstr("bytes 256 to 288 are damaged"));  // the last zero
  EXPECT_THAT(with(good.size() - 40), HasSubstr("index is damaged"));
  EXPECT_THAT(with(good.size() - 1), HasSubstr("index is damaged"));
}

TEST_F(Shards, CutOffOrContinuedIsNoticed) {
  write_shard(path_, 1000, some_documents(5, 1000));
  const std::string good = io::read_text_file(path_);
  for (std::size_t i = 0; i < good.size(); ++i)
    EXPECT_THAT(damaged(good.substr(0, i)), HasSubstr(i < 8 ? "is no shard" : "is cut off")) << i;
  EXPECT_THAT(damaged(good + '\0'), HasSubstr("1 bytes more"));
}

TEST_F(Shards, DamageBehindAGoodBeginningIsNoticedWhenItIsReached) {
  const DocumentList documents = some_documents(400, 1000);
  write_shard(path_, 1000, documents);
  std::string bad = io::read_text_file(path_);
  bad[kShardHeader + kShardChunk + 5] ^= 1;
  std::ofstream(path_, std::ios::binary) << bad;
  const Shard shard(path_);
  std::vector<TokenId> read(10);
  shard.read(0, read);
  EXPECT_THAT(test::said([&] { shard.read(kShardChunk / 2, read); }), HasSubstr("bytes 65792 to 131328 are damaged"));
}

TEST_F(Shards, WhatTheirChecksumsCannotTellIsCheckedToo) {
  // Whoever writes a shard can write right checksums of wrong things.
  ShardHeader header;
  header.vocab_size = 10;
  header.tokenizer = kTokenizer;
  header.documents = 1;
  header.tokens = 4;
  const auto size = header.index_begin() + header.index_bytes();
  EXPECT_EQ(parse_shard_header(shard_header_bytes(header), size).tokens, 4u);
  const auto said_of = [&](auto change) {
    ShardHeader h = header;
    change(h);
    return test::said([&] { parse_shard_header(shard_header_bytes(h), size); });
  };
  EXPECT_THAT(said_of([](ShardHeader& h) { h.token_bytes = 3; }), HasSubstr("contradicts itself"));
  EXPECT_THAT(said_of([](ShardHeader& h) { h.vocab_size = 0; }), HasSubstr("contradicts itself"));
  EXPECT_THAT(said_of([](ShardHeader& h) { h.vocab_size = 65537; }), HasSubstr("contradicts itself"));
  EXPECT_THAT(said_of([](ShardHeader& h) { h.vocab_size = 1u << 31; }), HasSubstr("contradicts itself"));
  EXPECT_THAT(said_of([](ShardHeader& h) { h.documents = 5; }), HasSubstr("contradicts itself"));
  EXPECT_THAT(said_of([](ShardHeader& h) { h.tokens = ~std::uint64_t{0}; }), HasSubstr("contradicts itself"));
  const auto index_of = [&](std::uint64_t first, std::uint64_t last, std::uint16_t id) {
    const std::uint16_t ids[] = {1, 2, 3, id};
    const auto sum = io::Sha256().bytes(std::as_bytes(std::span(ids))).finish();
    std::vector<std::byte> index(16);
    std::memcpy(index.data(), &first, 8);
    std::memcpy(index.data() + 8, &last, 8);
    const auto bytes = std::as_bytes(std::span(sum));
    index.insert(index.end(), bytes.begin(), bytes.end());
    ShardHeader h = header;
    h.index = io::Sha256().bytes(index).finish();
    return test::said([&] {
      check_shard_index(h, index);
      check_shard_chunk(h, index, 0, std::as_bytes(std::span(ids)));
    });
  };
  EXPECT_EQ(index_of(0, 4, 9), "nothing");
  EXPECT_THAT(index_of(1, 4, 9), HasSubstr("contradict each other"));
  EXPECT_THAT(index_of(0, 0, 9), HasSubstr("contradict each other"));
  EXPECT_THAT(index_of(0, 5, 9), HasSubstr("contradict each other"));
  EXPECT_EQ(index_of(0, 4, 10), "token 3 is 10, ids are below 10");
}

TEST_F(Shards, AreThereWholeOrNotAtAll) {
  {
    ShardWriter writer(path_, 10, kTokenizer);
    writer.add(std::vector<TokenId>{1}, 1);
    EXPECT_FALSE(fs::exists(path_));
    EXPECT_THAT(test::said([&] { writer.add(std::vector<TokenId>{10}, 1); }), HasSubstr("token 10, ids are below 10"));
  }
  EXPECT_TRUE(fs::is_empty(folder_.path()));
}

}  // namespace
}  // namespace hadal::data
