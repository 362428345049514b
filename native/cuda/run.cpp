#include "run.hpp"

#include <algorithm>

namespace attn::cuda {
namespace {

using Arguments = ::Problem<unsigned char>; // of any element type: only pointers depend on it
struct TensorMaps {
    ::cuda::TensorMap Q, K, V;
};

const kernels::Row& row_of(const std::string& name) {
    for (const kernels::Row& row : rows())
        if (row.name == name) return row;
    throw std::logic_error("kernels.def has no row " + name);
}
const kernels::Row& chunks_row(DType t) {
    static const kernels::Row &fp16 = row_of("merge.fp16.chunks"), &bf16 = row_of("merge.bf16.chunks");
    return t == DType::f16 ? fp16 : bf16;
}
const kernels::Row& pair_row(DType t) {
    static const kernels::Row &f32 = row_of("merge.f32.pair"), &fp16 = row_of("merge.fp16.pair"), &bf16 = row_of("merge.bf16.pair");
    return t == DType::f32 ? f32 : t == DType::f16 ? fp16 : bf16;
}
const kernels::Row& pass_row() {
    static const kernels::Row& row = row_of("pack_mask");
    return row;
}
const kernels::Row& list_row() {
    static const kernels::Row& row = row_of("tile_lists");
    return row;
}
bool is_naive(const Choice& c) { return c.row->file == "naive.cuh"; }
bool is_plain(const Choice& c) { return c.row->D == 0; } // takes strides of columns

template <class... A>
void launch(const Device& device, const kernels::Row& row, kernels::Grid grid, ::cuda::Stream stream, const A&... arguments) {
    const ::cuda::Function f = device.function(row);
    void* pointers[] = {const_cast<void*>(static_cast<const void*>(&arguments))...};
    device.check(device.driver().launch(f, grid.x, grid.y, grid.z, unsigned(row.threads), 1, 1, unsigned(row.smem), stream, pointers, nullptr),
                 "launching " + row.name);
}

template <class T>
Matrices<T> matrices(void* data, const Strides& s) {
    return {static_cast<T*>(data), s.batch, s.head, s.row};
}
Arguments arguments_of(const Choice& choice, const Call& call, const Workspace& at, bool counts) {
    const Problem& p = *call.problem;
    Arguments a{};
    a.Q = matrices<const unsigned char>(const_cast<void*>(call.Q), p.q), a.K = matrices<const unsigned char>(const_cast<void*>(call.K), p.k);
    a.V = matrices<const unsigned char>(const_cast<void*>(call.V), p.v), a.O = matrices<unsigned char>(call.O, p.o);
    a.LSE = call.LSE;
    if (choice.chunks > 1)
        a.partial = reinterpret_cast<float*>(call.workspace + at.partial), a.partial_lse = reinterpret_cast<float*>(call.workspace + at.partial_lse);
    if (counts) a.visited = reinterpret_cast<uint64_t*>(call.workspace + at.visited);
    a.heads = int(p.Hq), a.group = int(p.group()), a.q_len = int(p.Sq), a.k_len = int(p.Sk), a.D = int(p.D), a.Dv = int(p.Dv);
    a.chunks = choice.chunks, a.chunk_keys = choice.chunk_keys, a.scale = p.scale;
    a.terms.softcap = p.softcap, a.terms.slopes = call.slopes, a.terms.bias = call.bias.data, a.terms.bias_is_float = call.bias.dtype == DType::f32;
    a.terms.bias_batch = call.bias.stride.batch, a.terms.bias_head = call.bias.stride.head, a.terms.bias_row = call.bias.stride.row;
    a.terms.bias_column = call.bias.stride.column;
    return a;
}

// Boxes of box_rows x 64 elements. A dimension of size 1 has no stride to speak of, but a tensor map wants one.
::cuda::TensorMap tensor_map(const Device& device, const void* base, DType dtype, const Strides& s, int64_t batches, int64_t heads, int64_t rows,
                             int64_t columns, int box_rows) {
    const Driver& driver = device.driver();
    if (!driver.encode_tiled) throw Unavailable("this driver has no cuTensorMapEncodeTiled, which flash_sm90 needs; a driver since CUDA 12 has it");
    const auto bytes = [&](int64_t count, int64_t stride) { return uint64_t(count > 1 ? stride : kernels::blocks_of(columns, 8) * 8) * 2; };
    const uint64_t sizes[4] = {uint64_t(columns), uint64_t(rows), uint64_t(heads), uint64_t(batches)};
    const uint64_t strides[3] = {bytes(rows, s.row), bytes(heads, s.head), bytes(batches, s.batch)};
    const uint32_t box[4] = {64, uint32_t(box_rows), 1, 1}, steps[4] = {1, 1, 1, 1};
    ::cuda::TensorMap map;
    device.check(driver.encode_tiled(&map, dtype == DType::f16 ? ::cuda::kFloat16 : ::cuda::kBfloat16, 4, const_cast<void*>(base), sizes, strides, box, steps,
                                     ::cuda::kNoInterleave, ::cuda::kSwizzle128, ::cuda::kPromote128, ::cuda::kZerosOutside),
                 "encoding a tensor map");
    return map;
}

uint64_t step(uint64_t bytes) { return (bytes + 255) & ~uint64_t(255); }

} // namespace

void load(const Device& device, const Problem& p, const Choice& choice) {
    const kernels::Row* missing[4];
    size_t count = 0;
    const auto want = [&](const kernels::Row& row) {
        if (!device.has(row)) missing[count++] = &row;
    };
    want(*choice.row);
    if ((p.masks & (kKeep | kDocuments)) && !is_naive(choice)) want(pass_row()), want(list_row());
    if (choice.chunks > 1) want(chunks_row(p.dtype));
    if (count > 1) compile_together(missing, count, device.arch);
    for (size_t i = 0; i < count; ++i) device.function(*missing[i]);
}

uint64_t packed_bytes(const kernels::Packing& k) {
    return step(uint64_t(k.words()) * 4) + step(uint64_t(k.classes())) + step(uint64_t(k.tile_rows()) * sizeof(TileRow)) + step(uint64_t(k.blocks()) * 4);
}
PackedPlace packed_place(const kernels::Packing& k, unsigned char* memory) {
    unsigned char *classes = memory + step(uint64_t(k.words()) * 4), *rows = classes + step(uint64_t(k.classes()));
    return {reinterpret_cast<uint32_t*>(memory), classes, reinterpret_cast<TileRow*>(rows),
            reinterpret_cast<int*>(rows + step(uint64_t(k.tile_rows()) * sizeof(TileRow)))};
}

PackedCells pack(const Device& device, const Problem& p, const Choice& choice, const Mask& mask, DenseKeep keep, const PackedPlace& place,
                 ::cuda::Stream stream) {
    const kernels::Packing packing = choice.packing(p);
    const int heads_as_rows = choice.heads_as_rows ? int(p.group()) : 0;
    if (heads_as_rows) kernels::let_heads_be_rows(keep, heads_as_rows);
    if (packing.cells()) launch(device, pass_row(), packing.pass_grid(), stream, packing.pass(mask, keep, place.words, place.classes, heads_as_rows));
    launch(device, list_row(), packing.list_grid(), stream, packing.lists(place.classes, place.tile_rows, place.blocks));
    return packing.cells_for(mask, place.tile_rows, place.blocks, place.words);
}

void run(const Device& device, const Choice& choice, const Call& call, const DenseKeep& keep, const PackedCells* packed, bool counts, Address cancel,
         ::cuda::Stream stream) {
    const Problem& p = *call.problem;
    const Workspace at(p, choice);
    load(device, p, choice); // before anything starts: a failure to compile has then changed nothing
    if (counts) device.check(device.driver().fill_async(reinterpret_cast<Address>(call.workspace + at.visited), 0, 8, stream), "clearing a counter");
    Arguments arguments = arguments_of(choice, call, at, counts);
    arguments.cancel = reinterpret_cast<const int*>(cancel);
    if (choice.heads_as_rows) kernels::let_heads_be_rows(arguments);
    const ColumnStrides columns{p.q.column, p.k.column, p.v.column, p.o.column};
    if (is_naive(choice)) {
        float* scores = call.P ? call.P : reinterpret_cast<float*>(call.workspace + at.scores);
        launch(device, *choice.row, kernels::naive_grid(p.B, p.Hq, p.Sq), stream, arguments, columns, call.mask, keep, scores);
        return;
    }
    arguments.heads_together = kernels::heads_together(arguments, size_of(p.dtype), device.l2_bytes);
    const kernels::Grid grid = kernels::flash_grid(arguments, p.B, choice.row->block_m);
    const auto with_mask = [&](const auto& mask) {
        if (is_plain(choice)) launch(device, *choice.row, grid, stream, arguments, columns, mask);
        else if (choice.hopper)
            launch(device, *choice.row, grid, stream,
                   TensorMaps{tensor_map(device, call.Q, p.dtype, p.q, p.B, p.Hq, p.Sq, p.D, choice.row->block_m),
                              tensor_map(device, call.K, p.dtype, p.k, p.B, p.Hkv, p.Sk, p.D, choice.row->block_n),
                              tensor_map(device, call.V, p.dtype, p.v, p.B, p.Hkv, p.Sk, p.Dv, choice.row->block_n)},
                   arguments, mask);
        else launch(device, *choice.row, grid, stream, arguments, mask);
    };
    if (!choice.row->packed) with_mask(call.mask);
    else if (packed) with_mask(*packed);
    else
        with_mask(pack(device, p, choice, call.mask, keep,
                       {reinterpret_cast<uint32_t*>(call.workspace + at.words), call.workspace + at.classes,
                        reinterpret_cast<TileRow*>(call.workspace + at.tile_rows), reinterpret_cast<int*>(call.workspace + at.blocks)},
                       stream));
    if (choice.chunks > 1)
        launch(device, chunks_row(p.dtype), kernels::merge_grid(p.B * p.Hq * p.Sq), stream, kernels::merged(arguments, p.B),
               kernels::chunks_of(arguments, p.B));
}

void merge(const Device& device, const Merging& m, ::cuda::Stream stream) {
    const auto strided = [](auto* data, const Strides& s) { return Strided<std::remove_pointer_t<decltype(data)>>{data, s.batch, s.head, s.row, s.column}; };
    const auto part = [&](const Merging::Part& p) { return strided(static_cast<const unsigned char*>(p.O), p.stride); };
    const Merged<unsigned char> to{strided(static_cast<unsigned char*>(m.O), m.stride), m.LSE, m.rows(), m.H, m.S, m.Dv};
    const Pair<unsigned char> parts{{part(m.parts[0]), part(m.parts[1])}, {m.parts[0].LSE, m.parts[1].LSE}};
    if (m.rows()) launch(device, pair_row(m.dtype), kernels::merge_grid(m.rows()), stream, to, parts);
}

} // namespace attn::cuda
