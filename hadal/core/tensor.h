// Tensors of four kinds (as std::string, std::string_view and std::span are for text):
//   Tensor          owns its memory; move-only; contiguous; 64-byte aligned.
//   ConstTensorRef  a copyable reference with dtype, shape and strides known at run time, to read. What ops take.
//   TensorRef       the same, to write; it is a ConstTensorRef. What ops give.
//   View<T,N>       typed, of fixed rank, trivially copyable; only kernels see it.
// Each knows the device it is on. raw, data and view are for the host; raw_on, data_on and view_on give pointers to
// whoever computes on, or copies from, the device that is named. All throw Error for a tensor of another device.
// Row-major; the last dimension is contiguous; outer strides are kept, so that a slice of columns is a reference.
// Nothing here copies element data unless its name says so.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>

#include "hadal/core/device.h"
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

// Elements to read.
class ConstTensorRef {
 public:
  ConstTensorRef() = default;
  ConstTensorRef(const void* data, DType dtype, Shape shape, Device device = {});

  explicit operator bool() const { return data_ != nullptr; }
  DType dtype() const { return dtype_; }
  Device device() const { return device_; }
  const Shape& shape() const { return shape_; }
  int rank() const { return shape_.rank(); }
  Index size(int dim) const { return shape_[dim < 0 ? shape_.rank() + dim : dim]; }
  Index stride(int dim) const { return stride_[dim < 0 ? shape_.rank() + dim : dim]; }
  Index num_elements() const { return shape_.num_elements(); }
  Index num_bytes() const { return num_elements() * static_cast<Index>(dtype_bytes(dtype_)); }
  bool is_contiguous() const;

  // Elements [begin, end) of one dimension. No copy.
  ConstTensorRef slice(int dim, Index begin, Index end) const;
  ConstTensorRef rows(Index begin, Index end) const { return slice(0, begin, end); }
  ConstTensorRef columns(Index begin, Index end) const { return slice(rank() - 1, begin, end); }
  // The i-th element of the first dimension, which disappears.
  ConstTensorRef operator[](Index i) const;
  // Another shape with the same elements in the same order; needs a contiguous tensor.
  ConstTensorRef reshape(Shape shape) const;
  // The last dimension [a*b] as two [a, b]; always possible without a copy.
  ConstTensorRef split_last(Index a, Index b) const;

  // Only to tell tensors apart.
  const void* address() const { return data_; }

  const void* raw() const { return pointer({}); }
  template <class T>
  const T* data() const {
    return data_on<T>({});
  }
  template <class T, int N>
  View<const T, N> view() const {
    return view_on<T, N>({});
  }
  const void* raw_on(Device device) const { return pointer(device); }
  template <class T>
  const T* data_on(Device device) const {
    return typed<const T>(device);
  }
  template <class T, int N>
  View<const T, N> view_on(Device device) const {
    return typed_view<const T, N>(device);
  }

 protected:
  void* pointer(Device device) const {
    HADAL_CHECK(device == device_, "tensor: {} is on {}, {} cannot reach its elements; copy it first",
                shape_.to_string(), device_name(device_), device_name(device));
    return data_;
  }
  template <class T>
  T* typed(Device device) const {
    constexpr DType kWanted = DTypeOf<std::remove_const_t<T>>::value;
    HADAL_CHECK(dtype_ == kWanted, "tensor: has dtype {}, {} was asked for", dtype_name(dtype_), dtype_name(kWanted));
    return static_cast<T*>(pointer(device));
  }
  template <class T, int N>
  View<T, N> typed_view(Device device) const {
    HADAL_CHECK(rank() == N, "tensor: has {} dimensions, {} were asked for", rank(), N);
    View<T, N> v{typed<T>(device), {}, {}};
    for (int i = 0; i < N; ++i) v.shape[i] = shape_[i], v.stride[i] = stride_[i];
    return v;
  }

  void* data_ = nullptr;
  DType dtype_ = DType::kF32;
  Device device_;
  Shape shape_;
  std::array<Index, Shape::kMaxRank> stride_{};
};

// Elements to read and write.
class TensorRef : public ConstTensorRef {
 public:
  TensorRef() = default;
  TensorRef(void* data, DType dtype, Shape shape, Device device = {}) : ConstTensorRef(data, dtype, shape, device) {}

  TensorRef slice(int dim, Index begin, Index end) const { return writable(ConstTensorRef::slice(dim, begin, end)); }
  TensorRef rows(Index begin, Index end) const { return slice(0, begin, end); }
  TensorRef columns(Index begin, Index end) const { return slice(rank() - 1, begin, end); }
  TensorRef operator[](Index i) const { return writable(ConstTensorRef::operator[](i)); }
  TensorRef reshape(Shape shape) const { return writable(ConstTensorRef::reshape(shape)); }
  TensorRef split_last(Index a, Index b) const { return writable(ConstTensorRef::split_last(a, b)); }

  void* raw() const { return pointer({}); }
  template <class T>
  T* data() const {
    return data_on<T>({});
  }
  template <class T, int N>
  View<T, N> view() const {
    return view_on<T, N>({});
  }
  void* raw_on(Device device) const { return pointer(device); }
  template <class T>
  T* data_on(Device device) const {
    return typed<T>(device);
  }
  template <class T, int N>
  View<T, N> view_on(Device device) const {
    return typed_view<T, N>(device);
  }

 private:
  explicit TensorRef(const ConstTensorRef& part) : ConstTensorRef(part) {}
  static TensorRef writable(const ConstTensorRef& part) { return TensorRef(part); }
};

class Tensor {
 public:
  Tensor() = default;
  // Uninitialised; throws OutOfMemory. `memory` must outlive the tensor.
  Tensor(DType dtype, Shape shape, DeviceMemory& memory = host_memory());
  static Tensor zeros(DType dtype, Shape shape);
  static Tensor copy_of(const ConstTensorRef& source);  // of the host's; same dtype, contiguous

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
    DeviceMemory* memory;
    void operator()(void* p) const { memory->free(p); }
  };
  std::unique_ptr<void, Free> memory_;
  TensorRef ref_;
};

}  // namespace hadal
