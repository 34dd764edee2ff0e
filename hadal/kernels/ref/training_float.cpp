#include "hadal/kernels/ref/training_impl.h"

namespace hadal::kernels::ref {

const TrainingKernels<float> kTrainingFloat = Training<float>::table();

}  // namespace hadal::kernels::ref
