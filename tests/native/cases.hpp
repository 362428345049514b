// cases.hpp — the one list of problems that tests and the timing harness share: first those named by what is special about them, then a seeded sweep.
#pragma once
#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "../reference/attention.hpp"

namespace cases {

using reference::Offset;
using reference::Type;

enum class Layout {
    bhsd,            // contiguous
    bshd,            // heads beside each other in a row
    gaps,            // rows, heads and batches apart from each other
    shared_keys,     // one K and V for all batches: stride 0
    spread_columns,  // elements of a row two apart: flash refuses it
    transposed_keys, // K as [B, H, D, S]: flash refuses it
    aligned_gaps,    // as gaps, but every row begins at a multiple of 16 bytes: flash on a GPU takes any D
};
enum class Keep {
    none,
    all,    // hides nothing
    half,   // each score by chance: every cell is partial
    blocks, // whole cells hidden or kept, the borders not on the grid
    sparse, // few scores; some rows see nothing
    empty,  // hides everything
};
enum class Bias {
    none,
    normal,
    hiding,   // -inf at places
    all_rows, // -inf in whole rows
    lowest,   // the smallest finite number everywhere
};
enum Broadcast : uint32_t { kBatch = 8, kHead = 4, kQuery = 2, kKey = 1, kFull = 15 }; // the dimensions a dense tensor has in full

struct Case {
    std::string name;
    int64_t B = 1, Hq = 2, Hkv = 2, Sq = 64, Sk = 64, D = 64, Dv = 64;
    Type type = Type::f32;
    Layout layout = Layout::bhsd;
    std::vector<int32_t> key_lengths, query_lengths, prefix;
    bool causal = false;
    int64_t left = -1, right = -1;
    Offset offset_kind = Offset::top_left;
    int64_t offset = 0;
    std::vector<int32_t> offsets;
    int documents = 0; // how many in a sequence; some tokens are padding (-1)
    Keep keep = Keep::none;
    uint32_t keep_dims = kFull;
    Bias bias = Bias::none;
    uint32_t bias_dims = kFull;
    bool bias_own_type = false; // in the dtype of Q instead of float32
    bool alibi = false;
    float scale = 0; // with has_scale
    bool has_scale = false;
    float softcap = 0;

    // A copy with another name, changed by f.
    template <class F>
    Case but(std::string other, F&& f) const {
        Case c = *this;
        c.name = std::move(other);
        f(c);
        return c;
    }
};

// A small generator whose numbers are the same everywhere (splitmix64).
class Random {
public:
    explicit Random(uint64_t seed) : state_(seed) {}
    uint64_t next() {
        uint64_t z = state_ += 0x9e3779b97f4a7c15;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
        z = (z ^ z >> 27) * 0x94d049bb133111eb;
        return z ^ z >> 31;
    }
    int64_t below(int64_t n) { return int64_t(next() % uint64_t(n)); }
    int64_t between(int64_t a, int64_t b) { return a + below(b - a + 1); }
    bool chance(double p) { return uniform() < p; }
    double uniform() { return double(next() >> 11) * 0x1p-53; }
    // Near enough to normal: the sum of four uniforms, variance 1.
    double normal() { return (uniform() + uniform() + uniform() + uniform() - 2) * 1.7320508075688772; }

private:
    uint64_t state_;
};

inline std::vector<Case> named() {
    const Case plain;
    std::vector<Case> all;
    const auto add = [&](std::string name, auto&& f) { all.push_back(plain.but(std::move(name), f)); };
    // Sizes
    add("one cell exactly", [](Case&) {});
    add("one score", [](Case& c) { c.Sq = c.Sk = c.D = c.Dv = 1, c.Hq = c.Hkv = 1; });
    add("keys end inside a cell", [](Case& c) { c.Sk = 75; });
    add("queries end inside a cell", [](Case& c) { c.Sq = 75; });
    add("one key past a cell", [](Case& c) { c.Sk = 65, c.Sq = 65; });
    add("one key short of a cell", [](Case& c) { c.Sk = 127, c.Sq = 63; });
    add("several key blocks", [](Case& c) { c.Sq = 130, c.Sk = 600; });
    add("several query blocks", [](Case& c) { c.Sq = 700, c.Sk = 70, c.Hq = c.Hkv = 1; });
    add("no keys at all", [](Case& c) { c.Sk = 0; });
    add("no queries", [](Case& c) { c.Sq = 0; });
    add("no batches", [](Case& c) { c.B = 0; });
    add("no heads", [](Case& c) { c.Hq = c.Hkv = 0; });
    add("head dimension 1", [](Case& c) { c.D = c.Dv = 1; });
    add("odd head dimensions", [](Case& c) { c.D = 33, c.Dv = 37, c.Sk = 90; });
    add("values wider than keys", [](Case& c) { c.D = 40, c.Dv = 129, c.Sk = 90; });
    add("keys wider than values", [](Case& c) { c.D = 200, c.Dv = 3, c.Sk = 90; });
    add("head dimension 128", [](Case& c) { c.D = c.Dv = 128, c.Sq = 100, c.Sk = 200; });
    add("head dimension 256", [](Case& c) { c.D = c.Dv = 256, c.Sk = 140; });
    add("the largest head dimension of flash", [](Case& c) { c.D = c.Dv = 512, c.Sk = 140, c.Hq = c.Hkv = 1; });
    add("head dimensions too large for flash", [](Case& c) { c.D = 600, c.Dv = 1100, c.Sk = 140, c.Hq = c.Hkv = 1; });
    add("batches and heads", [](Case& c) { c.B = 3, c.Hq = c.Hkv = 5, c.Sq = 20, c.Sk = 90; });
    add("four query heads to a key head", [](Case& c) { c.B = 2, c.Hq = 8, c.Hkv = 2, c.Sk = 90; });
    add("one key head for all", [](Case& c) { c.B = 2, c.Hq = 6, c.Hkv = 1, c.Sk = 90; });
    // One query or few
    add("one query", [](Case& c) { c.Sq = 1, c.Sk = 300, c.B = 2; });
    add("one query, many keys", [](Case& c) { c.Sq = 1, c.Sk = 3000, c.Hq = 4, c.Hkv = 1; });
    add("one query, many keys, heads of their own", [](Case& c) { c.Sq = 1, c.Sk = 2100, c.D = c.Dv = 128; });
    add("one query in a cache", [](Case& c) {
        c.Sq = 1, c.Sk = 1500, c.B = 3, c.Hq = 8, c.Hkv = 2, c.causal = true;
        c.offset_kind = Offset::bottom_right, c.key_lengths = {1500, 1, 777};
    });
    add("three queries in a cache", [](Case& c) {
        c.Sq = 3, c.Sk = 1100, c.Hq = 4, c.Hkv = 2, c.causal = true;
        c.offset_kind = Offset::bottom_right;
    });
    add("one query, window", [](Case& c) { c.Sq = 1, c.Sk = 1500, c.left = 100, c.right = 0, c.offset_kind = Offset::bottom_right; });
    add("one query, bias and keep", [](Case& c) { c.Sq = 1, c.Sk = 700, c.B = 2, c.bias = Bias::normal, c.keep = Keep::half; });
    add("one query, wide values", [](Case& c) { c.Sq = 1, c.Sk = 300, c.D = 72, c.Dv = 300; });
    add("one query sees nothing", [](Case& c) { c.Sq = 1, c.Sk = 700, c.B = 2, c.key_lengths = {0, 700}; });
    // Scale and softcap
    add("scale negative", [](Case& c) { c.has_scale = true, c.scale = -0.3f, c.key_lengths = {50}; });
    add("scale zero", [](Case& c) { c.has_scale = true, c.scale = 0, c.key_lengths = {50}; });
    add("scale large", [](Case& c) { c.has_scale = true, c.scale = 3, c.Sk = 200; });
    add("softcap", [](Case& c) { c.softcap = 2, c.Sk = 200; });
    add("softcap with bias and a mask", [](Case& c) { c.softcap = 30, c.bias = Bias::hiding, c.causal = true, c.Sk = 100, c.Sq = 100; });
    add("softcap far above the scores", [](Case& c) { c.softcap = 1000, c.Sk = 200; });
    add("softcap far below the scores", [](Case& c) { c.softcap = 0.25f, c.has_scale = true, c.scale = 2; });
    // Lengths
    add("row sees nothing", [](Case& c) { c.key_lengths = {0}; });
    add("key lengths", [](Case& c) { c.B = 4, c.Sk = 200, c.key_lengths = {200, 0, 64, 131}; });
    add("query lengths", [](Case& c) { c.B = 4, c.Sq = 130, c.query_lengths = {130, 0, 64, 99}; });
    add("both lengths", [](Case& c) { c.B = 3, c.Sq = 90, c.Sk = 150, c.query_lengths = {90, 1, 40}, c.key_lengths = {1, 150, 77}; });
    // Causal, window, offsets
    add("causal", [](Case& c) { c.Sq = c.Sk = 150, c.causal = true; });
    add("causal, more keys than queries", [](Case& c) { c.Sq = 70, c.Sk = 210, c.causal = true; });
    add("causal, more queries than keys", [](Case& c) { c.Sq = 210, c.Sk = 70, c.causal = true; });
    add("causal, bottom right", [](Case& c) { c.Sq = 70, c.Sk = 210, c.causal = true, c.offset_kind = Offset::bottom_right; });
    add("causal, bottom right, rows before the first key", [](Case& c) { c.Sq = 210, c.Sk = 70, c.causal = true, c.offset_kind = Offset::bottom_right; });
    add("causal, bottom right with lengths", [](Case& c) {
        c.B = 3, c.Sq = 100, c.Sk = 180, c.causal = true;
        c.offset_kind = Offset::bottom_right, c.key_lengths = {180, 20, 64}, c.query_lengths = {64, 100, 64};
    });
    add("causal, past length", [](Case& c) { c.Sq = 70, c.Sk = 210, c.causal = true, c.offset_kind = Offset::value, c.offset = 33; });
    add("causal, offset negative", [](Case& c) { c.Sq = 130, c.Sk = 130, c.causal = true, c.offset_kind = Offset::value, c.offset = -70; });
    add("causal, an offset of each batch", [](Case& c) {
        c.B = 3, c.Sq = 70, c.Sk = 140, c.causal = true;
        c.offset_kind = Offset::per_batch, c.offsets = {-5, 0, 70};
    });
    add("window", [](Case& c) { c.Sq = c.Sk = 300, c.left = 70, c.right = 20; });
    add("window of one key", [](Case& c) { c.Sq = c.Sk = 150, c.left = 0, c.right = 0; });
    add("window open to the left", [](Case& c) { c.Sq = c.Sk = 150, c.right = 3; });
    add("window open to the right", [](Case& c) { c.Sq = c.Sk = 150, c.left = 3; });
    add("window, causal", [](Case& c) { c.Sq = c.Sk = 300, c.left = 100, c.causal = true; });
    add("window past the last key", [](Case& c) { c.Sq = 200, c.Sk = 80, c.left = 10, c.right = 10; });
    // Prefix, documents
    add("prefix", [](Case& c) { c.B = 3, c.Sq = c.Sk = 150, c.prefix = {0, 150, 70}; });
    add("prefix in a window, bottom right", [](Case& c) {
        c.B = 2, c.Sq = 60, c.Sk = 150, c.prefix = {5, 100}, c.left = 64;
        c.offset_kind = Offset::bottom_right;
    });
    add("documents", [](Case& c) { c.B = 2, c.Sq = c.Sk = 200, c.documents = 5; });
    add("documents, causal, lengths", [](Case& c) { c.B = 2, c.Sq = c.Sk = 200, c.documents = 3, c.causal = true, c.key_lengths = {150, 200}; });
    add("one document", [](Case& c) { c.Sq = c.Sk = 130, c.documents = 1; });
    // Dense masks
    add("keep hides nothing", [](Case& c) { c.Sq = 100, c.Sk = 200, c.keep = Keep::all; });
    add("keep hides half", [](Case& c) { c.B = 2, c.Sq = 100, c.Sk = 200, c.keep = Keep::half; });
    add("keep hides everything", [](Case& c) { c.keep = Keep::empty; });
    add("keep in blocks", [](Case& c) { c.Sq = 300, c.Sk = 400, c.keep = Keep::blocks; });
    add("keep with rows that see nothing", [](Case& c) { c.Sq = 100, c.Sk = 150, c.keep = Keep::sparse; });
    add("keep of one row for all queries", [](Case& c) { c.B = 2, c.Sq = 100, c.Sk = 150, c.keep = Keep::half, c.keep_dims = kBatch | kKey; });
    add("keep of one column", [](Case& c) { c.Sq = 100, c.Sk = 150, c.keep = Keep::half, c.keep_dims = kQuery; });
    add("keep of one byte", [](Case& c) { c.keep = Keep::all, c.keep_dims = 0; });
    add("keep for each head of a group", [](Case& c) { c.Hq = 6, c.Hkv = 2, c.Sk = 150, c.keep = Keep::half, c.keep_dims = kHead | kQuery | kKey; });
    add("keep, causal, lengths, window", [](Case& c) {
        c.B = 2, c.Sq = c.Sk = 200, c.keep = Keep::blocks, c.causal = true, c.left = 90, c.key_lengths = {200, 130};
    });
    add("two partial masks with nothing in common",
        [](Case& c) { c.Sq = c.Sk = 64, c.left = 0, c.right = 0, c.offset_kind = Offset::value, c.offset = 60, c.keep = Keep::sparse; });
    // Terms
    add("bias", [](Case& c) { c.B = 2, c.Sq = 100, c.Sk = 150, c.bias = Bias::normal; });
    add("bias shared by batch and head", [](Case& c) { c.B = 2, c.Sq = 100, c.Sk = 150, c.bias = Bias::normal, c.bias_dims = kQuery | kKey; });
    add("bias of one row", [](Case& c) { c.B = 2, c.Sq = 100, c.Sk = 150, c.bias = Bias::normal, c.bias_dims = kBatch | kHead | kKey; });
    add("bias of one column", [](Case& c) { c.Sq = 100, c.Sk = 150, c.bias = Bias::normal, c.bias_dims = kQuery; });
    add("bias of the smallest finite number", [](Case& c) { c.Sq = 70, c.Sk = 100, c.bias = Bias::lowest; });
    add("bias hides", [](Case& c) { c.Sq = 100, c.Sk = 150, c.bias = Bias::hiding; });
    add("bias hides whole rows", [](Case& c) { c.Sq = 100, c.Sk = 150, c.bias = Bias::all_rows, c.keep = Keep::half; });
    add("ALiBi", [](Case& c) { c.Hq = c.Hkv = 4, c.Sq = 100, c.Sk = 150, c.alibi = true; });
    add("ALiBi, causal, bottom right", [](Case& c) { c.Sq = 100, c.Sk = 150, c.alibi = true, c.causal = true, c.offset_kind = Offset::bottom_right; });
    add("everything at once", [](Case& c) {
        c.B = 2, c.Hq = 4, c.Hkv = 2, c.Sq = 140, c.Sk = 200, c.D = 48, c.Dv = 80, c.causal = true, c.left = 120, c.right = 5;
        c.key_lengths = {200, 150}, c.query_lengths = {100, 140}, c.offset_kind = Offset::bottom_right, c.documents = 2, c.keep = Keep::half;
        c.bias = Bias::hiding, c.alibi = true, c.softcap = 20, c.has_scale = true, c.scale = 0.2f;
    });
    // Layouts
    add("heads beside each other", [](Case& c) { c.B = 2, c.Sq = 90, c.Sk = 100, c.layout = Layout::bshd; });
    add("rows with gaps", [](Case& c) { c.B = 2, c.Sq = 90, c.Sk = 100, c.layout = Layout::gaps, c.causal = true; });
    add("keys shared by all batches", [](Case& c) { c.B = 3, c.Sk = 100, c.layout = Layout::shared_keys; });
    add("columns apart", [](Case& c) { c.B = 2, c.Sq = 90, c.Sk = 100, c.layout = Layout::spread_columns, c.causal = true; });
    add("keys transposed", [](Case& c) { c.B = 2, c.Sq = 90, c.Sk = 100, c.layout = Layout::transposed_keys, c.key_lengths = {100, 63}; });
    for (const auto& [D, Dv] : {std::pair{33, 37}, {1, 1}, {63, 62}, {57, 5}, {190, 161}})
        add("aligned rows of " + std::to_string(D) + " and " + std::to_string(Dv), [D = D, Dv = Dv](Case& c) {
            c.B = 2, c.Sq = 70, c.Sk = 90, c.D = D, c.Dv = Dv, c.layout = Layout::aligned_gaps, c.key_lengths = {90, 67};
        });
    // Element types
    for (const auto& [type, name] : {std::pair{Type::f16, "float16"}, {Type::bf16, "bfloat16"}, {Type::f64, "float64"}}) {
        const std::string t = name;
        const Type ty = type;
        add(t, [ty](Case& c) { c.type = ty, c.Sq = 100, c.Sk = 150; });
        add(t + ", odd head dimensions", [ty](Case& c) { c.type = ty, c.Sq = 70, c.Sk = 90, c.D = 37, c.Dv = 41, c.causal = true; });
        add(t + ", bias of its own type", [ty](Case& c) { c.type = ty, c.Sq = 70, c.Sk = 90, c.bias = Bias::hiding, c.bias_own_type = true; });
        add(t + ", bias float32, softcap, ALiBi", [ty](Case& c) { c.type = ty, c.Sq = 70, c.Sk = 90, c.bias = Bias::normal, c.softcap = 10, c.alibi = true; });
        add(t + ", one query", [ty](Case& c) { c.type = ty, c.Sq = 1, c.Sk = 1300, c.Hq = 4, c.Hkv = 2, c.key_lengths = {1201}; });
        add(t + ", rows with gaps", [ty](Case& c) { c.type = ty, c.Sq = 70, c.Sk = 90, c.layout = Layout::gaps, c.keep = Keep::half; });
        add(t + ", columns apart", [ty](Case& c) { c.type = ty, c.Sq = 70, c.Sk = 90, c.layout = Layout::spread_columns; });
    }
    return all;
}

// A random problem; the same for the same seed.
inline Case random(uint64_t seed) {
    Random r(seed * 0x2545f4914f6cdd1d + 1);
    Case c;
    c.name = "sweep " + std::to_string(seed);
    c.B = r.between(1, 3);
    c.Hkv = r.between(1, 3);
    c.Hq = c.Hkv * r.between(1, 3);
    c.Sq = r.chance(0.25) ? r.between(1, 4) : r.between(5, 170);
    c.Sk = r.chance(0.2) ? r.between(1, 16) : r.between(17, 330);
    c.D = r.chance(0.5) ? 64 : r.between(1, 140);
    c.Dv = r.chance(0.5) ? c.D : r.between(1, 140);
    c.type = r.chance(0.6) ? Type::f32 : r.chance(0.5) ? Type::f16 : Type::bf16;
    c.layout = Layout(r.chance(0.5) ? 0 : r.below(6));
    const auto lengths = [&](int64_t most) {
        std::vector<int32_t> n;
        for (int64_t b = 0; b < c.B; ++b) n.push_back(int32_t(r.between(0, most)));
        return n;
    };
    if (r.chance(0.4)) c.key_lengths = lengths(c.Sk);
    if (r.chance(0.2)) c.query_lengths = lengths(c.Sq);
    if (r.chance(0.15)) c.prefix = lengths(c.Sk);
    else c.causal = r.chance(0.35);
    if (r.chance(0.3)) c.left = r.between(-1, 100), c.right = r.between(-1, 60);
    c.offset_kind = Offset(r.below(4));
    if (c.offset_kind == Offset::value) c.offset = r.between(-40, c.Sk);
    if (c.offset_kind == Offset::per_batch)
        for (int64_t b = 0; b < c.B; ++b) c.offsets.push_back(int32_t(r.between(-40, c.Sk)));
    if (r.chance(0.15)) c.documents = int(r.between(1, 4));
    if (r.chance(0.35)) c.keep = Keep(r.between(1, 5)), c.keep_dims = uint32_t(r.below(16));
    if (r.chance(0.35)) c.bias = Bias(r.between(1, 3)), c.bias_dims = uint32_t(r.below(16)), c.bias_own_type = r.chance(0.5);
    c.alibi = r.chance(0.15);
    if (r.chance(0.2)) c.has_scale = true, c.scale = float(r.normal() * 0.2);
    if (r.chance(0.15)) c.softcap = float(r.uniform() * 40 + 0.5);
    return c;
}

inline std::vector<Case> list(int sweep = 120) {
    std::vector<Case> all = named();
    for (int seed = 1; seed <= sweep; ++seed) all.push_back(random(uint64_t(seed)));
    return all;
}

} // namespace cases
