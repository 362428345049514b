// fake_modules.cpp — the fake driver's kernels: images that the fake NVRTC made, functions in them, launches into the emulator, and tensor maps.
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <set>

#include "../../native/kernels/rows.hpp"
#include "fake_driver.hpp"
#include "launchers.hpp"

using namespace fake;

namespace {

struct FunctionState {
    const kernels::Row* row; // null: a real cubin's, which cannot run here
    int shared = 48 * 1024;
};
struct ModuleState {
    explicit ModuleState(ContextState* context) : made(context) {}
    const Made made;
    std::string lowered, expression;
    FunctionState function{};
};
std::set<ModuleState*> modules;
// The function, if its module is loaded in the current context.
FunctionState* function_of(void* function) {
    const std::lock_guard lock(state);
    for (ModuleState* m : modules)
        if (&m->function == function && m->made.context == here() && m->made.stands()) return &m->function;
    return fault("a function of no module of the current context"), nullptr;
}

const std::vector<kernels::Row>& rows() {
    static const std::vector<kernels::Row> all = [] {
        std::vector<kernels::Row> known = kernels::rows();
        Launchers verbs;
        add_verbs(verbs);
        for (const auto& [expression, _] : verbs) known.push_back({expression, "", expression, 0, 0, 0});
        return known;
    }();
    return all;
}
const Launchers& launchers() {
    static const Launchers all = [] {
        Launchers l;
        add_flash_fp16(l), add_flash_bf16(l), add_hopper_fp16(l), add_hopper_bf16(l), add_plain(l), add_verbs(l);
        return l;
    }();
    return all;
}

// FAKE_CUDA_KERNEL="naive.f32:700": this kernel always ends so; ":hangs": it never does.
int fate_of(const std::string& name) {
    const char* given = std::getenv("FAKE_CUDA_KERNEL");
    const std::string fate = given ? given : "";
    if (fate.compare(0, name.size() + 1, name + ":")) return kOk;
    if (fate.substr(name.size() + 1) != "hangs") return std::atoi(fate.c_str() + name.size() + 1);
    for (;;) pause();
}

void run_kernel(ContextState* context, const std::string& name, const std::function<void()>& kernel) {
    int status = planned_failure("kernel");
    if (!status) status = fate_of(name);
    if (status) {
        context->dead = status;
        return;
    }
    std::string wrong;
    {
        const std::lock_guard own(emulator);
        if (ending) return;
        const Touching now;
        emu::reset();
        kernel();
        if (emu::report.violations) wrong = emu::report.first;
    }
    if (wrong.empty()) return;
    fault(name + ": " + wrong);
    context->dead = kIllegalAddress;
}

} // namespace

extern "C" {

// The fake NVRTC's image: "fake cubin sm_90a", or "fake ptx compute_90"; the lowered name; the kernel's expression.
int cuModuleLoadData(void** module, const void* image) {
    NOT_WHILE_CAPTURED(cuModuleLoadData);
    const char* text = static_cast<const char*>(image);
    auto m = std::make_unique<ModuleState>(here());
    const int arch = devices()[size_t(here()->device)].arch;
    if (!std::strncmp(text,
                      "\x7f"
                      "ELF",
                      4)) {
        m->function.row = nullptr;
    } else if (!std::strncmp(text, "fake ", 5)) {
        const std::string all = text;
        const size_t line = all.find('\n'), second = all.find('\n', line + 1);
        const std::string target = all.substr(0, line);
        const int made_for = std::atoi(target.c_str() + target.find('_') + 1);
        if (target.find("cubin") != std::string::npos ? made_for / 10 != arch / 10 || made_for > arch : made_for > arch) return kNoBinary;
        m->lowered = all.substr(line + 1, second - line - 1), m->expression = all.substr(second + 1);
        for (const kernels::Row& row : rows())
            if (row.expression == m->expression) m->function.row = &row;
        if (!m->function.row) return kInvalidImage;
    } else {
        return kInvalidImage;
    }
    const std::lock_guard lock(state);
    *module = *modules.insert(m.release()).first;
    return kOk;
}
int cuModuleUnload(void* module) {
    NOT_WHILE_CAPTURED(cuModuleUnload);
    const std::lock_guard lock(state);
    const auto found = modules.find(static_cast<ModuleState*>(module));
    if (found == modules.end() || (*found)->made.context != here() || !(*found)->made.stands())
        return fault("a module unloaded that is none of the current context"), kInvalidHandle;
    modules.erase(found);
    return delete static_cast<ModuleState*>(module), kOk;
}
int cuModuleGetFunction(void** function, void* module, const char* name) {
    IN_CONTEXT(cuModuleGetFunction);
    auto* m = static_cast<ModuleState*>(module);
    if (m->function.row && m->lowered != name) return kNotFound;
    return *function = &m->function, kOk;
}
int cuFuncSetAttribute(void* function, int attribute, int value) {
    IN_CONTEXT(cuFuncSetAttribute);
    const int arch = devices()[size_t(here()->device)].arch, most = (arch == 90 ? 227 : arch == 80 ? 163 : arch == 75 ? 64 : 99) * 1024;
    FunctionState* f = function_of(function);
    if (!f) return kInvalidHandle;
    if (attribute != 8 || value < 0 || value > most) return kInvalidValue;
    return f->shared = value, kOk;
}
int cuLaunchKernel(void* function, unsigned x, unsigned y, unsigned z, unsigned bx, unsigned by, unsigned bz, unsigned shared, void* stream, void** arguments,
                   void**) {
    IN_CONTEXT(cuLaunchKernel);
    STREAM(stream);
    const FunctionState* known = function_of(function);
    if (!known) return kInvalidHandle;
    const FunctionState& f = *known;
    if (!f.row) return 98; // a real cubin does not run here
    if (!x || !y || !z || x > 0x7fffffff || y > 65535 || z > 65535 || (f.row->threads && bx != unsigned(f.row->threads)) || by != 1 || bz != 1 ||
        int(shared) > f.shared || int(shared) < f.row->smem)
        return fault("a launch of " + f.row->name + " with sizes that are not allowed"), kInvalidValue;
    const auto kernel = launchers().at(f.row->name)({{x, y, z}, {bx, by, bz}, shared}, arguments);
    s->enqueue([context = here(), name = f.row->name, kernel] { run_kernel(context, name, kernel); });
    return kOk;
}
int cuTensorMapEncodeTiled(void* map, int type, uint32_t rank, void* base, const uint64_t* sizes, const uint64_t* strides, const uint32_t* box,
                           const uint32_t* steps, int interleave, int swizzle, int promotion, int outside) {
    ENTRY(cuTensorMapEncodeTiled);
    bool legal = reinterpret_cast<uintptr_t>(map) % 64 == 0 && base && promotion >= 0 && promotion <= 3 && outside == 0 && (type == 6 || type == 9) &&
                 rank == 4 && reinterpret_cast<uintptr_t>(base) % 16 == 0 && box[0] == 64 && box[1] >= 1 && box[1] <= 256 && box[2] == 1 && box[3] == 1 &&
                 interleave == 0 && swizzle == 3;
    for (int d = 0; d < 4; ++d) legal = legal && sizes[d] >= 1 && sizes[d] <= uint64_t(1) << 32 && steps[d] == 1;
    for (int d = 0; d < 3; ++d) legal = legal && strides[d] % 16 == 0 && strides[d] < uint64_t(1) << 40 && strides[d] > 0;
    if (!legal) return kInvalidValue;
    const ptx::TensorMap m{base,
                           int64_t(sizes[0]),
                           int64_t(sizes[1]),
                           int64_t(sizes[2]),
                           int64_t(sizes[3]),
                           int64_t(strides[0] / 2),
                           int64_t(strides[1] / 2),
                           int64_t(strides[2] / 2),
                           int(box[1])};
    static_assert(sizeof m <= 128 && std::is_trivially_copyable_v<ptx::TensorMap>);
    std::memcpy(map, &m, sizeof m);
    return kOk;
}

} // extern "C"
