// What llguidance/src/lib.rs exports. Errors are sentences in `error`; a null pointer or false says that there is one.
#pragma once

#include <cstddef>
#include <cstdint>

extern "C" {

struct hadal_llg_vocabulary_t;
struct hadal_llg_grammar_t;

// bytes: those of all tokens, one after another; control[i]: token i is no text. At least one end.
hadal_llg_vocabulary_t* hadal_llg_vocabulary(const std::uint8_t* bytes, const std::uint32_t* lengths,
                                             const std::uint8_t* control, std::size_t count, const std::uint32_t* ends,
                                             std::size_t end_count, char* error, std::size_t error_size);
void hadal_llg_free_vocabulary(hadal_llg_vocabulary_t* vocabulary);

// kind: "json_schema", "regex" or "lark". Thread-safe.
hadal_llg_grammar_t* hadal_llg_compile(const hadal_llg_vocabulary_t* vocabulary, const char* kind,
                                       std::size_t kind_size, const char* text, std::size_t text_size,
                                       std::uint64_t milliseconds, char* error, std::size_t error_size);
void hadal_llg_free(hadal_llg_grammar_t* grammar);
hadal_llg_grammar_t* hadal_llg_clone(const hadal_llg_grammar_t* grammar, char* error, std::size_t error_size);

bool hadal_llg_mask(hadal_llg_grammar_t* grammar, std::uint32_t* allowed, std::size_t words, char* error,
                    std::size_t error_size);
bool hadal_llg_accept(hadal_llg_grammar_t* grammar, std::uint32_t token, char* error, std::size_t error_size);
bool hadal_llg_stopped(const hadal_llg_grammar_t* grammar);
}
