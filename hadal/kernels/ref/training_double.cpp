#include "hadal/kernels/ref/training_impl.h"

namespace hadal::kernels::ref {

const TrainingKernels<double> kTrainingDouble = Training<double>::table();

}  // namespace hadal::kernels::ref
