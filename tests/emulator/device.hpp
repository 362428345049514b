// device.hpp — a case of the shared list in the emulator's global memory, and what the host does there before and after a kernel.
#pragma once
#include "../native/sample.hpp"
#include "../reference/judge.hpp"
#include "emulator.hpp"
#include "launch.hpp"
#include "mask_tiles.cuh"
#include "merge.cuh"
#include "naive.cuh"
#include "problem.cuh"

class Device {
public:
    explicit Device(cases::Sample& s)
        : sample(s),
          p(s.problem),
          Q_(bytes_of(s.Q)),
          K_(bytes_of(s.K)),
          V_(bytes_of(s.V)),
          O_(s.O.bytes.size(), false),
          bias_(bytes_of(s.bias)),
          LSE_(size_t(p.B * p.Hq * p.Sq), false),
          slopes_(copied(p.slopes)),
          key_lengths_(copied(p.key_lengths)),
          query_lengths_(copied(p.query_lengths)),
          prefix_(copied(p.prefix)),
          q_documents_(copied(p.q_documents)),
          k_documents_(copied(p.k_documents)),
          offsets_(copied(p.offsets)),
          keep_(copied(p.keep.data)),
          visited_(1),
          cancel_(1) {
        cancel_[0] = 0;
    }

    template <class E>
    Problem<E> problem() const {
        Problem<E> d{};
        d.Q = matrices<const E>(Q_, sample.Q), d.K = matrices<const E>(K_, sample.K), d.V = matrices<const E>(V_, sample.V), d.O = matrices<E>(O_, sample.O);
        d.LSE = LSE_.data(), d.visited = visited_.data(), d.cancel = cancellable ? cancel_.data() : nullptr;
        d.heads = int(p.Hq), d.group = int(p.Hkv ? p.Hq / p.Hkv : 1), d.q_len = int(p.Sq), d.k_len = int(p.Sk), d.D = int(p.D), d.Dv = int(p.Dv);
        d.chunks = 1, d.chunk_keys = 1 << 30, d.scale = p.scale, d.heads_as_rows = 0;
        d.terms.softcap = p.softcap, d.terms.slopes = slopes_.size() ? slopes_.data() : nullptr;
        if (p.bias) {
            d.terms.bias = bias_.data(), d.terms.bias_is_float = sample.bias.type == reference::Type::f32;
            int64_t steps[4];
            broadcast(sample.bias.shape, sample.bias.strides, steps);
            d.terms.bias_batch = steps[0], d.terms.bias_head = steps[1], d.terms.bias_row = steps[2], d.terms.bias_column = steps[3];
        }
        if (heads_as_rows) kernels::let_heads_be_rows(d);
        d.heads_together = kernels::heads_together(d, int64_t(sizeof(E)), cancellable ? 1 : 1 << 20); // one group at a time, or several
        return d;
    }
    attn::Mask mask() const {
        attn::Mask m;
        m.Sq = p.Sq, m.Sk = p.Sk;
        const auto given = [](const auto& b) { return b.size() ? b.data() : nullptr; };
        m.key_lengths = given(key_lengths_), m.query_lengths = given(query_lengths_), m.prefix = given(prefix_);
        m.q_documents = given(q_documents_), m.k_documents = given(k_documents_), m.offsets = given(offsets_);
        m.causal = p.causal, m.left = p.left, m.right = p.right;
        m.bottom_right = p.offset_kind == reference::Offset::bottom_right;
        m.offset = p.offset_kind == reference::Offset::value ? p.offset : 0;
        return m;
    }
    DenseKeep keep() const {
        DenseKeep k{};
        if (!p.keep) return k;
        int64_t steps[4];
        broadcast(p.keep.shape, cases::contiguous(p.keep.shape), steps);
        k.data = keep_.data(), k.batch = steps[0], k.head = steps[1], k.row = steps[2], k.column = steps[3];
        if (heads_as_rows) kernels::let_heads_be_rows(k, group());
        return k;
    }
    bool needs_packing() const { return p.keep || !p.q_documents.empty(); }
    bool plain() const { return p.scale > 0 && !(p.softcap > 0) && !p.bias && p.slopes.empty(); } // Scaled serves

    // The device's own pass, run here in the emulator as well.
    PackedMask packed(int block_m, int block_n, int chunks, int chunk_keys) {
        const bool stored = p.keep || p.q_documents.empty(); // of rules alone as well: plans do not ask for it
        const kernels::Packing packing(p.B, heads_as_rows ? p.Hkv : p.Hq, heads_as_rows ? group() : p.Sq, p.Sk, block_m, block_n, chunks, chunk_keys, stored);
        words_ = std::make_unique<emu::Buffer<uint32_t>>(size_t(packing.words()), false);
        classes_ = std::make_unique<emu::Buffer<uint8_t>>(size_t(packing.classes()), false);
        tile_rows_ = std::make_unique<emu::Buffer<TileRow>>(size_t(packing.tile_rows()), false);
        blocks_ = std::make_unique<emu::Buffer<int>>(size_t(packing.blocks()), false);
        if (packing.cells())
            emu::launch(pack_mask, dim(packing.pass_grid()), {kPackWarps * 32}, 0,
                        packing.pass(mask(), keep(), words_->data(), classes_->data(), heads_as_rows ? group() : 0));
        emu::launch(tile_lists, dim(packing.list_grid()), {32}, 0, packing.lists(classes_->data(), tile_rows_->data(), blocks_->data()));
        return {packing.cells_for(mask(), tile_rows_->data(), blocks_->data(), words_->data())};
    }
    static Dim3 dim(const kernels::Grid& g) { return {g.x, g.y, g.z}; }
    // What a kernel with tiles of this shape may do, by the reference's own `sees`.
    struct Tiles {
        uint64_t seen = 0, partial = 0;  // those in which some query sees some key; those of them in which some query does not see some key
        uint64_t keys = 0, box_keys = 0; // of the tiles seen: below the batch's length, below the tensor's
        uint64_t scores = 0;             // of the partial ones: of queries and keys below the batch's lengths
    };
    Tiles tiles(int block_m, int block_n) const {
        Tiles all;
        const int64_t together = heads_as_rows ? group() : 1;
        for (int64_t b = 0; b < p.B; ++b)
            for (int64_t h = 0; h < p.Hq; h += together)
                for (int64_t q0 = 0; q0 < p.Sq; q0 += block_m)
                    for (int64_t k0 = 0; k0 < p.Sk; k0 += block_n) {
                        const int64_t q1 = std::min({q0 + block_m, p.Sq, p.m(b)}), k1 = k0 + block_n;
                        bool some = false, all_of_it = true;
                        for (int64_t g = h; g < h + together; ++g)
                            for (int64_t i = q0; i < q1 && !(some && !all_of_it); ++i)
                                for (int64_t j = k0; j < k1 && !(some && !all_of_it); ++j) {
                                    const bool sees = j < p.Sk && p.sees(b, g, i, j);
                                    some |= sees, all_of_it &= sees;
                                }
                        if (!some) continue;
                        const int64_t keys = std::min({k1, p.Sk, p.n(b)}) - k0;
                        ++all.seen, all.keys += uint64_t(keys), all.box_keys += uint64_t(std::min(k1, p.Sk) - k0);
                        if (!all_of_it) ++all.partial, all.scores += uint64_t((q1 - q0) * keys);
                    }
        return all;
    }

    // Partial results of `chunks` chunks; the caller merges them.
    template <class E>
    void split(Problem<E>& d, int chunks, int chunk_keys) {
        const size_t rows = size_t(p.B * p.Hq * p.Sq) * size_t(chunks);
        partial_ = std::make_unique<emu::Buffer<float>>(rows * size_t(p.Dv), false);
        partial_lse_ = std::make_unique<emu::Buffer<float>>(rows, false);
        d.chunks = chunks, d.chunk_keys = chunk_keys, d.partial = partial_->data(), d.partial_lse = partial_lse_->data();
    }
    template <class E>
    void merge(const Problem<E>& d) {
        emu::launch(::merge<E, Chunks>, dim(kernels::merge_grid(p.B * p.Hq * p.Sq)), {kMergeWarps * 32}, 0, kernels::merged(d, p.B),
                    kernels::chunks_of(d, p.B));
    }

    reference::Verdict verdict(const reference::Judge& judge) const {
        reference::Output out;
        out.O = [&](int64_t b, int64_t h, int64_t i, int64_t d) {
            const auto& s = sample.O.strides;
            return reference::load(O_.data() + (b * s[0] + h * s[1] + i * s[2] + d * s[3]) * reference::bytes_of(sample.O.type), sample.O.type);
        };
        out.lse = [&](int64_t b, int64_t h, int64_t i) { return double(LSE_[size_t((b * p.Hq + h) * p.Sq + i)]); };
        return judge(out);
    }
    void cancel() { cancellable = true, cancel_[0] = 1; }
    uint64_t visited() const { return visited_[0]; }
    uint64_t bytes_of_K_read() const { return K_.bytes_read(); }
    std::vector<unsigned char> output() const { return {O_.data(), O_.data() + O_.size()}; }
    void clear() {
        std::memset(O_.data(), 0xFF, O_.size());
        std::memset(LSE_.data(), 0xFF, LSE_.size() * 4);
        visited_[0] = 0, K_.bytes_read() = 0;
    }
    unsigned char* raw(char which) const { return which == 'q' ? Q_.data() : which == 'k' ? K_.data() : V_.data(); }

    cases::Sample& sample;
    const reference::Problem& p;
    bool heads_as_rows = false; // the heads of a group as rows of one query
    bool cancellable = false;   // kernels ask whether the run was given up
    int group() const { return int(p.Hkv ? p.Hq / p.Hkv : 1); }

private:
    template <class T>
    struct Copied : emu::Buffer<T> {
        explicit Copied(const std::vector<T>& from) : emu::Buffer<T>(from.size()) {
            if (!from.empty()) std::memcpy(this->data(), from.data(), from.size() * sizeof(T));
        }
        Copied(const Copied& o) = delete;
    };
    template <class T>
    static const std::vector<T>& copied(const std::vector<T>& v) {
        return v;
    }
    static const std::vector<unsigned char>& bytes_of(const cases::Tensor& t) { return t.bytes; }
    template <class T, class B>
    static Matrices<T> matrices(const B& bytes, const cases::Tensor& t) {
        return {reinterpret_cast<T*>(bytes.data()), t.strides[0], t.strides[1], t.strides[2]};
    }
    static void broadcast(const cases::Shape& shape, const cases::Shape& strides, int64_t (&steps)[4]) {
        for (size_t d = 0; d < 4; ++d) steps[d] = shape[d] == 1 ? 0 : strides[d];
    }

    Copied<unsigned char> Q_, K_, V_;
    emu::Buffer<unsigned char> O_;
    Copied<unsigned char> bias_;
    emu::Buffer<float> LSE_;
    Copied<float> slopes_;
    Copied<int32_t> key_lengths_, query_lengths_, prefix_, q_documents_, k_documents_, offsets_;
    Copied<uint8_t> keep_;
    emu::Buffer<uint64_t> visited_;
    emu::Buffer<int> cancel_;
    std::unique_ptr<emu::Buffer<uint32_t>> words_;
    std::unique_ptr<emu::Buffer<uint8_t>> classes_;
    std::unique_ptr<emu::Buffer<TileRow>> tile_rows_;
    std::unique_ptr<emu::Buffer<int>> blocks_;
    std::unique_ptr<emu::Buffer<float>> partial_, partial_lse_;
};
