#include "hadal/core/tensor.h"

#include <cstring>

namespace hadal {
namespace {

void copy_elements(const ConstTensorRef& from, char* to) {
  const auto bytes = static_cast<Index>(dtype_bytes(from.dtype()));
  if (from.is_contiguous()) {
    if (from.num_bytes() > 0) std::memcpy(to, from.raw(), static_cast<std::size_t>(from.num_bytes()));
    return;
  }
  if (from.num_elements() == 0) return;
  const Index step = from[0].num_elements() * bytes;
  for (Index i = 0; i < from.size(0); ++i) copy_elements(from[i], to + i * step);
}

}  // namespace

std::string Shape::to_string() const {
  std::string text = "[";
  for (int i = 0; i < rank_; ++i) text += (i ? ", " : "") + std::to_string(dims_[i]);
  return text + "]";
}

ConstTensorRef::ConstTensorRef(const void* data, DType dtype, Shape shape, Device device)
    : data_(const_cast<void*>(data)), dtype_(dtype), device_(device), shape_(shape) {
  Index step = 1;
  for (int i = shape_.rank() - 1; i >= 0; --i) {
    stride_[i] = step;
    step *= shape_[i];
  }
}

bool ConstTensorRef::is_contiguous() const {
  Index step = 1;
  for (int i = rank() - 1; i >= 0; --i) {
    if (shape_[i] != 1 && stride_[i] != step) return false;
    step *= shape_[i];
  }
  return true;
}

ConstTensorRef ConstTensorRef::slice(int dim, Index begin, Index end) const {
  HADAL_CHECK(dim >= 0 && dim < rank() && begin >= 0 && begin <= end && end <= shape_[dim],
              "tensor: slice [{}, {}) of dimension {} does not fit shape {}", begin, end, dim, shape_.to_string());
  ConstTensorRef out = *this;
  out.data_ = static_cast<char*>(data_) + begin * stride_[dim] * static_cast<Index>(dtype_bytes(dtype_));
  out.shape_[dim] = end - begin;
  return out;
}

ConstTensorRef ConstTensorRef::operator[](Index i) const {
  const ConstTensorRef one = slice(0, i, i + 1);
  ConstTensorRef out = one;
  out.shape_ = Shape(shape_.begin() + 1, shape_.end());
  for (int d = 1; d < rank(); ++d) out.stride_[d - 1] = stride_[d];
  return out;
}

ConstTensorRef ConstTensorRef::reshape(Shape shape) const {
  HADAL_CHECK(is_contiguous() && shape.num_elements() == num_elements(), "tensor: cannot reshape {} to {}",
              shape_.to_string(), shape.to_string());
  return ConstTensorRef(data_, dtype_, shape, device_);
}

ConstTensorRef ConstTensorRef::split_last(Index a, Index b) const {
  HADAL_CHECK(rank() > 0 && a * b == shape_.back(), "tensor: cannot split the last dimension of {} into {} x {}",
              shape_.to_string(), a, b);
  ConstTensorRef out = *this;
  out.shape_[rank() - 1] = a;
  out.shape_.push_back(b);
  out.stride_[rank() - 1] = b;
  out.stride_[rank()] = 1;
  return out;
}

Tensor::Tensor(DType dtype, Shape shape, DeviceMemory& memory) {
  const std::size_t bytes = static_cast<std::size_t>(shape.num_elements()) * dtype_bytes(dtype);
  memory_ = {memory.allocate(bytes), Free{&memory}};
  ref_ = TensorRef(memory_.get(), dtype, shape, memory.device());
}

Tensor Tensor::zeros(DType dtype, Shape shape) {
  Tensor t(dtype, shape);
  std::memset(t.ref_.raw(), 0, static_cast<std::size_t>(t.ref_.num_bytes()));
  return t;
}

Tensor Tensor::copy_of(const ConstTensorRef& source) {
  Tensor t(source.dtype(), source.shape());
  copy_elements(source, static_cast<char*>(t.ref_.raw()));
  return t;
}

}  // namespace hadal
