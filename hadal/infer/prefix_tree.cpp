#include "hadal/infer/prefix_tree.h"

#include <algorithm>

namespace hadal::infer {

using model::Form;
using model::kPageTokens;

namespace {

// How many of `ids`, which stand at `position`, the page's tokens are, computed as they have to be.
Index common(const std::vector<TokenId>& tokens, const std::vector<Form>& forms, std::span<const TokenId> ids,
             Index position, std::optional<Index> expanded) {
  const std::size_t most = std::min(tokens.size(), ids.size());
  std::size_t n = 0;
  while (n < most && tokens[n] == ids[n]) ++n;
  if (!expanded) return static_cast<Index>(n);
  for (std::size_t i = 0; i < n; ++i)
    if (forms[i] != (position + static_cast<Index>(i) < *expanded ? Form::kExpanded : Form::kAbsorbed))
      return static_cast<Index>(i);
  return static_cast<Index>(n);
}

}  // namespace

PrefixTree::Match PrefixTree::find(const std::string& salt, std::span<const TokenId> ids,
                                   std::optional<Index> expanded) {
  Match match;
  const auto root = roots_.find(salt);
  if (root == roots_.end()) return match;
  std::vector<Node*> path;
  for (Node* node = &root->second; node;) {
    Node* best = nullptr;
    Index most = 0;
    for (const auto& child : node->children) {
      const Index n = common(child->tokens, child->page.forms, ids.subspan(static_cast<std::size_t>(match.length)),
                             match.length, expanded);
      if (n > most || (n == most && best && child->used > best->used)) best = child.get(), most = n;
    }
    if (!best) break;
    match.pages.push_back(&best->page);
    match.length += most;
    path.push_back(best);
    node = most == kPageTokens ? best : nullptr;
  }
  // Those in front are used later than those behind them, so that they go later.
  for (auto node = path.rbegin(); node != path.rend(); ++node) use(**node, (*node)->cold);
  return match;
}

void PrefixTree::use(Node& node, bool cold) {
  const bool leaf = leaves_.erase(&node) > 0;
  node.used = ++clock_;
  node.cold = cold;
  if (leaf) leaves_.insert(&node);
}

void PrefixTree::add_leaf(Node& node) {
  node.used = ++clock_;
  leaves_.insert(&node);
}

// The child whose tokens `ids` begin with, or which begins with them.
PrefixTree::Node* PrefixTree::child_to_extend(Node& node, std::span<const TokenId> ids,
                                              std::span<const Form> forms) const {
  for (const auto& child : node.children) {
    const std::size_t n = std::min(child->tokens.size(), ids.size());
    if (std::equal(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(n), child->tokens.begin()) &&
        std::equal(forms.begin(), forms.begin() + static_cast<std::ptrdiff_t>(n), child->page.forms.begin()))
      return child.get();
  }
  return nullptr;
}

void PrefixTree::insert(const std::string& salt, std::span<const TokenId> ids, const model::SequenceState& state,
                        bool cold) {
  const auto length = static_cast<Index>(ids.size());
  std::vector<Node*> path;
  Node* node = &roots_[salt];
  if (named_ && !node->name) node->name = root_name(salt);
  for (Index begin = 0; begin < length; begin += kPageTokens) {
    const Index end = std::min(begin + kPageTokens, length);
    const auto tokens = ids.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin));
    const auto forms = std::span(state.main.forms()).subspan(static_cast<std::size_t>(begin), tokens.size());
    Node* child = child_to_extend(*node, tokens, forms);
    if (!child) {
      leaves_.erase(node);
      child = node->children.emplace_back(std::make_unique<Node>()).get();
      child->parent = node;
      child->index = begin / kPageTokens;
      child->cold = cold;
      add_leaf(*child);
      ++pages_;
    }
    if (child->tokens.size() < tokens.size()) {
      child->tokens.assign(tokens.begin(), tokens.end());
      child->page = state.share(begin / kPageTokens, length);
    } else if (model::SharedPage more; !child->page.mtp.empty() && child->tokens.size() == tokens.size()) {
      more = state.share(begin / kPageTokens, length);
      for (std::size_t depth = 0; depth < more.mtp.size(); ++depth)
        if (more.mtp[depth].length > child->page.mtp[depth].length) child->page.mtp[depth] = more.mtp[depth];
    }
    path.push_back(child);
    node = child;
  }
  for (auto it = path.rbegin(); it != path.rend(); ++it) use(**it, (*it)->cold && cold);
  if (!named_) return;
  for (Node* page : path) name(*page);
}

// Pages that others can only ask for under the name of their tokens: of a prompt from its beginning on.
void PrefixTree::name(Node& node) {
  if (node.name || !node.whole() || node.cold || !node.parent->name) return;
  const std::vector<Form>& forms = node.page.forms;
  if (std::any_of(forms.begin(), forms.end(), [](Form form) { return form != Form::kExpanded; })) return;
  node.name = page_name(*node.parent->name, node.tokens);
  node.unsaved = ++last_unsaved_;
  unsaved_.emplace(node.unsaved, &node);
}

std::optional<PrefixTree::Unsaved> PrefixTree::unsaved() const {
  if (unsaved_.empty()) return {};
  const Node& node = *unsaved_.begin()->second;
  return Unsaved{*node.name, &node.page, node.index};
}

void PrefixTree::saved() {
  unsaved_.begin()->second->unsaved = 0;
  unsaved_.erase(unsaved_.begin());
}

bool PrefixTree::evict() {
  for (Node* leaf : leaves_) {
    if (leaf->page.main.shared()) continue;
    Node* parent = leaf->parent;
    leaves_.erase(leaf);
    unsaved_.erase(leaf->unsaved);
    std::erase_if(parent->children, [&](const auto& child) { return child.get() == leaf; });
    --pages_;
    if (parent->parent) {
      if (parent->children.empty()) leaves_.insert(parent);
    } else if (parent->children.empty()) {
      std::erase_if(roots_, [&](const auto& root) { return &root.second == parent; });
    }
    return true;
  }
  return false;
}

Index PrefixTree::evictable_below(const Node& node) {
  Index all = 0;
  for (const auto& child : node.children) {
    const Index below = evictable_below(*child);
    const bool free = !child->page.main.shared() &&
                      (child->children.empty() || below > 0);  // whoever refers to a page refers to those before it
    all += below + free;
  }
  return all;
}

Index PrefixTree::evictable() const {
  Index all = 0;
  for (const auto& [salt, root] : roots_) all += evictable_below(root);
  return all;
}

void PrefixTree::clear() {
  leaves_.clear();
  unsaved_.clear();
  // Not by recursion: a long prompt is a long path.
  for (auto& [salt, root] : roots_) {
    std::vector<std::unique_ptr<Node>> open = std::move(root.children);
    while (!open.empty()) {
      std::unique_ptr<Node> node = std::move(open.back());
      open.pop_back();
      for (auto& child : node->children) open.push_back(std::move(child));
    }
  }
  roots_.clear();
  pages_ = 0;
}

}  // namespace hadal::infer
