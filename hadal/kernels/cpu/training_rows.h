// Row by row, what training computes in float32 beside products. AVX2 on every instruction set but ref.
#pragma once

#include "hadal/kernels/training.h"

namespace hadal::kernels::avx2 {

void rms_norm_backward(const float* dy, const float* x, const float* weight, float inverse_rms, float* dx, Index n);
// Columns [0, n) of `rows` rows: d_weight += sum of dy * x * inverse_rms.
void add_rms_norm_weight(const float* dy, Index dy_stride, const float* x, Index x_stride, const float* inverse_rms,
                         Index rows, float* d_weight, Index n);
// See SwigluGradient; returns inner . d_inner.
float swiglu_backward(const float* gate, const float* up, const float* d_inner, float weight, float* d_gate,
                      float* d_up, float* weighted_inner, Index n);
// row = factor * (softmax(row) - onehot(target)); returns log-sum-exp - row[target].
double cross_entropy(float* row, Index n, Index target, float factor);
void add(const float* x, float* y, Index n);  // y += x
void scale(float factor, float* y, Index n);
// Of a row of scores [n], of which the first `visible` count: p = exp(score * scale - lse), ds = scale * p * (dp -
// along), zeros behind; p takes the place of the scores and ds that of dp.
void softmax_backward(float* scores, float* dp, Index n, Index visible, float scale, float lse, float along);
// s = sigmoid(logits); returns its sum.
float sigmoid(const float* logits, float* s, Index n);
// The k largest of n values, the first of equals first; `left` is scratch of n floats.
void largest(const float* values, float* left, Index n, Index k, std::int32_t* which);
// Of a sigmoid gate: d_logits = (ds + balance * (load - share) / sum) * s * (1 - s).
void gate_backward(const float* s, const float* ds, const float* load, float balance, float share, float* d_logits,
                   Index n);
float dot(const float* a, const float* b, Index n);
float largest(const float* x, Index n);  // n > 0

}  // namespace hadal::kernels::avx2
