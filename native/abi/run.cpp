// run.cpp — a plan with addresses and values bound: everything is checked before anything starts.
#include <algorithm>
#include <optional>

#include "run.hpp"

namespace attn::abi {
namespace {

Array operand(const Context& context, const attn_array* given, const char* name, DType dtype, std::initializer_list<int64_t> shape, const Strides& strides) {
    Array a = resolve(context, given, name);
    if (a.dtype != dtype) fail(ATTN_INVALID_ARGUMENT, "%s is %s; the plan was made for %s", name, name_of(a.dtype), name_of(dtype));
    if (a.rank != 4) fail(ATTN_INVALID_ARGUMENT, "%s has %d dimensions; 4 are needed (batch, head, row, column)", name, a.rank);
    const int64_t planned[4] = {strides.batch, strides.head, strides.row, strides.column};
    const int64_t* n = shape.begin();
    bool empty = false; // then no stride means anything
    for (int d = 0; d < 4; ++d) {
        if (a.shape[d] != n[d])
            fail(ATTN_INVALID_ARGUMENT, "%s.shape[%d] is %lld; the plan was made for %lld", name, d, static_cast<long long>(a.shape[d]),
                 static_cast<long long>(n[d]));
        empty |= n[d] == 0;
    }
    for (int d = 0; d < 4 && !empty; ++d) {
        if (a.shape[d] > 1 && a.stride[d] != planned[d])
            fail(ATTN_INVALID_ARGUMENT, "%s.strides[%d] is %lld; the plan was made for %lld", name, d, static_cast<long long>(a.stride[d]),
                 static_cast<long long>(planned[d]));
    }
    return a;
}

void expect_absent(const void* given, const char* name, const char* because) {
    if (given) fail(ATTN_INVALID_ARGUMENT, "%s is given; the plan was made without it (%s)", name, because);
}

// Outputs may share no byte with anything else. Judged by the range each array spans.
struct Overlaps {
    struct Named {
        const char* name;
        Array::Bytes bytes;
        bool output;
    } all[16];
    int count = 0;
    void add(const char* name, const Array& a, bool output = false) {
        if (!a.data || !a.count()) return;
        const Named now{name, a.bytes(), output};
        for (int i = 0; i < count; ++i)
            if ((all[i].output || output) && now.bytes.begin < all[i].bytes.end && all[i].bytes.begin < now.bytes.end)
                fail(ATTN_INVALID_ARGUMENT, "%s and %s overlap in memory (%td bytes of them at least); an output must share no memory with another array",
                     all[i].name, name, std::min(now.bytes.end, all[i].bytes.end) - std::max(now.bytes.begin, all[i].bytes.begin));
        all[count++] = now;
    }
};

// The mask and the offset of `args`: what a run and a tile map have in common.
void bind_mask(Run& run, const attn_run_args& args, Overlaps* overlaps) {
    const Problem& p = run.plan->problem;
    const Context& context = *run.plan->context;
    if (args.mask && args.prepared) fail(ATTN_INVALID_ARGUMENT, "args.mask and args.prepared are both given; one of them is allowed");
    MaskValues values;
    if (args.prepared) {
        run.prepared = get<PreparedMask>(args.prepared, "args.prepared");
        if (run.prepared->context->gpu != context.gpu) fail(ATTN_INVALID_ARGUMENT, "args.prepared was prepared in another context than the plan's");
        if (context.gpu) bind(run.prepared->on_host, p);
        values = run.prepared->values;
        run.call.mask = bind(values, p);
        run.call.mask.keep = run.prepared->packed;
    } else {
        if (args.mask) values = checked_values(context, args.mask);
        run.call.mask = bind(values, p);
        each_array(values, [&](const char* name, const Array& array) {
            run.hold(array);
            if (overlaps) overlaps->add(name, array);
        });
    }
    run.keep = values.keep;
    for (const auto& [pointer, array] : {std::pair{&run.call.mask.key_lengths, &values.key_lengths},
                                         {&run.call.mask.query_lengths, &values.query_lengths},
                                         {&run.call.mask.prefix, &values.prefix},
                                         {&run.call.mask.q_documents, &values.q_documents},
                                         {&run.call.mask.k_documents, &values.k_documents}})
        run.value(reinterpret_cast<const void**>(pointer), *array);
    Mask& m = run.call.mask;
    m.bottom_right = p.offset_kind == ATTN_OFFSET_BOTTOM_RIGHT;
    if (p.offset_kind == ATTN_OFFSET_VALUE) {
        if (args.offset < INT32_MIN || args.offset > INT32_MAX)
            fail(ATTN_INVALID_ARGUMENT, "args.offset is %lld; a 32-bit number is needed", static_cast<long long>(args.offset));
        m.offset = args.offset;
    } else if (args.offset) {
        fail(ATTN_INVALID_ARGUMENT, "args.offset is %lld; the plan's offset_kind is %d, which takes none", static_cast<long long>(args.offset), p.offset_kind);
    }
    if (p.offset_kind == ATTN_OFFSET_PER_BATCH) {
        const Array offsets = resolve_vector(context, args.offsets, "args.offsets", Where::anywhere, DType::i32, {p.B});
        m.offsets = reinterpret_cast<const int32_t*>(offsets.data);
        run.value(reinterpret_cast<const void**>(&m.offsets), offsets);
        run.hold(offsets);
        if (overlaps) overlaps->add("args.offsets", offsets);
    } else {
        expect_absent(args.offsets, "args.offsets", "offset_kind is not per-batch");
    }
}

void bind_terms(Run& run, const attn_run_args& args, Overlaps& overlaps) {
    const Problem& p = run.plan->problem;
    const Context& context = *run.plan->context;
    if (p.bias) {
        const Array bias = widened(resolve(context, args.bias, "bias", Where::anywhere));
        if (bias.dtype != p.bias_dtype) fail(ATTN_INVALID_ARGUMENT, "bias is %s; the plan was made for %s", name_of(bias.dtype), name_of(p.bias_dtype));
        for (int d = 0; d < 4; ++d)
            if (bias.shape[d] != p.bias_shape[d])
                fail(ATTN_INVALID_ARGUMENT, "bias's dimension %d (of 4, right-aligned) is %lld; the plan was made for %lld", d,
                     static_cast<long long>(bias.shape[d]), static_cast<long long>(p.bias_shape[d]));
        run.call.bias = {bias.data, bias.dtype, {bias.stride[0], bias.stride[1], bias.stride[2], bias.stride[3]}};
        if (context.gpu && bias.on_host) run.bias = bias;
        run.hold(bias);
        overlaps.add("bias", bias);
    } else {
        expect_absent(args.bias, "bias", "terms has no bias");
    }
    if (p.alibi) {
        const Array slopes = resolve_vector(context, args.alibi_slopes, "alibi_slopes", Where::anywhere, DType::f32, {p.Hq});
        run.call.slopes = reinterpret_cast<const float*>(slopes.data);
        run.value(reinterpret_cast<const void**>(&run.call.slopes), slopes);
        run.hold(slopes);
        overlaps.add("alibi_slopes", slopes);
    } else {
        expect_absent(args.alibi_slopes, "alibi_slopes", "terms has no ALiBi");
    }
}

void bind_all(Run& run, const attn_run_args& args) {
    check_reserved(args.reserved, "args");
    const Problem& p = run.plan->problem;
    const Context& context = *run.plan->context;
    Call& call = run.call;
    Overlaps overlaps;
    const auto matrix = [&](const attn_array* given, const char* name, int64_t heads, int64_t rows, int64_t columns, const Strides& strides, bool output) {
        const Array a = operand(context, given, name, p.dtype, {p.B, heads, rows, columns}, strides);
        run.hold(a);
        overlaps.add(name, a, output);
        return a.data;
    };
    call.Q = matrix(args.q, "q", p.Hq, p.Sq, p.D, p.q, false);
    call.K = matrix(args.k, "k", p.Hkv, p.Sk, p.D, p.k, false);
    call.V = matrix(args.v, "v", p.Hkv, p.Sk, p.Dv, p.v, false);
    call.O = matrix(args.o, "o", p.Hq, p.Sq, p.Dv, p.o, true);
    const auto extra = [&](bool wanted, const attn_array* given, const char* name, std::initializer_list<int64_t> shape) -> float* {
        if (!wanted) return expect_absent(given, name, "its flag is not set"), nullptr;
        const Array a = resolve_vector(context, given, name, Where::device, DType::f32, shape);
        run.hold(a);
        overlaps.add(name, a, true);
        return reinterpret_cast<float*>(a.data);
    };
    call.LSE = extra(p.lse, args.lse, "lse", {p.B, p.Hq, p.Sq});
    call.P = extra(p.probabilities, args.probabilities, "probabilities", {p.B, p.Hq, p.Sq, p.Sk});
    bind_mask(run, args, &overlaps);
    bind_terms(run, args, overlaps);
    call.cancel = args.cancel;
    if (args.workspace) {
        if (args.workspace_bytes < run.plan->choice.workspace_bytes)
            fail(ATTN_INVALID_ARGUMENT, "args.workspace_bytes is %llu; this plan needs %llu", static_cast<unsigned long long>(args.workspace_bytes),
                 static_cast<unsigned long long>(run.plan->choice.workspace_bytes));
        const int alignment = context.gpu ? 256 : 64;
        if (reinterpret_cast<uintptr_t>(args.workspace) % alignment)
            fail(ATTN_INVALID_ARGUMENT, "args.workspace is %p; an address that is a multiple of %d is needed", args.workspace, alignment);
        if (context.gpu) context.gpu->check_pointer(args.workspace, "args.workspace");
        call.workspace = static_cast<unsigned char*>(args.workspace);
    }
    if (args.report) {
        run.report = &checked(args.report, "args.report");
        check_reserved(run.report->reserved, "args.report");
    }
    if (context.gpu && run.plan->on_gpu.row->D)
        for (const auto& [name, data] : {std::pair{"q", call.Q}, {"k", call.K}, {"v", call.V}, {"o", const_cast<const void*>(call.O)}})
            if (reinterpret_cast<uintptr_t>(data) % 16)
                fail(ATTN_INVALID_ARGUMENT, "%s.data is %p; flash copies rows in pieces of 16 bytes: a multiple of 16 is needed (memory-efficient takes any)",
                     name, data);
}

} // namespace

void Run::execute() {
    Context& context = *plan->context;
    call.problem = &plan->problem;
    std::atomic<int64_t> visited{0};
    call.visited = &visited;
    const bool pass = !prepared && keep.data && !plan->problem.empty() && plan->problem.Sk;
    if (!plan->problem.empty() && !call.cancelled()) {
        Context::Lease packed, workspace;
        if (pass) {
            packed = Context::Lease(context, keep_bytes(keep.shape));
            call.mask.keep = pack(context, keep, packed.data());
        }
        if (!call.workspace) {
            workspace = Context::Lease(context, plan->choice.workspace_bytes);
            call.workspace = workspace.data();
        }
        cpu::run(call, plan->backend, context.isa, context.pool);
    }
    ++counters().runs;
    if (report) report->tiles_visited = visited, report->mask_passes = pass;
    if (call.cancelled()) fail(ATTN_CANCELLED, "cancelled: the cancel flag was raised; what the outputs hold is unspecified");
}

namespace {

int64_t tiles_of(int64_t n, int64_t tile) { return (n + tile - 1) / tile; }

// The class of a cell as a reader of the map means it: full only if all its queries that exist see all its keys.
Cell shown_cell(const Mask& mask, const Rule& rule, int64_t b, int64_t h, int64_t r, int64_t c) {
    const Cell cell = mask.cell(rule, b, h, r, c);
    return cell == Cell::full && smaller((r + 1) * kCell, mask.Sq) > rule.queries ? Cell::partial : cell;
}
// Of tile (r, c) of a plan: one cell, or several.
Cell shown(const Mask& mask, const Rule& rule, const KernelChoice& choice, int64_t b, int64_t h, int64_t r, int64_t c) {
    const int64_t m = choice.tile_queries / kCell, n = choice.tile_keys / kCell;
    bool met[3] = {};
    for (int64_t i = r * m; i < smaller((r + 1) * m, cells_of(mask.Sq)); ++i)
        for (int64_t j = c * n; j < smaller((c + 1) * n, cells_of(mask.Sk)); ++j) met[int(shown_cell(mask, rule, b, h, i, j))] = true;
    if (!met[int(Cell::partial)] && !(met[int(Cell::empty)] && met[int(Cell::full)])) return met[int(Cell::full)] ? Cell::full : Cell::empty;
    return Cell::partial;
}

struct Map {
    Run run;
    Context::Lease packed;
    std::vector<Memory> fetched; // a GPU's
};
void bind_map(Map& map, attn_plan plan, const attn_run_args* args) {
    map.run.plan = get<Plan>(plan, "plan");
    const attn_run_args none{};
    bind_mask(map.run, args ? checked(args, "args") : none, nullptr);
    Context& context = *map.run.plan->context;
    if (context.gpu) {
        for (const Run::Value& v : map.run.values) {
            if (v.array.on_host || !v.array.data) continue;
            map.fetched.emplace_back();
            *v.pointer = fetched(context, v.array, map.fetched.back()).data;
        }
        if (map.run.keep.data && !map.run.keep.on_host) {
            map.fetched.emplace_back();
            map.run.keep = fetched(context, map.run.keep, map.fetched.back());
        }
    }
    if (map.run.keep.data && !map.run.call.mask.keep.classes) {
        map.packed = Context::Lease(context, keep_bytes(map.run.keep.shape));
        map.run.call.mask.keep = pack(context, map.run.keep, map.packed.data());
    }
}

} // namespace
} // namespace attn::abi

using namespace attn::abi;
using attn::Cell;

attn_status attn_run(attn_plan plan, const attn_run_args* args) {
    return guarded([&] {
        const attn_run_args& a = checked(args, "args");
        const auto stream = a.stream ? get<Stream>(a.stream, "args.stream") : nullptr;
        const auto p = get<Plan>(plan, "plan");
        if (stream && stream->context->gpu != p->context->gpu) fail(ATTN_INVALID_ARGUMENT, "args.stream belongs to another context than the plan");
        if (!stream && !p->context->gpu) {
            Run run;
            run.plan = p;
            bind_all(run, a);
            run.execute();
            return;
        }
        const auto run = std::make_shared<Run>();
        run->plan = p;
        bind_all(*run, a);
        if (p->context->gpu) run_on_gpu(run, stream.get());
        else stream->enqueue([run] { run->execute(); });
    });
}

attn_status attn_plan_tiles(attn_plan plan, const attn_run_args* args, attn_tiles* tiles) {
    return guarded([&] {
        check_reserved(checked(tiles, "tiles").reserved, "tiles");
        Map map;
        bind_map(map, plan, args);
        const attn::Mask& mask = map.run.call.mask;
        const attn::Problem& p = map.run.plan->problem;
        const attn::KernelChoice& choice = map.run.plan->choice;
        const bool by_head = mask.keep.classes && mask.keep.head;
        int64_t counts[3] = {};
        for (int64_t b = 0; b < p.B; ++b) {
            const attn::Rule rule = mask.rule(b);
            for (int64_t h = 0; h < (by_head ? p.Hq : p.Hq > 0); ++h)
                for (int64_t r = 0; r < tiles_of(p.Sq, choice.tile_queries); ++r)
                    for (int64_t c = 0; c < tiles_of(p.Sk, choice.tile_keys); ++c) counts[int(shown(mask, rule, choice, b, h, r, c))] += by_head ? 1 : p.Hq;
        }
        *tiles = {sizeof *tiles, 0, choice.tile_queries, choice.tile_keys, counts[int(Cell::full)], counts[int(Cell::partial)], counts[int(Cell::empty)]};
    });
}

attn_status attn_plan_tile_map(attn_plan plan, const attn_run_args* args, int64_t batch, int64_t head, uint8_t* classes, uint64_t capacity, int64_t* rows,
                               int64_t* columns) {
    return guarded([&] {
        required(rows, "rows"), required(columns, "columns");
        const auto owner = get<Plan>(plan, "plan");
        const attn::Problem& p = owner->problem;
        if (batch < 0 || batch >= p.B)
            fail(ATTN_INVALID_ARGUMENT, "batch is %lld; 0..%lld is allowed", static_cast<long long>(batch), static_cast<long long>(p.B - 1));
        if (head < 0 || head >= p.Hq)
            fail(ATTN_INVALID_ARGUMENT, "head is %lld; 0..%lld is allowed", static_cast<long long>(head), static_cast<long long>(p.Hq - 1));
        const attn::KernelChoice& choice = owner->choice;
        const int64_t m = tiles_of(p.Sq, choice.tile_queries), n = tiles_of(p.Sk, choice.tile_keys);
        if (classes) {
            if (capacity < uint64_t(m * n))
                fail(ATTN_INVALID_ARGUMENT, "capacity is %llu; the map has %lld cells", static_cast<unsigned long long>(capacity),
                     static_cast<long long>(m * n));
            Map map;
            bind_map(map, plan, args);
            const attn::Mask& mask = map.run.call.mask;
            const attn::Rule rule = mask.rule(batch);
            for (int64_t r = 0; r < m; ++r)
                for (int64_t c = 0; c < n; ++c) classes[r * n + c] = uint8_t(shown(mask, rule, choice, batch, head, r, c));
        }
        *rows = m, *columns = n;
    });
}
