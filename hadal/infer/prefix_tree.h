// What sequences have computed and others may go on from: a tree of cache pages, each behind the tokens of those before
// it. Pages are referred to, not copied; one of which only a part is common serves up to the last common token.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "hadal/config/config.h"
#include "hadal/infer/page_record.h"
#include "hadal/model/sequence_state.h"

namespace hadal::infer {

using config::TokenId;

class PrefixTree {
 public:
  // `named`: whole pages of prompts get names (page_record.h) and are listed for somebody to save them.
  explicit PrefixTree(bool named = false) : named_(named) {}
  ~PrefixTree() { clear(); }
  PrefixTree(const PrefixTree&) = delete;
  PrefixTree& operator=(const PrefixTree&) = delete;

  // Pages behind one another that hold the first `length` of the tokens asked for. Valid until the tree changes.
  struct Match {
    std::vector<const model::SharedPage*> pages;
    Index length = 0;
  };
  // How entries must have been computed to serve: the first `expanded` tokens in the expanded form, those behind them
  // in the absorbed one; nullopt: whatever form. Only what was inserted under the same salt is found.
  Match find(const std::string& salt, std::span<const TokenId> ids, std::optional<Index> expanded);

  // Keeps references to the pages of the first ids.size() tokens that the sequence holds, as far as they are not there
  // yet. `cold`: they are the first to go.
  void insert(const std::string& salt, std::span<const TokenId> ids, const model::SequenceState& state, bool cold);

  // Gives up the page used longest ago that nobody else refers to and nothing is behind. False if there is none.
  bool evict();
  // How many pages evict() would give back, one after the other.
  Index evictable() const;
  Index pages() const { return pages_; }
  void clear();

  // The page that has been there for the longest time and that saved() was not called for. Those that go before that
  // are not missed.
  struct Unsaved {
    PageName name;
    const model::SharedPage* page;
    Index index;  // of the prompt's pages
  };
  std::optional<Unsaved> unsaved() const;
  void saved();

 private:
  struct Node {
    Node* parent = nullptr;
    std::vector<TokenId> tokens = {};
    model::SharedPage page = {};
    std::vector<std::unique_ptr<Node>> children = {};
    bool cold = false;
    std::uint64_t used = 0;  // when; unique
    Index index = -1;        // of the pages; -1: a root
    std::optional<PageName> name = {};
    std::uint64_t unsaved = 0;  // its place among those; 0: none
    bool whole() const { return static_cast<Index>(tokens.size()) == model::kPageTokens; }
  };
  // In the order in which they go.
  struct Sooner {
    bool operator()(const Node* a, const Node* b) const { return a->cold != b->cold ? a->cold : a->used < b->used; }
  };

  void use(Node& node, bool cold);
  void add_leaf(Node& node);
  void name(Node& node);
  Node* child_to_extend(Node& node, std::span<const TokenId> ids, std::span<const model::Form> forms) const;
  static Index evictable_below(const Node& node);

  bool named_;
  std::map<std::uint64_t, Node*> unsaved_;
  std::uint64_t last_unsaved_ = 0;
  std::map<std::string, Node> roots_;  // of each salt; without tokens
  std::set<Node*, Sooner> leaves_;
  std::uint64_t clock_ = 0;
  Index pages_ = 0;
};

}  // namespace hadal::infer
