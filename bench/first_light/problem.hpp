// problem.hpp — problems of each kernel family, judged by the double-precision reference.
#pragma once
#include <array>

#include "../../tests/reference/judge.hpp"
#include "arithmetic.hpp"
// The parameters of kernels, as their own sources declare them.
#include "flash_sm80.cuh"
#include "launch.hpp"
#include "mask_tiles.cuh"
#include "memory_efficient.cuh"
#include "merge.cuh"
#include "naive.cuh"

// What a row is asked, and how.
struct Asked {
    kernels::Row row;
    cases::Case what;
    std::string mend;           // where to look, if what comes before is right
    int chunk_keys = 0;         // keys in chunks of so many, which are merged; 0: all at once
    bool heads_as_rows = false; // of one query
    bool in_two = false;        // two attentions, of the first keys and of the rest, which are merged

    std::string name() const { return row.name + (what.name.empty() ? "" : ": " + what.name); }
    std::string element() const { return what.type == Type::f16 ? "fp16" : what.type == Type::bf16 ? "bf16" : "f32"; }
    kernels::Row merge() const { return row_named("merge." + element() + (in_two ? ".pair" : ".chunks")); }
    std::vector<Program> programs() const {
        std::vector<kernels::Row> all{row};
        if (row.packed) all.push_back(row_named("pack_mask")), all.push_back(row_named("tile_lists"));
        if (chunk_keys || in_two) all.push_back(merge());
        std::vector<Program> programs;
        for (const kernels::Row& r : all) programs.push_back({r.file, r.expression});
        return programs;
    }
    static kernels::Row row_named(const std::string& name) {
        for (const kernels::Row& row : kernels::rows())
            if (row.name == name) return row;
        throw std::logic_error("kernels.def has no row " + name);
    }
};
// First one problem for each row of the plain kernels and of the middle classes, then what is special, on one row each.
inline std::vector<Asked> problems_of(int architecture) {
    std::vector<Asked> all;
    const auto ask = [&](const kernels::Row& row, const std::string& name, const std::string& mend, const auto& change) {
        if (!row.runs_on(architecture)) return;
        Asked a{row, {}, mend};
        const auto of = [&](const char* type) { return row.expression.find(type) != std::string::npos; };
        cases::Case& c = a.what;
        c.name = name, c.type = of("fp16") ? Type::f16 : of("bf16") ? Type::bf16 : Type::f32;
        c.B = 2, c.Hq = 4, c.Hkv = 2, c.Sq = 300, c.Sk = 450, c.key_lengths = {450, 333}, c.causal = !row.packed;
        if (row.D) c.D = c.Dv = row.D;
        if (row.packed) c.keep = cases::Keep::blocks;
        change(a);
        all.push_back(a);
    };
    for (const kernels::Row& row : kernels::rows()) {
        const bool flash = row.D == 64 || (row.D == 128 && row.expression.find("bf16") != std::string::npos);
        if (row.file == "naive.cuh" || row.file == "memory_efficient.cuh" || (flash && (row.oldest == 90 || !row.termed)))
            ask(row, "", row.oldest == 90 ? "setmaxnreg, the order of waits and arrivals, if everything above is right" : "", [](Asked&) {});
    }
    const auto special = [&](const char* row, const char* name, const char* mend, const auto& change) { ask(Asked::row_named(row), name, mend, change); };
    const auto small = [](Asked& a) { a.what.B = 1, a.what.Hq = 2, a.what.Hkv = 1, a.what.key_lengths = {333}; };
    const auto filled = [&](Asked& a) { small(a), a.what.D = 200, a.what.Dv = 184; };
    constexpr const char* kWidth = "what the width brings along: registers, shared memory, slabs or rows of other lengths";
    special("flash_sm80.d32.fp16.rule.scaled", "", kWidth, small);
    special("flash_sm80.d96.bf16.packed.scaled", "", kWidth, small);
    special("flash_sm80.d192.fp16.packed.scaled", "", kWidth, small);
    special("flash_sm80.d256.bf16.rule.scaled", "rows filled with zeros", kWidth, filled);
    special("flash_sm90.d192.fp16.packed", "", kWidth, small);
    special("flash_sm90.d256.bf16.rule", "rows filled with zeros", kWidth, filled);
    special("flash_sm80.d64.bf16.rule.termed", "bias, softcap, ALiBi, a negative scale", "score.cuh: Termed, tanh_of",
            [](Asked& a) { a.what.bias = cases::Bias::hiding, a.what.alibi = true, a.what.softcap = 10, a.what.has_scale = true, a.what.scale = -0.3f; });
    const auto decoding = [](Asked& a) {
        a.what.Hq = 8, a.what.Sq = 1, a.what.Sk = 1500, a.what.key_lengths = {1500, 777}, a.what.offset_kind = reference::Offset::bottom_right;
        a.what.keep_dims = cases::kBatch | cases::kKey; // heads with masks of their own are no rows of one tile
        a.chunk_keys = 512, a.heads_as_rows = true;
    };
    constexpr const char* kDecoding = "let_heads_be_rows, chunks_of (launch.hpp), store.cuh, merge.cuh";
    special("flash_sm80.d128.bf16.rule.scaled.short", "one query, heads as rows, keys in chunks", kDecoding, decoding);
    special("flash_sm80.d64.fp16.packed.scaled.short", "one query, heads as rows, keys in chunks", kDecoding, decoding);
    special("memory_efficient.f32.rule", "in two, merged", "merge.cuh", [](Asked& a) { a.what.causal = false, a.what.key_lengths = {}, a.in_two = true; });
    return all;
}

template <class E>
class Attention {
public:
    Attention(Gpu& gpu, const Asked& asked)
        : gpu_(gpu),
          asked_(asked),
          row_(asked.row),
          sample_(asked.what),
          p_(sample_.problem),
          judge_(p_),
          Q_(gpu, sample_.Q.bytes),
          K_(gpu, sample_.K.bytes),
          V_(gpu, sample_.V.bytes),
          bias_(gpu, sample_.bias.bytes),
          O_(gpu, sample_.O.bytes.size()),
          LSE_(gpu, size_t(p_.B * p_.Hq * p_.Sq)),
          slopes_(gpu, p_.slopes),
          lengths_(gpu, p_.key_lengths),
          keep_(gpu, p_.keep.data),
          visited_(gpu, std::vector<uint64_t>(1)) {}

    void run() {
        if (row_.file == "naive.cuh") run_naive();
        else if (asked_.in_two) run_in_two();
        else if (asked_.chunk_keys) run_in_chunks();
        else run_row(problem(), mask());
        judge();
    }

private:
    template <class... A>
    void launch(const kernels::Row& row, kernels::Grid grid, const A&... args) {
        gpu_.launch({row.file, row.expression}, grid.x, grid.y, grid.z, unsigned(row.threads), size_t(row.smem), args...);
    }
    void run_naive() {
        const Gpu::Array<float> P(gpu_, size_t(p_.B * p_.Hq * p_.Sq * p_.Sk));
        launch(row_, kernels::naive_grid(p_.B, p_.Hq, p_.Sq), problem(), kColumns, mask(), keep(), P.data());
    }
    void run_row(const Problem<E>& d, const attn::Mask& mask) {
        const kernels::Grid grid = kernels::flash_grid(d, p_.B, row_.block_m);
        const auto go = [&](const auto& m) {
            struct {
                cuda::TensorMap Q, K, V;
            } maps;
            if (row_.oldest == 90) {
                maps = {map(Q_.data(), sample_.Q, row_.block_m), map(K_.data(), sample_.K, row_.block_n), map(V_.data(), sample_.V, row_.block_n)};
                launch(row_, grid, maps, d, m);
            } else if (row_.file == "memory_efficient.cuh") launch(row_, grid, d, kColumns, m);
            else launch(row_, grid, d, m);
        };
        if (row_.packed) go(pack(d, mask));
        else go(RuleMask{mask});
    }
    void run_in_chunks() {
        Problem<E> d = problem();
        d.chunks = int(kernels::blocks_of(p_.Sk, asked_.chunk_keys)), d.chunk_keys = asked_.chunk_keys;
        const size_t rows = size_t(p_.B * p_.Hq * p_.Sq * d.chunks);
        const Gpu::Array<float> O(gpu_, rows * size_t(p_.Dv)), LSE(gpu_, rows);
        d.partial = O.data(), d.partial_lse = LSE.data();
        run_row(d, mask());
        launch(asked_.merge(), kernels::merge_grid(p_.B * p_.Hq * p_.Sq), kernels::merged(d, p_.B), kernels::chunks_of(d, p_.B));
    }
    void run_in_two() {
        const int all = int(p_.Sk), first = all * 2 / 5, rows = int(p_.B * p_.Hq * p_.Sq);
        const Gpu::Array<E> O[2]{{gpu_, size_t(rows * p_.Dv)}, {gpu_, size_t(rows * p_.Dv)}};
        const Gpu::Array<float> LSE[2]{{gpu_, size_t(rows)}, {gpu_, size_t(rows)}};
        Pair<E> parts{};
        for (const int i : {0, 1}) {
            Problem<E> d = problem();
            d.K.data += i * first * d.K.row, d.V.data += i * first * d.V.row, d.k_len = i ? all - first : first;
            d.O.data = O[i].data(), d.LSE = LSE[i].data(); // O's strides: it is contiguous
            attn::Mask m = mask();
            m.Sk = d.k_len;
            run_row(d, m);
            parts.O[i] = {d.O.data, d.O.batch, d.O.head, d.O.row, 1}, parts.LSE[i] = d.LSE;
        }
        launch(asked_.merge(), kernels::merge_grid(rows), kernels::merged(problem(), p_.B), parts);
    }

    template <class T>
    static Matrices<T> matrices(unsigned char* data, const cases::Tensor& t) {
        return {reinterpret_cast<T*>(data), t.strides[0], t.strides[1], t.strides[2]};
    }
    cuda::TensorMap map(const void* base, const cases::Tensor& t, int box) const {
        return gpu_.tensor_map(base, is_half<E>, t.shape[3], t.shape[2], t.shape[1], t.shape[0], t.strides[2], t.strides[1], t.strides[0], box);
    }
    Problem<E> problem() const {
        Problem<E> d{};
        d.Q = matrices<const E>(Q_.data(), sample_.Q), d.K = matrices<const E>(K_.data(), sample_.K), d.V = matrices<const E>(V_.data(), sample_.V);
        d.O = matrices<E>(O_.data(), sample_.O), d.LSE = LSE_.data(), d.visited = visited_.data();
        d.heads = int(p_.Hq), d.group = int(p_.Hq / p_.Hkv), d.q_len = int(p_.Sq), d.k_len = int(p_.Sk), d.D = int(p_.D), d.Dv = int(p_.Dv);
        d.chunks = 1, d.chunk_keys = 1 << 30, d.scale = p_.scale;
        const auto [batch, head, row, column] = steps(p_.bias.shape);
        d.terms = {p_.softcap, slopes_.data(), bias_.data(), sample_.bias.type == Type::f32, batch, head, row, column};
        if (asked_.heads_as_rows) kernels::let_heads_be_rows(d);
        d.heads_together = d.heads;
        return d;
    }
    attn::Mask mask() const {
        attn::Mask m;
        m.Sq = p_.Sq, m.Sk = p_.Sk, m.key_lengths = lengths_.data(), m.causal = p_.causal, m.bottom_right = p_.offset_kind == reference::Offset::bottom_right;
        return m;
    }
    DenseKeep keep() const {
        const auto [batch, head, row, column] = steps(p_.keep.shape);
        DenseKeep k{keep_.data(), batch, head, row, column};
        if (asked_.heads_as_rows) kernels::let_heads_be_rows(k, int(p_.Hq / p_.Hkv));
        return k;
    }
    static cases::Shape steps(const cases::Shape& shape) { // of a dense tensor, 0 where it is broadcast
        cases::Shape all = cases::contiguous(shape);
        for (size_t i = 0; i < 4; ++i) all[i] *= shape[i] > 1;
        return all;
    }
    PackedMask pack(const Problem<E>& d, const attn::Mask& mask) {
        const kernels::Packing packing(p_.B, d.heads, d.q_len, d.k_len, row_.block_m, row_.block_n, d.chunks, d.chunk_keys, true);
        words_ = std::make_unique<Gpu::Array<uint32_t>>(gpu_, size_t(packing.words()));
        classes_ = std::make_unique<Gpu::Array<uint8_t>>(gpu_, size_t(packing.classes()));
        tile_rows_ = std::make_unique<Gpu::Array<TileRow>>(gpu_, size_t(packing.tile_rows()));
        blocks_ = std::make_unique<Gpu::Array<int>>(gpu_, size_t(packing.blocks()));
        launch(Asked::row_named("pack_mask"), packing.pass_grid(), packing.pass(mask, keep(), words_->data(), classes_->data(), d.heads_as_rows));
        launch(Asked::row_named("tile_lists"), packing.list_grid(), packing.lists(classes_->data(), tile_rows_->data(), blocks_->data()));
        return {packing.cells_for(mask, tile_rows_->data(), blocks_->data(), words_->data())};
    }
    void judge() {
        const auto O = O_.host();
        const auto lse = LSE_.host();
        const auto& s = sample_.O.strides;
        reference::Output out;
        out.O = [&](int64_t b, int64_t h, int64_t i, int64_t d) {
            return reference::load(O.data() + (b * s[0] + h * s[1] + i * s[2] + d * s[3]) * reference::bytes_of(p_.type), p_.type);
        };
        out.lse = [&](int64_t b, int64_t h, int64_t i) { return double(lse[size_t((b * p_.Hq + h) * p_.Sq + i)]); };
        const reference::Verdict verdict = judge_(out);
        expect(bool(verdict), verdict.wrong);
    }

    static constexpr ColumnStrides kColumns{1, 1, 1, 1};
    Gpu& gpu_;
    const Asked& asked_;
    const kernels::Row& row_;
    cases::Sample sample_;
    const reference::Problem& p_;
    const reference::Judge judge_;
    Gpu::Array<unsigned char> Q_, K_, V_, bias_, O_;
    Gpu::Array<float> LSE_, slopes_;
    Gpu::Array<int32_t> lengths_;
    Gpu::Array<uint8_t> keep_;
    Gpu::Array<uint64_t> visited_;
    std::unique_ptr<Gpu::Array<uint32_t>> words_;
    std::unique_ptr<Gpu::Array<uint8_t>> classes_;
    std::unique_ptr<Gpu::Array<TileRow>> tile_rows_;
    std::unique_ptr<Gpu::Array<int>> blocks_;
};

inline void run(Gpu& gpu, const Asked& asked) {
    switch (asked.what.type) {
        case Type::f16: return Attention<fp16>(gpu, asked).run();
        case Type::bf16: return Attention<bf16>(gpu, asked).run();
        default: return Attention<float>(gpu, asked).run();
    }
}
