// What a machine can do at most, in loops that do nothing else: the yardsticks beside which `hadal bench` sets every
// speed. Each loop runs on the calling thread; `sink` receives a value that depends on all of the work.
#pragma once

#include <cstdint>

namespace hadal::kernels {

namespace ref {
// Loads every byte of [data, data + bytes) once and combines them.
void read_loop(const void* data, std::int64_t bytes, std::uint64_t* sink);
// `rounds` of independent float32 multiply-adds in registers; returns their floating-point operations, two each.
double fma_loop(std::int64_t rounds, float* sink);
}  // namespace ref

namespace avx2 {
void read_loop(const void* data, std::int64_t bytes, std::uint64_t* sink);
double fma_loop(std::int64_t rounds, float* sink);
}  // namespace avx2

namespace avx512 {
void read_loop(const void* data, std::int64_t bytes, std::uint64_t* sink);
double fma_loop(std::int64_t rounds, float* sink);
}  // namespace avx512

namespace avx512bf16 {
// Products of BF16 pairs summed in float32 (vdpbf16ps), and of 8-bit integers summed in 32 bits (vpdpbusd).
double bf16_dot_loop(std::int64_t rounds, float* sink);
double int8_dot_loop(std::int64_t rounds, float* sink);
}  // namespace avx512bf16

}  // namespace hadal::kernels
