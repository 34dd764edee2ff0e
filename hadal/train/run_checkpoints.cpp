#include "hadal/train/run_checkpoints.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstring>

#include "hadal/core/error.h"
#include "hadal/io/checkpoint_identity.h"
#include "hadal/io/safetensors.h"

namespace hadal::train {
namespace {

namespace fs = std::filesystem;
using io::Json;

constexpr const char* kManifest = "manifest.json";
constexpr const char* kState = "trainer.json";
constexpr const char* kUnfinished = ".partial";

// A new name in it survives a loss of power from now on.
void sync_directory(const fs::path& directory) {
  const int fd = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  ::fsync(fd);
  ::close(fd);
}

// N of "step-N"; none for another name.
std::optional<Index> step_of(const fs::path& path) {
  const std::string name = path.filename().string();
  Index step = 0;
  if (!name.starts_with("step-")) return std::nullopt;
  const auto [end, error] = std::from_chars(name.data() + 5, name.data() + name.size(), step);
  if (error != std::errc() || end != name.data() + name.size()) return std::nullopt;
  return step;
}

// Newest first.
std::vector<Index> steps_in(const fs::path& directory) {
  std::vector<Index> steps;
  std::error_code status;
  for (const auto& entry : fs::directory_iterator(directory, status))
    if (const auto step = step_of(entry.path())) steps.push_back(*step);
  std::sort(steps.rbegin(), steps.rend());
  return steps;
}

void write_tensors(const fs::path& path, const std::vector<NamedTensor>& tensors) {
  std::vector<io::SafetensorsWriter::Entry> entries;
  for (const NamedTensor& t : tensors) entries.push_back({t.name, t.tensor.dtype(), t.tensor.shape()});
  io::SafetensorsWriter writer(path, entries, {{"format", "pt"}});
  for (const NamedTensor& t : tensors) writer.write(t.tensor);
  writer.finish();
}

Json manifest_of(const fs::path& directory, Index step) {
  Json files = Json::object();
  std::vector<fs::path> paths;
  for (const auto& entry : fs::directory_iterator(directory)) paths.push_back(entry.path());
  std::sort(paths.begin(), paths.end());
  for (const fs::path& path : paths)
    files[path.filename().string()] = {{"bytes", fs::file_size(path)},
                                       {"sha256", io::to_hex(io::file_digest(path))}};
  return {{"version", 1}, {"step", step}, {"files", files}};
}

// Throws Error that says what is wrong with it.
void check_manifest(const fs::path& directory) {
  const Json manifest = io::read_json_file(directory / kManifest);
  const Json files = manifest.is_object() ? manifest.value("files", Json()) : Json();
  HADAL_CHECK(files.is_object() && !files.empty(), "{} lists no files", (directory / kManifest).string());
  for (const auto& [name, expected] : files.items()) {
    const fs::path path = directory / name;
    std::error_code status;
    HADAL_CHECK(fs::exists(path, status), "{} is missing", path.string());
    const std::string digest = io::to_hex(io::file_digest(path));
    HADAL_CHECK(expected.is_object() && expected.value("sha256", "") == digest,
                "{} does not have the bytes that {} says", path.string(), kManifest);
  }
  for (const char* name : {kState, "model.safetensors", "config.json"})
    HADAL_CHECK(files.contains(name), "{} does not list {}", (directory / kManifest).string(), name);
}

SavedRun read_saved(const fs::path& directory) {
  const fs::path path = directory / kState;
  const Json json = io::read_json_file(path);
  HADAL_CHECK(json.is_object() && json.contains("state") && json.contains("config"),
              "{} is not the state of a training run", path.string());
  return {directory, parse_run_state(json["state"], path.string()), json["config"],
          io::read_json_file(directory / "config.json")};
}

void remove_quietly(const fs::path& path) {
  std::error_code status;
  fs::remove_all(path, status);
}

}  // namespace

RunCheckpoints::RunCheckpoints(fs::path run_directory, const Options& options)
    : directory_(std::move(run_directory) / "checkpoints"), options_(options) {
  std::error_code status;
  fs::create_directories(directory_, status);
  HADAL_CHECK(!status, "{}: cannot be made: {}", directory_.string(), status.message());
  for (const auto& entry : fs::directory_iterator(directory_))
    if (entry.path().filename().string().ends_with(kUnfinished)) remove_quietly(entry.path());
}

RunCheckpoints::~RunCheckpoints() {
  if (writer_.joinable()) writer_.join();
}

fs::path RunCheckpoints::path_of(Index step) const { return directory_ / fmt::format("step-{}", step); }

std::uint64_t RunCheckpoints::copy_bytes() const {
  std::uint64_t sum = 0;
  for (const Tensor& t : copy_.owned) sum += static_cast<std::uint64_t>(t->num_bytes());
  return sum;
}

bool RunCheckpoints::any() const { return !steps_in(directory_).empty(); }

std::optional<SavedRun> RunCheckpoints::newest(const std::function<void(const std::string&)>& damaged) const {
  for (const Index step : steps_in(directory_)) {
    try {
      check_manifest(path_of(step));
      return read_saved(path_of(step));
    } catch (const Error& e) {
      damaged(fmt::format("{}: is damaged and not used: {}", path_of(step).string(), e.what()));
    }
  }
  return std::nullopt;
}

void RunCheckpoints::read(const fs::path& checkpoint, const CheckpointTensors& all) {
  for (const auto& [name, tensors] : all) {
    const io::SafetensorsFile file(checkpoint / name);
    for (const NamedTensor& to : tensors) {
      const io::TensorInfo* info = file.find(to.name);
      HADAL_CHECK(info, "{}: has no tensor {}; the run was started with another model", file.path().string(), to.name);
      HADAL_CHECK(info->dtype == to.tensor.dtype() && info->shape == to.tensor.shape(),
                  "{}: {} is {} {}, the configuration gives {} {}; the run was started with another model",
                  file.path().string(), to.name, dtype_name(info->dtype), info->shape.to_string(),
                  dtype_name(to.tensor.dtype()), to.tensor.shape().to_string());
      std::memcpy(to.tensor.raw(), file.tensor(*info).raw(), static_cast<std::size_t>(to.tensor.num_bytes()));
    }
    HADAL_CHECK(file.tensors().size() == tensors.size(),
                "{}: has {} tensors, the configuration gives {}; the run was started with another model",
                file.path().string(), file.tensors().size(), tensors.size());
    file.release();
  }
}

void RunCheckpoints::copy(Context& ctx, const CheckpointTensors& all) {
  std::vector<TensorRef> from, to;
  if (copy_.owned.empty())
    for (const auto& [file, tensors] : all)
      for (const NamedTensor& t : tensors) {
        copy_.owned.emplace_back(t.tensor.dtype(), t.tensor.shape());
        copy_.tensors[file].push_back({t.name, copy_.owned.back()});
      }
  for (const auto& [file, tensors] : all)
    for (const NamedTensor& t : tensors) from.push_back(t.tensor);
  for (const auto& [file, tensors] : copy_.tensors)
    for (const NamedTensor& t : tensors) to.push_back(t.tensor);
  ctx.threads.parallel_for(static_cast<Index>(from.size()), 1, [&](Index i, Index) {
    const auto at = static_cast<std::size_t>(i);
    std::memcpy(to[at].raw(), from[at].raw(), static_cast<std::size_t>(from[at].num_bytes()));
  });
}

void RunCheckpoints::begin(Context& ctx, const CheckpointTensors& tensors, const RunState& state,
                           std::map<std::string, std::string> texts) {
  check(true);
  copy(ctx, tensors);
  copy_.step = state.step;
  copy_.texts = std::move(texts);
  over_ = false;
  writer_ = std::thread([this] {
    try {
      write();
    } catch (...) {
      error_ = std::current_exception();
    }
    over_ = true;
  });
}

void RunCheckpoints::check(bool wait) {
  if (!writer_.joinable() || (!wait && !over_)) return;
  writer_.join();
  if (!error_) {
    written_ = copy_.step;
    return;
  }
  const std::exception_ptr error = std::exchange(error_, nullptr);
  std::rethrow_exception(error);
}

void RunCheckpoints::write() {
  const fs::path whole = path_of(copy_.step);
  fs::path working = whole;
  working += kUnfinished;
  remove_quietly(working);
  try {
    std::error_code status;
    fs::create_directory(working, status);
    HADAL_CHECK(!status, "{}: cannot be made: {}", working.string(), status.message());
    for (const auto& [name, tensors] : copy_.tensors) write_tensors(working / name, tensors);
    for (const auto& [name, text] : copy_.texts) io::write_text_file_atomically(working / name, text);
    io::write_text_file_atomically(working / kManifest, manifest_of(working, copy_.step).dump(1) + "\n");
    sync_directory(working);
    // One that is there is damaged, or it would have been resumed from.
    remove_quietly(whole);
    fs::rename(working, whole, status);
    HADAL_CHECK(!status, "{}: cannot be renamed to {}: {}", working.string(), whole.string(), status.message());
    sync_directory(directory_);
  } catch (...) {
    remove_quietly(working);
    throw;
  }
  remove_old();
}

void RunCheckpoints::remove_old() const {
  if (options_.keep_last <= 0) return;
  std::vector<Index> steps = steps_in(directory_);
  // Newer ones are damaged, or this run would have gone on from them.
  std::erase_if(steps, [&](Index step) { return step > copy_.step; });
  for (std::size_t i = static_cast<std::size_t>(options_.keep_last); i < steps.size(); ++i) {
    if (options_.keep_every > 0 && steps[i] % options_.keep_every == 0) continue;
    // Under its name it is whole to the end.
    fs::path old = path_of(steps[i]);
    old += kUnfinished;
    std::error_code status;
    fs::rename(path_of(steps[i]), old, status);
    remove_quietly(old);
  }
}

}  // namespace hadal::train
