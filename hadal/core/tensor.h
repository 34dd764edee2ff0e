// Tensors of three kinds (as std::string, std::string_view and std::span are for text):
//   Tensor     owns its memory; move-only; contiguous; 64-byte aligned.
//   TensorRef  a copyable reference with dtype, shape and strides known at run time. What ops take and give.
//   View<T,N>  typed, of fixed rank, trivially copyable; only kernels see it. TensorRef::view is the only door down.
// Row-major; the last dimension is contiguous; outer strides are kept, so that a slice of columns is a reference.
// Nothing here copies element data unless its name says so.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>

#include "hadal/core/dtype.h"
#include "hadal/core/error.h"
#include "hadal/core/view.h"

namespace hadal {

// Up to 5 dimensions. Sizes are not negative; the empty shape is a scalar with one element.
class Shape {
 public:
  static constexpr int kMaxRank = 5;

  Shape() = default;
  Shape(std::initializer_list<Index> dims) : Shape(dims.begin(), dims.end()) {}
  template <class It>
  Shape(It begin, It end) {
    for (; begin != end; ++begin) push_back(static_cast<Index>(*begin));
  }

  void push_back(Index size) {
    HADAL_CHECK(rank_ < kMaxRank, "shape: at most {} dimensions are supported", kMaxRank);
    dims_[rank_++] = size;
  }
  int rank() const { return rank_; }
  Index operator[](int i) const { return dims_[i]; }
  Index& operator[](int i) { return dims_[i]; }
  const Index* begin() const { return dims_.data(); }
  const Index* end() const { return dims_.data() + rank_; }
  Index back() const { return dims_[rank_ - 1]; }
  Index num_elements() const {
    Index n = 1;
    for (Index d : *this) n *= d;
    return n;
  }
  std::string to_string() const;  // "[7168, 1536]"

  friend bool operator==(const Shape& a, const Shape& b) {
    if (a.rank_ != b.rank_) return false;
    for (int i = 0; i < a.rank_; ++i)
      if (a.dims_[i] != b.dims_[i]) return false;
    return true;
  }

 private:
  std::array<Index, kMaxRank> dims_{};
  int rank_ = 0;
};

class TensorRef {
 public:
  TensorRef() = default;
  TensorRef(void* data, DType dtype, Shape shape);

  explicit operator bool() const { return data_ != nullptr; }
  DType dtype() const { return dtype_; }
  const Shape& shape() const { return shape_; }
  int rank() const { return shape_.rank(); }
  Index size(int dim) const { return shape_[dim < 0 ? shape_.rank() + dim : dim]; }
  Index stride(int dim) const { return stride_[dim < 0 ? shape_.rank() + dim : dim]; }
  Index num_elements() const { return shape_.num_elements(); }
  Index num_bytes() const { return num_elements() * static_cast<Index>(dtype_bytes(dtype_)); }
  bool is_contiguous() const;
  void* raw() const { return data_; }

  // Elements [begin, end) of one dimension. No copy.
  TensorRef slice(int dim, Index begin, Index end) const;
  TensorRef rows(Index begin, Index end) const { return slice(0, begin, end); }
  TensorRef columns(Index begin, Index end) const { return slice(rank() - 1, begin, end); }
  // The i-th element of the first dimension, which disappears.
  TensorRef operator[](Index i) const;
  // Another shape with the same elements in the same order; needs a contiguous tensor.
  TensorRef reshape(Shape shape) const;
  // The last dimension [a*b] as two [a, b]; always possible without a copy.
  TensorRef split_last(Index a, Index b) const;

  template <class T, int N>
  View<T, N> view() const {
    HADAL_CHECK(dtype_ == DTypeOf<std::remove_const_t<T>>::value, "tensor: has dtype {}, {} was asked for",
                dtype_name(dtype_), dtype_name(DTypeOf<std::remove_const_t<T>>::value));
    HADAL_CHECK(rank() == N, "tensor: has {} dimensions, {} were asked for", rank(), N);
    View<T, N> v{static_cast<T*>(data_), {}, {}};
    for (int i = 0; i < N; ++i) v.shape[i] = shape_[i], v.stride[i] = stride_[i];
    return v;
  }
  template <class T>
  T* data() const {
    HADAL_CHECK(dtype_ == DTypeOf<std::remove_const_t<T>>::value, "tensor: has dtype {}, {} was asked for",
                dtype_name(dtype_), dtype_name(DTypeOf<std::remove_const_t<T>>::value));
    return static_cast<T*>(data_);
  }

 private:
  void* data_ = nullptr;
  DType dtype_ = DType::kF32;
  Shape shape_;
  std::array<Index, Shape::kMaxRank> stride_{};
};

class Tensor {
 public:
  Tensor() = default;
  Tensor(DType dtype, Shape shape);  // uninitialised
  static Tensor zeros(DType dtype, Shape shape);
  static Tensor copy_of(const TensorRef& source);  // same dtype, contiguous

  Tensor(Tensor&&) noexcept = default;
  Tensor& operator=(Tensor&&) noexcept = default;

  operator const TensorRef&() const { return ref_; }
  const TensorRef& ref() const { return ref_; }
  const TensorRef* operator->() const { return &ref_; }
  explicit operator bool() const { return static_cast<bool>(ref_); }
  const Shape& shape() const { return ref_.shape(); }
  DType dtype() const { return ref_.dtype(); }
  Index size(int dim) const { return ref_.size(dim); }

 private:
  struct Free {
    void operator()(void* p) const;
  };
  std::unique_ptr<void, Free> memory_;
  TensorRef ref_;
};

}  // namespace hadal
