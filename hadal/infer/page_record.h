// Cache pages as bytes, to be kept in files: whole pages of prompts, in the expanded form, named by the tokens up to
// their end.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "hadal/config/config.h"
#include "hadal/io/digest.h"
#include "hadal/model/sequence_state.h"

namespace hadal::infer {

using PageName = io::Digest;

// Of prompts under one salt. A page's name depends on the salt and on all tokens before its end.
PageName root_name(std::string_view salt);
PageName page_name(const PageName& before, std::span<const config::TokenId> tokens);

// What decides how the bytes of a page are to be understood, as text.
std::string page_layout(const model::CachePools& pools);

// Page `index` of a prompt, whole: the main model's entries [layers, 128, entry], then of each MTP depth how far its
// cache reaches (i64, tokens), its page before and this one (zeros where it has nothing).
std::vector<std::byte> to_record(const model::CachePools& pools, const model::SharedPage& page, Index index);

// The reverse, into pages of the pools. `before`: what this function gave for the page before, which nobody else has
// yet; nullptr: somebody has it, and MTP's entries of it are stored once more. nullopt if there are not enough pages;
// throws Error if the bytes are no record of such a page.
std::optional<model::SharedPage> from_record(model::CachePools& pools, std::span<const std::byte> record, Index index,
                                             const model::SharedPage* before);

}  // namespace hadal::infer
