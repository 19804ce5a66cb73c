//! The sources of the kernels that read weights: one text per layout and size.
//!
//! A product for few tokens is bound by reading the weights once, and wants its sums in registers:
//! its inner lines are written out for each row and token, so that no compiler has to be trusted
//! with arrays and loops.

use core::fmt::Write;

use crate::layout::{Codes, Layout, Scales};

/// What all kernels share: see the file.
const UNIT: &str = include_str!("shaders/unit.wgsl");

/// Rows that a thread of a narrow product sums.
pub(crate) const ROWS: usize = 4;

/// Threads of a workgroup of a narrow product.
pub(crate) const THREADS: usize = 64;

/// How a narrow product is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Narrow {
    pub(crate) layout: Layout,
    /// Tokens: the columns that share each weight that is read.
    pub(crate) tokens: usize,
    /// Threads that share a row, a power of two.
    pub(crate) lanes: usize,
    /// Whether lanes add up as a subgroup; then they are no more than its smallest size.
    pub(crate) subgroups: bool,
    /// Whether inputs are digits for integer products.
    pub(crate) digits: bool,
}

/// `unit_codes`, `unit_values` and `unit_scale` of a layout.
fn unit(layout: Layout) -> String {
    let mask = "const NIBBLES: u32 = 0x0F0F0F0Fu;\n";
    let nibbles = "let c = w2[g];\n    let codes = vec4<u32>(c.x, c.x >> 4u, c.y, c.y >> 4u) & vec4<u32>(NIBBLES);\n";
    let codes = match layout.codes {
        Codes::Four => format!("{nibbles}    return codes;"),
        Codes::Five => format!(
            "{nibbles}    let h = w1[params.high + g / 2u] >> (16u * (g & 1u));
    return codes | vec4<u32>(spread_one(h), spread_one(h >> 4u), spread_one(h >> 8u), spread_one(h >> 12u));"
        ),
        Codes::Six => format!(
            "{nibbles}    let h = w1[params.high + g];
    return codes | vec4<u32>(spread_two(h), spread_two(h >> 8u), spread_two(h >> 16u), spread_two(h >> 24u));"
        ),
        Codes::Eight => "return vec4<u32>(w2[2u * g], w2[2u * g + 1u]);".to_owned(),
        _ => "return vec4<u32>(0u);".to_owned(),
    };
    let unpack = if layout.codes == Codes::Eight { "unpack4xI8" } else { "unpack4xU8" };
    let value = |i: usize| match layout.codes {
        Codes::Half => {
            format!("vec4<f32>(halves(w2[4u * g + {i}u].x), halves(w2[4u * g + {i}u].y))")
        }
        Codes::Brain => format!("brains(w2[4u * g + {i}u])"),
        Codes::Single => {
            let (low, high) = (2 * i, 2 * i + 1);
            format!("bitcast<vec4<f32>>(vec4<u32>(w2[8u * g + {low}u], w2[8u * g + {high}u]))")
        }
        _ => format!("vec4<f32>({unpack}(codes[{i}]))"),
    };
    let values = (0..4).map(value).collect::<Vec<_>>().join(", ");
    let taken = if layout.is_coded() { "let codes = unit_codes(g);\n    " } else { "" };
    let scale = scale(layout.scales);
    format!(
        "{UNIT}{mask}
fn brains(words: vec2<u32>) -> vec4<f32> {{
    let high = words & vec2<u32>(0xFFFF0000u);
    return bitcast<vec4<f32>>(vec4<u32>(words.x << 16u, high.x, words.y << 16u, high.y));
}}
fn unit_codes(g: u32) -> vec4<u32> {{
    {codes}
}}
fn unit_values(g: u32) -> array<vec4<f32>, 4> {{
    {taken}return array<vec4<f32>, 4>({values});
}}
fn unit_scale(g: u32) -> vec2<f32> {{
    {scale}
}}
"
    )
}

/// The body of `unit_scale`.
fn scale(scales: Scales) -> String {
    match scales {
        Scales::Around { zero } => format!(
            "let d = half((w1[params.scales + g / 4u] >> (16u * ((g / 2u) & 1u))) & 0xFFFFu);
    return vec2<f32>(d, d * -{zero}.0);"
        ),
        Scales::Pair => "return halves(w1[params.scales + g / 2u]);".to_owned(),
        Scales::Nested => "let at = params.scales + 5u * (g / 16u);
    let block = (g % 16u) / 2u;
    let word = w1[at + 1u + block / 2u] >> (16u * (block & 1u));
    let both = halves(w1[at]);
    return vec2<f32>(both.x * f32(word & 0xFFu), both.y * -f32((word >> 8u) & 0xFFu));"
            .to_owned(),
        Scales::Signed => "let at = params.scales + 5u * (g / 16u);
    let i = g % 16u;
    let factor = extractBits(bitcast<i32>(w1[at + 1u + i / 4u]), 8u * (i % 4u), 8u);
    let d = half(w1[at] & 0xFFFFu) * f32(factor);
    return vec2<f32>(d, d * -32.0);"
            .to_owned(),
        Scales::Plain => "return vec2<f32>(1.0, 0.0);".to_owned(),
    }
}

/// A product for many tokens: 64 rows by `16 * tokens_by` tokens in a workgroup.
pub(crate) fn tiled(layout: Layout, tokens_by: usize) -> String {
    let body = include_str!("shaders/tiled.wgsl");
    format!("{body}\nconst TJ: u32 = {tokens_by}u;\n{}", unit(layout))
}

/// Rows of a table by their numbers.
pub(crate) fn embed(layout: Layout) -> String {
    format!("{}\n{}", include_str!("shaders/embed.wgsl"), unit(layout))
}

/// What each line of the inner loop needs of the weights: `w` and `s` for each row.
fn row_lines(kind: &Narrow, out: &mut String) {
    for r in 0..ROWS {
        let take = if kind.digits { "unit_codes" } else { "unit_values" };
        // Writing to a string does not fail.
        _ = writeln!(out, "        let w{r} = {take}(row{r} + unit);");
        if kind.layout.is_coded() {
            _ = writeln!(out, "        let s{r} = unit_scale(row{r} + unit);");
        }
    }
}

/// What one token adds to the sums of all rows.
fn token_lines(kind: &Narrow, c: usize, out: &mut String) {
    if kind.digits {
        _ = writeln!(
            out,
            "        let h{c} = digits[2u * (token{c} + unit)];
        let l{c} = digits[2u * (token{c} + unit) + 1u];
        let f{c} = factors[token{c} + unit];"
        );
        for r in 0..ROWS {
            let dot = |digit: &str| {
                let one = |i: char| format!("dot4I8Packed(w{r}.{i}, {digit}{c}.{i})");
                "xyzw".chars().map(one).collect::<Vec<_>>().join(" + ")
            };
            _ = writeln!(
                out,
                "        let d{r}_{c} = 16 * ({}) + {};
        a{r}_{c} += s{r}.x * (f{c}.x * f32(d{r}_{c})) + s{r}.y * f{c}.y;",
                dot("h"),
                dot("l")
            );
        }
        return;
    }
    for i in 0..4 {
        _ = writeln!(out, "        let x{c}_{i} = x[4u * (token{c} + unit) + {i}u];");
    }
    let coded = kind.layout.is_coded();
    if coded {
        let all = format!("x{c}_0 + x{c}_1 + x{c}_2 + x{c}_3");
        _ = writeln!(out, "        let t{c} = dot({all}, vec4<f32>(1.0));");
    }
    for r in 0..ROWS {
        let dot = |i: usize| format!("dot(w{r}[{i}], x{c}_{i})");
        let dot = (0..4).map(dot).collect::<Vec<_>>().join(" + ");
        _ = match coded {
            true => writeln!(out, "        a{r}_{c} += s{r}.x * ({dot}) + s{r}.y * t{c};"),
            false => writeln!(out, "        a{r}_{c} += {dot};"),
        };
    }
}

/// The lanes' sums become one, and are written.
fn ending(kind: &Narrow, out: &mut String) {
    let (tokens, lanes) = (kind.tokens, kind.lanes);
    if kind.subgroups {
        for (r, c) in (0..ROWS).flat_map(|r| (0..tokens).map(move |c| (r, c))) {
            let mut distance = lanes / 2;
            while distance > 0 {
                let other = format!("subgroupShuffleXor(a{r}_{c}, {distance}u)");
                _ = writeln!(out, "    a{r}_{c} += {other};");
                distance /= 2;
            }
        }
        _ = writeln!(out, "    if (lane == 0u) {{");
        for (r, c) in (0..ROWS).flat_map(|r| (0..tokens).map(move |c| (r, c))) {
            _ = writeln!(out, "        put(first_row + {r}u, first_token + {c}u, a{r}_{c});");
        }
        _ = writeln!(out, "    }}");
        return;
    }
    for (r, c) in (0..ROWS).flat_map(|r| (0..tokens).map(move |c| (r, c))) {
        let at = (r * tokens + c) * THREADS;
        _ = writeln!(out, "    partial[{at}u + own] = a{r}_{c};");
    }
    let sums = THREADS / lanes * ROWS * tokens;
    _ = writeln!(
        out,
        "    workgroupBarrier();
    for (var i = thread; i < {sums}u; i += {THREADS}u) {{
        let team = i / {each}u;
        let at = (i % {each}u) * {THREADS}u + team * {lanes}u;
        var sum = 0.0;
        for (var lane = 0u; lane < {lanes}u; lane++) {{
            sum += partial[at + lane];
        }}
        let row = (group.x * {teams}u + team) * {ROWS}u + (i % {each}u) / {tokens}u;
        put(row, first_token + i % {tokens}u, sum);
    }}",
        each = ROWS * tokens,
        teams = THREADS / lanes,
    );
}

/// Where each row and token begins, and the sums.
fn beginning(kind: &Narrow, out: &mut String) {
    for r in 0..ROWS {
        let row = format!("min(first_row + {r}u, params.rows - 1u)");
        _ = writeln!(out, "    let row{r} = {row} * params.units;");
    }
    for c in 0..kind.tokens {
        let token = format!("min(first_token + {c}u, params.tokens - 1u)");
        _ = writeln!(out, "    let token{c} = {token} * params.units;");
    }
    for (r, c) in (0..ROWS).flat_map(|r| (0..kind.tokens).map(move |c| (r, c))) {
        _ = writeln!(out, "    var a{r}_{c} = 0.0;");
    }
}

/// What the kernel binds beside the weights, and the memory of its workgroups.
fn declarations(kind: &Narrow) -> String {
    let inputs = match kind.digits {
        true => {
            "@group(0) @binding(2) var<storage, read> digits: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> factors: array<vec2<f32>>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;"
        }
        false => {
            "@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;"
        }
    };
    let memory = match kind.subgroups {
        true => String::new(),
        false => {
            let sums = THREADS * ROWS * kind.tokens;
            format!("var<workgroup> partial: array<f32, {sums}>;")
        }
    };
    format!("{inputs}\n{memory}")
}

/// A product for few tokens: [`ROWS`] rows by so many tokens for each team of lanes.
pub(crate) fn narrow(kind: &Narrow) -> String {
    let (tokens, lanes) = (kind.tokens, kind.lanes);
    let (mut before, mut inner, mut after) = (String::new(), String::new(), String::new());
    beginning(kind, &mut before);
    row_lines(kind, &mut inner);
    (0..tokens).for_each(|c| token_lines(kind, c, &mut inner));
    ending(kind, &mut after);
    // A subgroup's threads are numbered by themselves: how they lie in a workgroup is not fixed.
    let (builtins, own) = match kind.subgroups {
        true => (
            "@builtin(subgroup_invocation_id) within: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_size) size: u32,",
            "subgroup * size + within",
        ),
        false => ("@builtin(local_invocation_index) thread: u32,", "thread"),
    };
    let (declarations, teams, unit) = (declarations(kind), THREADS / lanes, unit(kind.layout));
    format!(
        "struct Params {{
    units: u32, rows: u32, tokens: u32, out_stride: u32, out_at: u32, high: u32, scales: u32,
}}
//!params Params
@group(0) @binding(0) var<storage, read> w1: array<u32>;
@group(0) @binding(1) var<storage, read> w2: array<vec2<u32>>;
{declarations}
fn put(row: u32, token: u32, value: f32) {{
    if (row < params.rows && token < params.tokens) {{
        out[token * params.out_stride + params.out_at + row] = value;
    }}
}}
@compute @workgroup_size({THREADS})
fn main(
    {builtins}
    @builtin(workgroup_id) group: vec3<u32>,
) {{
    let own = {own};
    let lane = own % {lanes}u;
    let first_row = (group.x * {teams}u + own / {lanes}u) * {ROWS}u;
    let first_token = group.y * {tokens}u;
{before}    for (var unit = lane; unit < params.units; unit += {lanes}u) {{
{inner}    }}
{after}}}
{unit}"
    )
}
