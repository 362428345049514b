#include "mask.hpp"

#include <cstring>

namespace attn::abi {
namespace {

constexpr struct {
    uint32_t kind;
    const char* name;
} kKinds[] = {{ATTN_MASK_KEY_LENGTHS, "key_lengths"}, {ATTN_MASK_QUERY_LENGTHS, "query_lengths"}, {ATTN_MASK_CAUSAL, "causal"}, {ATTN_MASK_WINDOW, "window"},
              {ATTN_MASK_PREFIX, "prefix"},           {ATTN_MASK_DOCUMENTS, "documents"},         {ATTN_MASK_KEEP, "keep"}};

std::string names_of(uint32_t kinds) {
    std::string text;
    for (const auto& k : kKinds)
        if (kinds & k.kind) text += (text.empty() ? "" : ", ") + std::string(k.name);
    return text.empty() ? "none" : text;
}

Array given(const Context& context, const attn_mask_values& v, uint32_t kind, const attn_array* array, const char* name, DType dtype, int rank) {
    if (!(v.kinds & kind)) {
        if (array) fail(ATTN_INVALID_ARGUMENT, "mask.%s is given, but mask.kinds 0x%x does not name it (0x%x)", name, v.kinds, kind);
        return {};
    }
    const std::string full = std::string("mask.") + name;
    Array a = resolve(context, array, full.c_str(), Where::anywhere);
    if (a.dtype != dtype) fail(ATTN_INVALID_ARGUMENT, "mask.%s is %s; %s is needed", name, name_of(a.dtype), name_of(dtype));
    if (rank && a.rank != rank) fail(ATTN_INVALID_ARGUMENT, "mask.%s has %d dimensions; %d is needed", name, a.rank, rank);
    if (rank && !a.contiguous()) fail(ATTN_INVALID_ARGUMENT, "mask.%s has strides; it must be contiguous", name);
    return a;
}

const int32_t* bound(const Array& a, const char* name, std::initializer_list<int64_t> shape) {
    int d = 0;
    for (const int64_t n : shape) {
        if (a.shape[d] != n)
            fail(ATTN_INVALID_ARGUMENT, "mask.%s.shape[%d] is %lld; the problem needs %lld", name, d, static_cast<long long>(a.shape[d]),
                 static_cast<long long>(n));
        ++d;
    }
    return reinterpret_cast<const int32_t*>(a.data);
}

const int32_t* bound_lengths(const Array& a, const char* name, int64_t batch, int64_t limit) {
    const int32_t* n = bound(a, name, {batch});
    for (int64_t b = 0; b < batch && a.on_host && n; ++b) // what is on a device is never read back: kernels clamp it
        if (n[b] < 0 || n[b] > limit)
            fail(ATTN_INVALID_ARGUMENT, "mask.%s[%lld] is %d; 0..%lld is allowed", name, static_cast<long long>(b), n[b], static_cast<long long>(limit));
    return n;
}

// Before there is a problem: a length's upper limit is not known yet, its lower one is.
void check_not_negative(const Array& a, const char* name) {
    if (!a.rank || !a.on_host) return;
    const auto* n = reinterpret_cast<const int32_t*>(a.data);
    for (int64_t b = 0; b < a.count(); ++b)
        if (n[b] < 0) fail(ATTN_INVALID_ARGUMENT, "mask.%s[%lld] is %d; 0 or more is allowed", name, static_cast<long long>(b), n[b]);
}

} // namespace

MaskValues checked_values(const Context& context, const attn_mask_values* values) {
    const attn_mask_values& v = checked(values, "mask");
    if (v.kinds & ~127u) fail(ATTN_NOT_SUPPORTED, "mask.kinds is 0x%x; of these bits 0x7f are known", v.kinds);
    if ((v.kinds & ATTN_MASK_PREFIX) && (v.kinds & ATTN_MASK_CAUSAL))
        fail(ATTN_INVALID_ARGUMENT, "mask.kinds has both prefix (16) and causal (4); prefix takes causal's place, give one");
    MaskValues m;
    m.kinds = v.kinds;
    if (v.kinds & ATTN_MASK_WINDOW) {
        m.left = v.window_left, m.right = v.window_right;
        if (m.left < -1 || m.left > INT32_MAX)
            fail(ATTN_INVALID_ARGUMENT, "mask.window_left is %lld; -1 (unbounded) .. 2^31-1 is allowed", static_cast<long long>(m.left));
        if (m.right < -1 || m.right > INT32_MAX)
            fail(ATTN_INVALID_ARGUMENT, "mask.window_right is %lld; -1 (unbounded) .. 2^31-1 is allowed", static_cast<long long>(m.right));
    } else if (v.window_left || v.window_right) {
        fail(ATTN_INVALID_ARGUMENT, "mask.window is (%lld, %lld), but mask.kinds 0x%x does not name it (0x%x)", static_cast<long long>(v.window_left),
             static_cast<long long>(v.window_right), v.kinds, ATTN_MASK_WINDOW);
    }
    m.key_lengths = given(context, v, ATTN_MASK_KEY_LENGTHS, v.key_lengths, "key_lengths", DType::i32, 1);
    m.query_lengths = given(context, v, ATTN_MASK_QUERY_LENGTHS, v.query_lengths, "query_lengths", DType::i32, 1);
    m.prefix = given(context, v, ATTN_MASK_PREFIX, v.prefix, "prefix", DType::i32, 1);
    m.q_documents = given(context, v, ATTN_MASK_DOCUMENTS, v.q_documents, "q_documents", DType::i32, 2);
    m.k_documents = given(context, v, ATTN_MASK_DOCUMENTS, v.k_documents, "k_documents", DType::i32, 2);
    m.keep = given(context, v, ATTN_MASK_KEEP, v.keep, "keep", DType::u8, 0);
    if (v.kinds & ATTN_MASK_KEEP) m.keep = widened(m.keep);
    return m;
}

Mask bind(const MaskValues& v, const Problem& p) {
    if (v.kinds != p.masks)
        fail(ATTN_INVALID_ARGUMENT, "mask has %s (0x%x); the plan was made for %s (0x%x)", names_of(v.kinds).c_str(), v.kinds, names_of(p.masks).c_str(),
             p.masks);
    Mask m;
    m.Sq = p.Sq, m.Sk = p.Sk;
    m.causal = v.kinds & ATTN_MASK_CAUSAL;
    m.left = v.left, m.right = v.right;
    if (v.kinds & ATTN_MASK_KEY_LENGTHS) m.key_lengths = bound_lengths(v.key_lengths, "key_lengths", p.B, p.Sk);
    if (v.kinds & ATTN_MASK_QUERY_LENGTHS) m.query_lengths = bound_lengths(v.query_lengths, "query_lengths", p.B, p.Sq);
    if (v.kinds & ATTN_MASK_PREFIX) m.prefix = bound_lengths(v.prefix, "prefix", p.B, p.Sk);
    if (v.kinds & ATTN_MASK_DOCUMENTS) {
        m.q_documents = bound(v.q_documents, "q_documents", {p.B, p.Sq});
        m.k_documents = bound(v.k_documents, "k_documents", {p.B, p.Sk});
    }
    if (v.kinds & ATTN_MASK_KEEP)
        for (int d = 0; d < 4; ++d)
            if (v.keep.shape[d] != p.keep_shape[d])
                fail(ATTN_INVALID_ARGUMENT, "mask.keep's dimension %d (of 4, right-aligned) is %lld; the plan was made for %lld", d,
                     static_cast<long long>(v.keep.shape[d]), static_cast<long long>(p.keep_shape[d]));
    return m;
}

uint64_t keep_bytes(const int64_t (&shape)[4]) {
    const uint64_t cells = uint64_t(cpu::keep_cells(shape));
    return cells * kCell * sizeof(uint64_t) + cells;
}

PackedKeep pack(Context& context, const Array& keep, unsigned char* memory) {
    cpu::KeepBytes k{keep.data, {}, {}};
    std::copy_n(keep.shape, 4, k.shape);
    std::copy_n(keep.stride, 4, k.stride);
    auto* words = reinterpret_cast<uint64_t*>(memory);
    auto* classes = reinterpret_cast<Cell*>(words + cpu::keep_cells(keep.shape) * kCell);
    ++counters().mask_passes;
    return cpu::pack_keep(k, context.isa, context.pool, classes, words);
}

// Packed for tiles of one shape under one offset.
struct PreparedMask::Form {
    const std::shared_ptr<const cuda::Device> gpu;
    int64_t Sq, Sk, batches, heads, rows, block_m, block_n, chunk_keys, offset;
    int offset_kind;
    cuda::Memory memory;
    PackedCells cells;
    ::cuda::Event made;
    ~Form() { gpu->give_back(made); }
};

DenseKeep dense_keep(const Array& keep) { return {keep.data, keep.stride[0], keep.stride[1], keep.stride[2], keep.stride[3]}; }

PreparedMask::PreparedMask(std::shared_ptr<Context> c, const MaskValues& given) : Object(kKind), context(std::move(c)), values(given) {
    if (context->gpu) {
        on_host = given;
        each_array(values, [&](const char*, Array& array) {
            if (array.rank) array = copied_to_gpu(array);
        });
        each_array(on_host, [&](const char*, Array& array) { // a copy of what a problem's limits are asked of; the rest is known by shape
            if (array.rank && array.on_host && array.dtype == DType::i32) array = copied(array);
            else array.data = nullptr;
            array.tensor = nullptr;
        });
        counted_ = !(values.kinds & ATTN_MASK_KEEP);
        count(bytes_);
        return;
    }
    for (Array MaskValues::*array :
         {&MaskValues::key_lengths, &MaskValues::query_lengths, &MaskValues::prefix, &MaskValues::q_documents, &MaskValues::k_documents})
        if ((values.*array).rank) values.*array = copied(values.*array);
    if (values.kinds & ATTN_MASK_KEEP) {
        const uint64_t size = keep_bytes(values.keep.shape);
        memory_.push_back(allocate(size, "a prepared mask"));
        bytes_ += size;
        packed = pack(*context, values.keep, memory_.back().get());
        for (int64_t i = 0; i < cpu::keep_cells(values.keep.shape); ++i) ++cells_.count[int(packed.classes[i])];
        values.keep.data = nullptr; // the caller's memory is not needed any more
        values.keep.tensor = nullptr;
    }
    count(bytes_);
}

PreparedMask::~PreparedMask() { counters().bytes -= int64_t(bytes()), context->live_bytes -= int64_t(bytes()); }

void PreparedMask::count(uint64_t more) { counters().bytes += int64_t(more), context->live_bytes += int64_t(more); }

Array PreparedMask::copied(const Array& array) {
    const uint64_t size = uint64_t(array.count()) * size_of(array.dtype);
    memory_.push_back(allocate(size, "a prepared mask"));
    bytes_ += size;
    Array copy = array;
    if (size) std::memcpy(memory_.back().get(), array.data, size);
    copy.data = memory_.back().get();
    copy.tensor = nullptr;
    return copy;
}

Array PreparedMask::copied_to_gpu(const Array& array) { // strides and all: the span that they reach
    Array copy = array;
    copy.on_host = false, copy.tensor = nullptr, copy.data = nullptr;
    if (!array.count()) return copy;
    const Array::Bytes from = array.bytes();
    const uint64_t size = uint64_t(from.end - from.begin);
    device_memory_.emplace_back(context->gpu, size, "a prepared mask");
    bytes_ += size;
    unsigned char* to = device_memory_.back().data();
    if (array.on_host) context->gpu->upload(to, from.begin, size);
    else context->gpu->copy(to, from.begin, size);
    copy.data = to + (array.data - from.begin);
    return copy;
}

PackedCells PreparedMask::packed_for(const Problem& p, const cuda::Choice& c, const Mask& mask, ::cuda::Stream stream, bool captured, bool* made) {
    const cuda::Device& gpu = *context->gpu;
    const std::lock_guard lock(mutex_);
    for (const auto& f : forms_) {
        if (f->Sq != p.Sq || f->Sk != p.Sk || f->batches != c.mask_batches || f->heads != c.mask_heads || f->rows != c.mask_rows ||
            f->block_m != c.tile_queries || f->block_n != c.tile_keys || f->chunk_keys != c.chunk_keys || f->offset != mask.offset ||
            f->offset_kind != p.offset_kind)
            continue;
        if (captured) gpu.await(f->made);
        else if (gpu.driver().event_query(f->made)) gpu.check(gpu.driver().stream_wait(stream, f->made, 0), "waiting for a prepared mask");
        f->cells.mask = mask;
        return f->cells;
    }
    const kernels::Packing packing = c.packing(p);
    forms_.reserve(forms_.size() + 1);
    auto form = std::unique_ptr<Form>(new Form{context->gpu,
                                               p.Sq,
                                               p.Sk,
                                               c.mask_batches,
                                               c.mask_heads,
                                               c.mask_rows,
                                               c.tile_queries,
                                               c.tile_keys,
                                               c.chunk_keys,
                                               mask.offset,
                                               p.offset_kind,
                                               cuda::Memory(context->gpu, cuda::packed_bytes(packing), "a prepared mask's tiles"),
                                               {},
                                               gpu.event()});
    const ::cuda::Stream on = captured ? gpu.memory_stream() : stream;
    try {
        form->cells = cuda::pack(gpu, p, c, mask, dense_keep(values.keep), cuda::packed_place(packing, form->memory.data()), on);
        gpu.check(gpu.driver().event_record(form->made, on), "recording an event");
        if (captured) gpu.await(form->made);
    } catch (...) {
        gpu.settle(on); // a pass that was put on it still writes to the form's memory
        throw;
    }
    bytes_ += form->memory.bytes(), count(form->memory.bytes());
    if (values.kinds & ATTN_MASK_KEEP) ++counters().mask_passes;
    *made = true;
    forms_.push_back(std::move(form));
    return forms_.back()->cells;
}

PreparedMask::Cells PreparedMask::cells() {
    const std::lock_guard lock(mutex_);
    if (counted_) return cells_;
    Memory copy, words;
    const Array keep = fetched(*context, values.keep, copy);
    words = allocate(keep_bytes(keep.shape), "counting a mask's cells");
    const PackedKeep classed = pack(*context, keep, words.get());
    --counters().mask_passes; // of no run
    for (int64_t i = 0; i < cpu::keep_cells(keep.shape); ++i) ++cells_.count[int(classed.classes[i])];
    counted_ = true;
    return cells_;
}

Array fetched(const Context& context, const Array& array, Memory& memory) {
    Array copy = array;
    copy.on_host = true, copy.tensor = nullptr;
    if (!array.count()) return copy;
    const Array::Bytes from = array.bytes();
    memory = allocate(uint64_t(from.end - from.begin), "a copy on the host");
    context.gpu->download(memory.get(), from.begin, uint64_t(from.end - from.begin));
    copy.data = memory.get() + (array.data - from.begin);
    return copy;
}

} // namespace attn::abi

using namespace attn::abi;

attn_status attn_mask_prepare(attn_context context, const attn_mask_values* values, attn_mask* mask) {
    return guarded([&] {
        required(mask, "mask");
        const auto c = get<Context>(context, "context");
        const MaskValues m = checked_values(*c, values);
        check_not_negative(m.key_lengths, "key_lengths");
        check_not_negative(m.query_lengths, "query_lengths");
        check_not_negative(m.prefix, "prefix");
        *mask = static_cast<attn_mask>(add(std::make_shared<PreparedMask>(c, m)));
    });
}

attn_status attn_mask_destroy(attn_mask mask) {
    return guarded([&] { remove(mask, Kind::mask, "mask"); });
}

attn_status attn_mask_describe(attn_mask mask, attn_mask_info* info) {
    return guarded([&] {
        const auto m = get<PreparedMask>(mask, "mask");
        checked(info, "info");
        const PreparedMask::Cells cells = m->cells();
        *info = {
            sizeof *info, m->values.kinds, {}, cells.count[int(attn::Cell::full)], cells.count[int(attn::Cell::partial)], cells.count[int(attn::Cell::empty)],
            m->bytes()};
        std::copy_n(m->values.keep.shape, 4, info->keep_shape);
    });
}
